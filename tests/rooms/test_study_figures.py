"""The figures of studies: the title is the verdict, seeds beside means, legible with many tasks; heat maps; LaTeX.

Their tables are byte by byte those that are published (`test_published_study.py`)."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.legend import Legend
from synthetic import in_nats, of_one_seed, peaked, study

from analysis import scores
from analysis.study import verdict
from analysis.study.command import DOCS
from analysis.study.figures import FIGURES, latex
from analysis.study.figures.directions import DRAWN, GAUSSIAN, MAPS

SIMILARITIES = ("ranks_share", "seeds_share", "base_shares")
TABLES = sorted(DOCS.glob("*/*.csv"))


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


@pytest.mark.parametrize("path", TABLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_published_table_draws_its_figure(path: Path) -> None:
    figure = FIGURES[path.stem].draw(pd.read_csv(path))
    assert figure.get_suptitle()
    assert all(axes.has_data() or axes.get_label() == "<colorbar>" or not axes.axison for axes in figure.axes)
    check_headings(figure)


def check_headings(figure: Any) -> None:
    """No heading of a panel, and no name of its vertical axis, lies over another."""
    figure.draw_without_rendering()
    texts = [axes.title if axes.title.get_text() else axes._left_title for axes in figure.axes]
    texts += [axes.yaxis.label for axes in figure.axes]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize("name", SIMILARITIES)
def test_heat_maps_show_the_middle_layer_of_query_and_value_beside_chance(name: str) -> None:
    """The similarity is the same for every pair and side, in three layers of two tasks."""
    d, sizes, tasks = 384, [1, 2, 4, 8], ("reviews", "headlines")
    modules = ("attention.self.query", "attention.self.value", "output.dense")
    rows = [
        {"condition": task, "pair": pair, "side": side, "matrix": f"layer.{layer}.{module}", "module": module}
        | {"layer": layer, "d": d, "i": sizes, "j": sizes, "phi": [[500 + layer] * 4] * 4, "each": {"1,1": [0.5] * 3}}
        for task in tasks
        for pair, side in MAPS[name].shown
        for layer in range(3)
        for module in modules
    ]
    records = dataclasses.replace(study(tasks=tasks), rows={"similarities": rows})
    table = FIGURES[name].table(records)
    assert (set(table["module"]), set(table["layer"])) == (set(modules[:2]), {1})
    drawn = table[table["pair"] == GAUSSIAN]
    assert set(table.loc[table["pair"] != GAUSSIAN, "phi"]) == {0.501}
    np.testing.assert_allclose(table["chance"], table[["i", "j"]].max(axis=1) / d)
    of_noise = [(GAUSSIAN, DRAWN)] if name != "ranks_share" else []
    assert list(dict.fromkeys(zip(table["pair"], table["side"], strict=True))) == [*of_noise, *MAPS[name].shown]
    if of_noise:  # the mean of ten pairs of random subspaces; that of 16 such heat maps is within .004 of chance
        assert abs(float((drawn["phi"] - drawn["chance"]).mean())) < 0.004
        pd.testing.assert_frame_equal(table, FIGURES[name].table(records))
    figure = FIGURES[name].draw(table)
    maps = [axes for axes in figure.axes if axes.collections and axes.get_label() != "<colorbar>"]
    enlarged = sum(side != "A at the start" and pair[0] != "W" for pair, side in MAPS[name].shown)
    assert len(maps) == (1 + len(of_noise) + len(MAPS[name].shown) + enlarged) * len(tasks) * 2
    np.testing.assert_allclose(np.unique(maps[0].collections[0].get_array()), np.array(sizes) / d)


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
    check_headings(many)


def words(figure: Any) -> list[str]:
    """What a figure's titles and axes say."""
    parts = [(a.get_title("left"), a.get_title(), a.get_xlabel(), a.get_ylabel()) for a in figure.axes]
    return [figure.get_suptitle(), *(text for of_axes in parts for text in of_axes)]
