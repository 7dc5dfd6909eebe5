"""`python -m analysis similarity STUDY ONE OTHER`: how much of their directions two published runs share, from those
that the study published."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.spectra import random_similarity, subspace_similarity

from .records import RECORDS, Records, named

Row = dict[str, Any]


def similarity(rows: Iterable[Row], one: str, other: str, i: int, j: int) -> tuple[float, float]:
    """φ(i, j) of two runs, each named `arm:seed`, and what chance gives, max(i, j) / d.

    Args:
        rows: the published directions of one matrix and side.

    Raises:
        ConfigError: directions that were not published, or not so many; two runs of one seed, which share the head and
            the order of the examples, or of two bases.
    """
    by_run = {f"{row['arm']}:{row['seed']}": row for row in rows}
    (a, seed_a), (b, seed_b) = (_directions(by_run, *run) for run in ((one, i, "-i"), (other, j, "-j")))
    if seed_a == seed_b:
        raise ConfigError(f"{one} and {other} have the seed {seed_a} in common; name runs of different seeds")
    if len(a) != len(b):
        raise ConfigError(f"{one} has directions of {len(a)} numbers and {other} of {len(b)}; compare runs of one base")
    return subspace_similarity(torch.from_numpy(a), torch.from_numpy(b)), random_similarity(i, j, len(a))


def _directions(by_run: dict[str, Row], name: str, count: int, option: str) -> tuple[np.ndarray, int]:
    """The first directions of a run as orthonormal columns (d, count), the largest first, and its seed."""
    if name not in by_run:
        raise ConfigError(f"the directions of the run {name} were not published; {suggest(name, list(by_run))}")
    row = by_run[name]
    if not 1 <= count <= row["k"]:
        raise ConfigError(f"{option} {count}: {row['k']} directions of {name} were published; type {option} {row['k']}")
    vectors = row["vectors"].reshape(row["k"], row["d"]).astype(float)
    orthonormal, triangle = np.linalg.qr(vectors.T)  # they are published in half precision
    return (orthonormal * np.sign(np.diag(triangle)))[:, :count], row["seed"]


def rows_of(records: Records, task: str, matrix: str, side: str) -> list[Row]:
    """The published directions of a task, a side and the one matrix whose name has `matrix` in it.

    Raises:
        ConfigError: there are none; it names those there are.
    """
    rows = records.rows.get("directions", [])
    if not rows:
        raise ConfigError(f"{records.name} has published no directions; type: python -m analysis similarity --help")
    for key, value, option in (("condition", task, "--task"), ("side", side, "--side")):
        if value not in (there := sorted({row[key] for row in rows})):
            raise ConfigError(f"{option} {value}: no directions were published; {suggest(value, there)}")
        rows = [row for row in rows if row[key] == value]
    names = sorted({row["matrix"] for row in rows})
    if len(chosen := [name for name in names if matrix in name]) != 1:
        raise ConfigError(
            f"--matrix {matrix} is in the names of {len(chosen)} matrices, not of one of: {', '.join(names)}"
        )
    return [row for row in rows if row["matrix"] == chosen[0]]


def main(arguments: list[str]) -> int:
    """Print φ and chance. Returns the exit code: 0 done, 2 a wrong input."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis similarity",
        description="φ(i, j) of two published runs (Hu et al. 2021, section 7.2), from its published directions.",
    )
    parser.add_argument("study", help="such as paper_subspaces")
    parser.add_argument("one", help="a run as arm:seed, as in 'LoRA r=8:0'")
    parser.add_argument("other", help="another, as in 'LoRA r=64:1'")
    parser.add_argument("-i", type=int, default=8, help="how many directions of the first (8)")
    parser.add_argument("-j", type=int, default=64, help="how many of the other (64)")
    parser.add_argument("--task", default="sarcasm", help="the condition (sarcasm)")
    parser.add_argument("--matrix", default="layer.2.attention.self.query", help="its name, or a part of it")
    parser.add_argument("--side", default="A", help="A, row or column (A)")
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records (experiments/records)")
    options = parser.parse_args(arguments)
    return answer(lambda: _print(options))


def _print(options: argparse.Namespace) -> int:
    rows = rows_of(named(options.records, options.study), options.task, options.matrix, options.side)
    phi, chance = similarity(rows, options.one, options.other, options.i, options.j)
    print(f"φ({options.i}, {options.j}) = {phi:.3f}; chance {chance:.3f}")
    return 0
