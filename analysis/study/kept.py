"""`python -m analysis similarity STUDY ONE OTHER`: how much of their directions two published runs share.

It needs no store: a study's `directions.parquet` has the directions of some runs and matrices.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.spectra import random_similarity, subspace_similarity

from .records import RECORDS, Records, named

NAME = "similarity"
ROWS = "directions"
"""Of the rows that `lorax_lab.afterwards.directions` makes."""
FACTOR = "A"
ROUNDING = 1e-3
"""Of the products of directions, which are kept in half precision."""


@dataclass(frozen=True)
class Place:
    """Where directions were kept: of which task, matrix and side.

    Attributes:
        matrix: its whole name, or a part that only one of the kept ones has.
        side: `row`, `column`, or of LoRA `A`.
    """

    task: str
    matrix: str
    side: str


def similarity(records: Records, place: Place, one: str, other: str, i: int, j: int) -> tuple[float, float]:
    """φ(i, j) of two runs, each named `arm:seed`, and what chance gives, max(i, j) / d.

    Raises:
        ConfigError: directions that were not kept, or not so far; one run twice, or two of one seed.
    """
    if one == other:
        raise ConfigError(f"{one} twice: a run shares all with itself; name two runs")
    a, b = (kept(records, place, name, size, of) for name, size, of in ((one, i, "-i"), (other, j, "-j")))
    if (seed := one.rpartition(":")[2]) == other.rpartition(":")[2]:
        raise ConfigError(
            f"{one} and {other} have the seed {seed} in common, and with it the head and the order of the examples: "
            "what they share is not of the arms alone; compare runs of different seeds"
        )
    if len(a) != len(b):
        raise ConfigError(f"{one} has directions of {len(a)} numbers and {other} of {len(b)}; compare runs of one base")
    found = subspace_similarity(torch.from_numpy(a), torch.from_numpy(b))
    return found, random_similarity(i, j, len(a))


def kept(records: Records, place: Place, name: str, count: int | None = None, option: str = "-i") -> np.ndarray:
    """The first directions of a run as orthonormal columns (d, count), largest first; all that were kept if `count` is
    None.

    Args:
        option: what sets `count`.

    Raises:
        ConfigError: names what was kept, or what is damaged.
    """
    rows = records.rows.get(ROWS, [])
    if not rows and records.name == "paper_subspaces":
        raise ConfigError(f"{records.name} has kept no directions; type: python -m experiments.paper_subspaces")
    if not rows:
        raise ConfigError(
            f"{records.name} has kept no directions; type: python -m analysis similarity paper_subspaces --help"
        )
    rows = _only(rows, "condition", place.task, "--task")
    matrices = sorted({row["matrix"] for row in rows if place.matrix in row["matrix"]})
    if len(matrices) != 1:
        known = ", ".join(sorted({row["matrix"] for row in rows}))
        raise ConfigError(f"--matrix {place.matrix} is {len(matrices)} of the kept matrices, not one of: {known}")
    rows = _only([row for row in rows if row["matrix"] == matrices[0]], "run", name, "the run", _run)
    (row,) = _only(rows, "side", place.side, "--side")
    most = row["k"]
    if count is not None and not 1 <= count <= most:
        rank = {arm.name: arm.rank for arm in records.protocol.arms}.get(row["arm"])
        why = f"{name} has rank {rank}" if rank == most else f"{most} directions of {name} were saved, and no more"
        raise ConfigError(f"{option} {count}: {why}; allowed is 1 to {most}; type {option} {most}")
    vectors = row["vectors"].reshape(row["k"], row["d"]).astype(float)
    if not np.allclose(vectors @ vectors.T, np.eye(row["k"]), atol=ROUNDING):
        raise ConfigError(f"the directions of {name} in {matrices[0]} are damaged: they are not orthonormal")
    orthonormal, triangle = np.linalg.qr(vectors.T)
    return (orthonormal * np.sign(np.diag(triangle)))[:, :count]


def _run(row: dict[str, Any]) -> str:
    return f"{row['arm']}:{row['seed']}"


def _only(rows: list[dict[str, Any]], key: str, value: str, option: str, read: Any = None) -> list[dict[str, Any]]:
    """The rows whose key has the value."""
    values = {id(row): read(row) if read else row[key] for row in rows}
    chosen = [row for row in rows if values[id(row)] == value]
    if not chosen:
        known = list(dict.fromkeys(values.values()))
        raise ConfigError(f"{option} {value}: its directions were not kept; {suggest(value, known)}")
    return chosen


def main(arguments: list[str]) -> int:
    """Print φ and chance. Returns the exit code: 0 done, 2 a wrong input."""
    parser = argparse.ArgumentParser(
        prog=f"python -m analysis {NAME}",
        description="φ(i, j) of two published runs (Hu et al. 2021, section 7.2), from directions that a study kept.",
    )
    parser.add_argument("study", help="such as paper_subspaces")
    parser.add_argument("one", help="a run as arm:seed, as in 'LoRA r=8:0'")
    parser.add_argument("other", help="another, as in 'LoRA r=64:1'")
    parser.add_argument("-i", type=int, default=8, help="how many directions of the first (8)")
    parser.add_argument("-j", type=int, default=64, help="how many of the other (64)")
    parser.add_argument("--task", default="sarcasm", help="the condition (sarcasm)")
    parser.add_argument("--matrix", default="layer.2.attention.self.query", help="its name, or a part of it")
    parser.add_argument("--side", default=FACTOR, help="A, row or column (A)")
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records (experiments/records)")
    options = parser.parse_args(arguments)
    return answer(lambda: _print(options))


def _print(options: argparse.Namespace) -> int:
    records = named(options.records, options.study)
    place = Place(options.task, options.matrix, options.side)
    found, chance = similarity(records, place, options.one, options.other, options.i, options.j)
    print(f"φ({options.i}, {options.j}) = {found:.3f}; chance {chance:.3f}")
    return 0
