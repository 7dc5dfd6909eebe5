"""How much of their directions the updates of two runs share: φ(i, j) of Hu et al. 2021, figures 3, 4, 6, 7 and 8.

The sides of an update ΔW = U Σ Vᵀ: `row` is V and `column` is U, of a LoRA too, whose ΔW is B A. `A` is the row space
of its factor A alone, by A's own singular values, as in the paper. `A at the start` is the same before training: what
two runs share there is chance, or else a fault of theirs.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

import torch
from torch import Tensor

from lorax_lab import spectra
from lorax_lab.afterwards.trained import LORA, Run, Runs, initial_factors, original, updates
from lorax_lab.errors import ConfigError
from lorax_lab.models import layer_number, short_name
from lorax_lab.spectra import LowRank, Update

MOST = 64
"""Directions that are compared."""
EACH = ((1, 1), (8, 8), (1, 64), (8, 64), (40, 4), (40, 8), (40, 64), (64, 64))
"""(i, j) at which φ is kept."""
START = "A at the start"
BASE = "W"
"""Stands for the base's own matrix in the place of an arm."""
Side = dict[str, Tensor]
"""Directions as orthonormal columns, fp32, by the name of the side."""


def similarities(runs: Runs, pairs: Mapping[str, tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """One row for each pair of arms, matrix and side.

    Args:
        runs: of one condition; those of the arms that `pairs` names.
        pairs: two arms by the pair's name. Twice the same arm means two seeds of it, every two; two arms are compared
            at every two different seeds, either way round; `W` is the base. The pairs of runs are in the order of
            `itertools.combinations`, of `permutations`, or of the seeds.

    Yields:
        `pair, side, matrix, module, layer`; `d`, of how many numbers a direction is, so that chance is max(i, j) / d;
        `each`, φ of each pair of runs at the (i, j) of `EACH` that there are.

    Raises:
        ConfigError: two arms have no matrix in common.
    """
    arms = {arm for pair in pairs.values() for arm in pair}
    sides = {key: sides_of(run) for key, run in runs.items() if key[0] in arms}
    seeds = sorted({seed for _, seed in sides})
    if BASE in arms:
        base = {name: _both(weight.double()) for name, weight in original(next(iter(runs.values()))).items()}
        sides |= {(BASE, seed): base for seed in seeds}
    for name, (first, second) in pairs.items():
        of_runs = _seeds(first, second, seeds)
        left, right = [sides[first, seed] for seed, _ in of_runs], [sides[second, seed] for _, seed in of_runs]
        common = [matrix for matrix in left[0] if matrix in right[0]]
        if not common:
            alike = "compare arms that adapt the same matrices"
            raise ConfigError(f"{first} and {second} have no matrix in common; {alike}")
        for matrix in common:
            for side in (s for s in left[0][matrix] if s in right[0][matrix]):
                ends = [(a[matrix][side], b[matrix][side]) for a, b in zip(left, right, strict=True)]
                place = {"pair": name, "side": side, "matrix": matrix, "module": short_name(matrix)}
                yield place | {"layer": layer_number(matrix)} | _shared(ends)


def sides_of(run: Run) -> dict[str, Side]:
    """The sides of each matrix's update."""
    starts = initial_factors(run) if run.config.method.name == LORA else {}
    sides = {}
    for name, update in updates(run).items():
        sides[name] = _both(update)
        if isinstance(update, LowRank) and name in starts:
            sides[name] |= {"A": _rows(update.A), START: _rows(starts[name])}
    return sides


def _both(update: Update) -> Side:
    U, _, Vh = spectra.svd(update)
    return {"row": Vh[:MOST].T.float(), "column": U[:, :MOST].float()}


def _rows(factor: Tensor) -> Tensor:
    return torch.linalg.svd(factor.double(), full_matrices=False).Vh[:MOST].T.float()


def _seeds(first: str, second: str, seeds: Sequence[int]) -> list[tuple[int, int]]:
    if first == BASE:
        return [(seed, seed) for seed in seeds]
    return list(combinations(seeds, 2) if first == second else permutations(seeds, 2))


def _shared(ends: list[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    maps = torch.stack([spectra.subspace_similarities(a, b) for a, b in ends])
    places = [(i, j) for i, j in EACH if i <= maps.shape[1] and j <= maps.shape[2]]
    phi = {f"{i},{j}": [round(value, 4) for value in maps[:, i - 1, j - 1].tolist()] for i, j in places}
    return {"d": len(ends[0][0]), "each": phi}
