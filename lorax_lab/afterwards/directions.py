"""The directions of updates in little space, in half precision. Read again, they are made orthonormal."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from lorax_lab.afterwards.similarities import START, sides_of
from lorax_lab.afterwards.trained import Runs
from lorax_lab.models import layer_number, short_name


def directions(runs: Runs, seeds: Collection[int], matrices: Collection[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """One row for each run, matrix and side.

    Args:
        seeds: of which the runs are kept.
        matrices: which are kept: module and layer, as `("attention.self.query", 2)`.

    Yields:
        `arm, seed, matrix, side`; `k`, how many directions; `d`, of how many numbers each; `vectors`, one after the
        other. Those before training follow from the seed, and are not kept.
    """
    for (arm, seed), run in runs.items():
        if seed not in seeds:
            continue
        for matrix, sides in sides_of(run).items():
            if (short_name(matrix), layer_number(matrix)) in matrices:
                for side, vectors in ((side, of_side) for side, of_side in sides.items() if side != START):
                    place = {"arm": arm, "seed": seed, "matrix": matrix, "side": side}
                    yield place | packed(vectors.numpy())


def packed(vectors: np.ndarray) -> dict[str, Any]:
    """Orthonormal columns (d, k), flat.

    >>> packed(np.eye(3)[:, :2])["k"]
    2
    """
    return {"k": vectors.shape[1], "d": vectors.shape[0], "vectors": vectors.T.astype(np.float16).ravel()}
