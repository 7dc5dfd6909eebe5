"""`python -m analysis similarity` compares published directions; rows of runs that were not published are named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.study.records import RECORDS, load
from analysis.study.similarity import similarity
from lorax_lab.errors import ConfigError
from lorax_lab.study.published import Afterwards, read_rows, write_rows


def rows() -> list[dict[str, Any]]:
    """Directions of four runs; the second one's top two are the first's, and the last one's base is wider."""
    draw = np.random.default_rng(2)
    one, other, full, wide = (
        np.linalg.qr(draw.standard_normal((d, k))).Q for d, k in ((32, 2), (32, 8), (32, 6), (48, 6))
    )
    other = np.linalg.qr(np.hstack([one, other[:, :6]])).Q
    runs = {("LoRA r=2", 0): one, ("LoRA r=8", 1): other, ("full", 1): full, ("wide", 2): wide}
    return [
        {"arm": arm, "seed": seed, "k": q.shape[1], "d": len(q), "vectors": q.T.astype(np.float16).ravel()}
        for (arm, seed), q in runs.items()
    ]


def test_published_directions_are_compared() -> None:
    assert similarity(rows(), "LoRA r=2:0", "LoRA r=8:1", 2, 2) == (pytest.approx(1.0, abs=1e-3), 2 / 32)
    a, b = (row["vectors"].reshape(row["k"], 32).astype(float) for row in (rows()[0], rows()[2]))
    assert similarity(rows(), "LoRA r=2:0", "full:1", 1, 6)[0] == pytest.approx(np.square(a[:1] @ b.T).sum(), abs=1e-3)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (("LoRA r=2:7", "full:1", 1, 1), "LoRA r=2:7"),
        (("LoRA r=2:0", "full:1", 3, 1), "-i 3"),
        (("LoRA r=2:0", "LoRA r=8:1", 1, 0), "-j 0"),
        (("LoRA r=8:1", "full:1", 1, 1), "seed 1"),
        (("LoRA r=2:0", "wide:2", 1, 1), "48"),
    ],
)
def test_what_cannot_be_compared_is_named(asked: tuple[str, str, int, int], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        similarity(rows(), *asked)


def test_rows_of_other_runs_or_conditions_are_named_and_not_read(tmp_path: Path) -> None:
    folder = shutil.copytree(RECORDS / "paper_amplification", tmp_path / "paper_amplification")
    measured = read_rows(folder, "factors")
    sarcasm = measured["sarcasm"]
    irony = Afterwards(sarcasm.runs, [row | {"condition": "irony"} for row in sarcasm.rows])
    write_rows(
        folder, "factors", {"sarcasm": Afterwards([*sarcasm.runs[1:], "another-run"], sarcasm.rows), "irony": irony}
    )
    records = load(folder)
    assert records.rows["factors"] == []
    assert all(any(name in damage for damage in records.damages) for name in ("sarcasm", "irony"))
