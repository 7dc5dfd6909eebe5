"""Operations of a step: the closed form against the count, and against figures worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_memory_predict import TINY, folder, step  # noqa: F401

from lorax_lab.memory.operations import closed_form, counted, matrix_operations

CELLS = [(kind, rank, "adamw") for kind in TINY for rank in (None, 1, 8, 32)]


@pytest.mark.parametrize(("kind", "rank", "optimizer"), [*CELLS, ("llama", None, "sgd"), ("llama", 8, "sgd")])
def test_the_closed_form_is_what_is_counted(folder: Path, kind: str, rank: int | None, optimizer: str) -> None:  # noqa: F811
    sequence = None if kind == "vit" else 24
    asked = step(str(folder / kind), rank, sequence=sequence, attention="eager", optimizer=optimizer)
    closed, count = closed_form(asked), counted(asked)
    for part in ("forward", "backward", "update"):
        assert getattr(closed, part) == pytest.approx(getattr(count, part), rel=0.01), part


def share(n: int, m: int, rank: int) -> float:
    lora, full = matrix_operations(n, m, 1, rank, False, False), matrix_operations(n, m, 1, None, True, False)
    return sum(lora) / sum(full)


def test_the_known_shares() -> None:
    assert share(384, 384, 8) == pytest.approx(0.7083, abs=1e-4)
    assert share(64, 64, 16) == pytest.approx(1.1667, abs=1e-4)
    assert share(6000, 6000, 1000) == pytest.approx(1)
    assert share(10**6, 10**6, 1) == pytest.approx(2 / 3, abs=1e-5)
    assert share(512, 64, 8) == pytest.approx(2 / 3 + 8 * 576 / (512 * 64))


def test_the_textbook_matrix_trains_86_percent_fewer_parameters() -> None:
    rank, n, m = 8, 512, 64
    assert rank * (n + m) == 4608
    assert 1 - rank * (n + m) / (n * m) == pytest.approx(0.859, abs=1e-3)
