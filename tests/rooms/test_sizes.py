"""Scores, r* and k* over the number of training examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import again, peaked, study

from analysis.study.figures import FIGURES, sizes
from analysis.study.records import Records
from analysis.study.verdict import of_tasks

COUNTS = {"many": 3000, "few": 100}


def truth(cell: Any) -> float:
    """With few examples rank 1 scores as the others do."""
    return peaked(cell) + 0.03 * (cell.arm == "LoRA r=1" and cell.condition == "few")


def grown(counts: dict[str, int] = COUNTS) -> Records:
    """A study of two conditions, with their numbers of training examples and a step for every ten of them."""
    made = study(truth, tasks=tuple(COUNTS))
    lines = []
    for line in made.lines:
        cell = made.cell(line)
        assert cell is not None
        count = counts[cell.condition]
        inputs = line["inputs"] | {"examples": line["inputs"]["examples"] | {"train": count}}
        lines.append(line | {"inputs": inputs, "time": line["time"] | {"steps": count // 10}})
    return again(made, lines)


def table_of(records: Records) -> pd.DataFrame:
    table = FIGURES["sizes"].table(records)
    assert table is not None
    return table


def test_the_table_has_the_scores_and_stars_of_each_size() -> None:
    records = grown()
    rows = table_of(records)
    assert list(dict.fromkeys(rows["examples"])) == [100, 3000]
    assert dict(zip(rows["examples"], rows["steps"], strict=True)) == {100: 10, 3000: 300}
    assert set(rows["what"]) == {"full", "LoRA r=1", "LoRA r=8", "r*", "k*"}
    assert set(rows["margin"]) == {0.02}
    by = rows.set_index(["task", "what"])["value"]
    for ruling in of_tasks(records):
        assert ruling.r_star is not None
        assert by[ruling.task, "r*"] == ruling.r_star.size
        assert by[ruling.task, "k*"] == ruling.k_star.size
    assert (by["few", "r*"], by["many", "r*"]) == (1, 8)
    assert by["few", "LoRA r=1"] == pytest.approx(0.801, abs=0.001)
    assert by["many", "LoRA r=1"] == pytest.approx(0.771, abs=0.001)
    assert (rows["low"] <= rows["value"]).all()
    assert (rows["value"] <= rows["high"]).all()
    tried = rows.set_index(["task", "what"])["tried"]
    assert (tried["few", "r*"], tried["few", "k*"]) == (8, 64)


# ---- the figure


def test_the_figure_shows_what_the_table_has() -> None:
    table = table_of(grown())
    figure = FIGURES["sizes"].draw(table)
    left, right = figure.axes
    stars = {c.get_label(): c for c in right.containers}
    assert set(stars) == set(sizes.STARS.values())
    assert stars[sizes.STARS["r*"]].lines[0].get_xydata().tolist() == [[100, 1], [3000, 8]]
    scores = {c.get_label(): c for c in left.containers}
    assert set(scores) == {"full", "LoRA r=1", "LoRA r=8"}
    for arm, shown in scores.items():
        of = table[table["what"] == arm]
        assert shown.lines[0].get_ydata().tolist() == of["value"].tolist()
        assert bars_of(shown) == pytest.approx(of[["low", "high"]].to_numpy())
    assert len({shown.lines[0].get_color() for shown in scores.values()}) == 3
    [level] = [line for line in left.lines if line.get_label() == "a guess among the classes"]
    assert level.get_xydata().tolist() == [[100, 0.5], [3000, 0.5]]
    title = " ".join(figure.get_suptitle().split())
    assert title.startswith("m: scores, and")
    assert "surely within 0.02" in title
    assert title.endswith("those of scores are over 5 seeds alone")
    assert "Training took 10, 300 steps" in title


def bars_of(container: Any) -> np.ndarray:
    """The ends of a container's error bars, (n, 2)."""
    (bars,) = container.lines[2]
    return np.array([[segment[0][1], segment[1][1]] for segment in bars.get_segments() if len(segment)])
