"""What an update does with the directions of its base (Hu et al. 2021, section 7.3 and Table 7)."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lorax_lab.afterwards.trained import Runs, original, updates
from lorax_lab.errors import ConfigError
from lorax_lab.models import layer_number, short_name
from lorax_lab.spectra import Amplification, amplification, singular_values, svd
from lorax_lab.streams import generator


def amplifications(runs: Runs, ranks: Mapping[str, Sequence[int]]) -> Iterator[dict[str, Any]]:
    """One row for each run, matrix and r.

    Args:
        ranks: numbers of directions r by arm. An update of a higher rank is cut to its top r, whose norm is then the
            one that counts, as in the paper, where each r is a training of its own.

    Yields:
        `arm, seed, matrix, module, layer, r`; those of `Amplification`; `gaussian_factor`, the factor in the top r
        directions of a Gaussian matrix, at the same norm; it is drawn from the run's seed.

    Raises:
        ConfigError: an update has fewer than r directions.
    """
    for (arm, seed), run in runs.items():
        if arm not in ranks:
            continue
        base = original(run)
        base_sigma = {matrix: singular_values(weight) for matrix, weight in base.items()}
        for matrix, update in updates(run).items():
            stream = generator(seed, f"amplification/{matrix}")
            noise = torch.randn(tuple(update.shape), generator=stream, dtype=torch.float64)
            update_svd, noise_svd = svd(update), svd(noise)
            place = {"arm": arm, "seed": seed, "matrix": matrix, "module": short_name(matrix)}
            for r in ranks[arm]:
                if r > (most := len(update_svd[1])):
                    raise ConfigError(f"{arm}: r={r} is above the {most} directions of its update of {matrix}")
                norm = float(update_svd[1][:r].norm())
                in_update = _in_top(update_svd, base[matrix], base_sigma[matrix], r, norm)
                in_noise = _in_top(noise_svd, base[matrix], base_sigma[matrix], r, norm)
                row = place | {"layer": layer_number(matrix), "r": r} | dataclasses.asdict(in_update)
                yield row | {"gaussian_factor": in_noise.factor}


def _in_top(
    parts: tuple[Tensor, Tensor, Tensor], base: Tensor, base_sigma: Tensor, r: int, norm: float
) -> Amplification:
    U, _, Vh = parts
    projected = U[:, :r].T @ base.double() @ Vh[:r].T
    shape = (int(base.shape[0]), int(base.shape[1]))
    return amplification(norm, projected, float(base_sigma.norm()), base_sigma, shape)
