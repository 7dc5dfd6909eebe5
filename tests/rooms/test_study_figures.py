"""The figures of studies: the title is the verdict, seeds beside means, legible with many tasks; names; LaTeX."""

from __future__ import annotations

import dataclasses
import re
from itertools import pairwise
from typing import Any

import pandas as pd
import pytest
from made_studies import in_nats, of_one_seed
from matplotlib.legend import Legend
from synthetic import peaked, study

from analysis import scores
from analysis.study import verdict
from analysis.study.figures import FIGURES, STANDARD, latex


def flat(cell: Any) -> float:
    """The same score for every arm: no rank is told from another."""
    return 0.8 if cell.stage == "final" else peaked(cell)


@pytest.mark.parametrize("records", [study, lambda: study(flat)])
def test_the_answers_title_is_the_verdict(records: Any) -> None:
    of_study = records()
    rulings = {r.task: r.verdict for r in verdict.rulings(of_study) if r.module == "all"}
    figure = FIGURES["answer"].draw(FIGURES["answer"].table(of_study))
    assert " ".join(figure.get_suptitle().split()).startswith(verdict.headline(rulings))
    lefts = [axes.get_title("left").split("\n")[0] for axes in figure.axes[::2]]
    assert lefts == [f"{task}: {ruling}" for task, ruling in rulings.items()]


def test_an_unfair_comparison_has_no_verdict_in_its_title() -> None:
    records = study()
    unfair = dataclasses.replace(records, lines=records.lines[:-1])
    title = FIGURES["answer"].draw(FIGURES["answer"].table(unfair)).get_suptitle()
    assert title.startswith("Low rank: no verdict")


@pytest.mark.parametrize("name", ["answer", "cost", "functional", "modules", "spectral", "arms"])
def test_one_seed_has_no_interval_and_it_is_said(name: str) -> None:
    """Such a study breaks its protocol, and is drawn only where that is asked for."""
    figure = FIGURES[name].draw(FIGURES[name].table(of_one_seed(study())))
    assert "one seed, no interval" in " ".join([*words(figure), *legends(figure)]).replace("\n", " ")


def copies(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The table's first task, or kind of pair, as many."""
    column = "pair" if "pair" in table else "task"
    one = table[table[column] == table[column].iloc[0]]
    return pd.concat([one.assign(**{column: f"a task of name {i}"}) for i in range(count)], ignore_index=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STANDARD if name != "shared"])
def test_a_dozen_tasks_have_headings_that_do_not_meet(name: str) -> None:
    figure = FIGURES[name].draw(copies(FIGURES[name].table(study()), 12))
    figure.draw_without_rendering()
    assert figure.get_figwidth() == 7
    headings = [axes.title if axes.title.get_text() else axes._left_title for axes in figure.axes]
    boxes = [text.get_window_extent() for text in headings if text.get_text()]
    assert len(boxes) >= 12
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    for axes in figure.axes:
        labels = [
            label.get_window_extent()
            for label in axes.get_xticklabels()
            if label.get_text() and label.get_rotation() == 0
        ]
        assert all(a.x1 <= b.x0 for a, b in pairwise(sorted(labels, key=lambda box: box.x0)))


@pytest.mark.parametrize("name", [name for name in FIGURES if FIGURES[name].printed])
def test_a_table_for_a_paper_is_whole(name: str) -> None:
    """Each row has a cell for each column, and names of others are escaped."""
    table = FIGURES[name].table(study()).assign(task="95 % of a_task")
    text = latex(name, table)
    assert text
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {row.count(" & ") for row in rows} == {len(FIGURES[name].printed) - 1}
    assert r"95 \% of a\_task" in text
    assert text.count("{") == text.count("}")
    assert not re.search(r"\bnan\b|None|<NA>", text)
    if "matches" in table:
        bold = set(re.findall(r"\\bfseries ([^&]+) &", text))
        assert bold == set(table.loc[table["matches"].fillna(value=False), "arm"])


# ---- scores in nats per token


def legends(figure: Any) -> list[str]:
    return [text.get_text() for legend in figure.findobj(Legend) for text in legend.get_texts()]


OF_SCORES = ("answer", "cost", "functional", "modules", "trials", "arms")


@pytest.mark.parametrize("name", OF_SCORES)
def test_a_figure_names_the_unit_of_its_scores_where_it_meets_no_other_text(name: str) -> None:
    figure, unit = FIGURES[name], "nats per token (lower is better)"
    shares, nats = (figure.table(records).assign(model="m") for records in (study(), in_nats(study())))
    assert scores.UNIT not in shares
    pictures = [figure.draw(rows) for rows in (shares, nats)]
    assert [unit in " ".join(" ".join(words(picture)).split()) for picture in pictures] == [False, True]
    many = figure.draw(pd.concat([nats.assign(task=f"arithmetic {i}") for i in range(6)], ignore_index=True))
    many.draw_without_rendering()
    texts = [axes.title if axes.title.get_text() else axes._left_title for axes in many.axes]
    texts += [axes.yaxis.label for axes in many.axes]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def words(figure: Any) -> list[str]:
    """What a figure's titles and axes say."""
    parts = [(a.get_title("left"), a.get_title(), a.get_xlabel(), a.get_ylabel()) for a in figure.axes]
    return [figure.get_suptitle(), *(text for of_axes in parts for text in of_axes)]
