"""Scores, r* and k* over the number of training examples."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pandas as pd
import pytest
from synthetic import again, peaked, study

from analysis import estimates, style
from analysis.study.figures import sizes
from analysis.study.records import Records
from analysis.study.verdict import of_tasks

COUNTS = {"many": 3000, "few": 100}


def truth(cell: Any) -> float:
    """With few examples rank 1 scores as the others do."""
    return peaked(cell) + 0.03 * (cell.arm == "LoRA r=1" and cell.condition == "few")


def grown(counts: dict[str, int] = COUNTS) -> Records:
    """A study of two conditions, with their numbers of training examples."""
    made = study(truth, tasks=tuple(COUNTS))
    lines = []
    for line in made.lines:
        cell = made.cell(line)
        assert cell is not None
        examples = line["inputs"]["examples"] | {"train": counts[cell.condition]}
        lines.append(line | {"inputs": line["inputs"] | {"examples": examples}})
    return again(made, lines)


def test_the_table_has_the_scores_and_stars_of_each_size() -> None:
    records = grown()
    rows = sizes.table(records)
    assert rows is not None
    assert list(dict.fromkeys(rows["examples"])) == [100, 3000]
    assert set(rows["what"]) == {"full", "LoRA r=1", "LoRA r=8", "r*", "k*"}
    by = rows.set_index(["task", "what"])["value"]
    for ruling in of_tasks(records):
        assert ruling.r_star is not None
        assert by[ruling.task, "r*"] == ruling.r_star.size
        assert by[ruling.task, "k*"] == ruling.k_star.size
    assert (by["few", "r*"], by["many", "r*"]) == (1, 8)
    assert by["few", "LoRA r=1"] == pytest.approx(0.801, abs=0.001)
    assert by["many", "LoRA r=1"] == pytest.approx(0.771, abs=0.001)


@pytest.mark.parametrize("counts", [{"many": 100, "few": 100}])
def test_conditions_of_one_size_have_no_such_figure(counts: dict[str, int]) -> None:
    assert sizes.table(grown(counts)) is None
    assert sizes.table(study()) is None


def test_the_figure_shows_what_the_table_has() -> None:
    table = sizes.table(grown())
    assert table is not None
    left, right = sizes.draw(table).axes
    assert {label: list(xs) for label, xs, _ in _lines(right)} == {name: [100, 3000] for name in sizes.STARS.values()}
    assert {label: list(ys) for label, _, ys in _lines(right)}[sizes.STARS["r*"]] == [1, 8]
    assert {label for label, *_ in _lines(left)} == {"full", "LoRA r=1", "LoRA r=8"}


def test_the_table_in_latex_has_a_row_for_each_size_and_the_papers_numbers_where_it_asks_the_same() -> None:
    records = grown(COUNTS | {"many": 1000})
    table = sizes.table(records)
    assert table is not None
    assert sizes.THEIRS not in table
    text = sizes.latex(table)
    few, many = (line for line in text.splitlines() if line.startswith(("100 &", r"1\,000 &")))
    assert few.endswith(r"$1$ & [$1$, $1$] & $4$ & [$2$, $4$] \\") or "& $4$ &" in few
    assert "$8$ &" in many
    as_theirs = sizes.table(dataclasses.replace(records, name=sizes.OF_THE_PAPER))
    assert as_theirs is not None
    theirs = as_theirs.set_index(["examples", "what"])[sizes.THEIRS].dropna()
    assert theirs.to_dict() == {
        (100, "full"): 60.2,
        (1000, "full"): 85.8,
        (100, "LoRA r=8"): 63.8,
        (1000, "LoRA r=8"): 85.6,
    }
    assert r"$60.2$ & $63.8$ \\" in sizes.latex(as_theirs)
    open_end = as_theirs.assign(value=as_theirs["value"].where(as_theirs["what"] != "r*"))
    assert r"$\geq 8$" in sizes.latex(open_end)


def _lines(axes: Any) -> list[tuple[str, Any, Any]]:
    return [(c.get_label(), *c.lines[0].get_data()) for c in axes.containers]


def test_an_estimate_that_is_not_found_is_an_arrow_at_the_least_it_may_be_and_0_has_a_place() -> None:
    axes = style.canvas(4, 3).subplots()
    estimates.points(axes, [1, 2, 4], [0, 8, math.nan], [0, 4, 16], [1, 8, math.nan], color="black")
    estimates.axis(axes, 16)
    (known,) = axes.containers
    assert known.lines[0].get_ydata().tolist() == [estimates.LEAST, 8]
    arrow = axes.lines[-1]
    assert (arrow.get_xdata().tolist(), arrow.get_ydata().tolist()) == ([4], [16])
    low, high = axes.get_ylim()
    assert low < estimates.LEAST
    assert high > 16
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["0", "1", "2", "4", "8", "16"]


def test_the_counts_of_a_condition_whose_runs_differ_are_not_guessed() -> None:
    records = grown()
    one = next(i for i, line in enumerate(records.lines) if line["config"]["measure"] != "trial")
    examples = records.lines[one]["inputs"]["examples"] | {"train": 7}
    changed = [*records.lines]
    changed[one] = changed[one] | {"inputs": changed[one]["inputs"] | {"examples": examples}}
    assert sizes.table(again(records, changed)) is None


def test_each_row_of_the_table_has_an_interval_or_none_is_known() -> None:
    table = sizes.table(grown())
    assert isinstance(table, pd.DataFrame)
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
