"""The figures of studies: the title is what was found, legible with many tasks.

Their tables are byte by byte those that are published (`test_published_study.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.legend import Legend
from synthetic import in_nats, of_one_seed, study, with_head

from analysis import scores
from analysis.study.command import DOCS
from analysis.study.figures import FIGURES

TABLES = [path for path in sorted(DOCS.glob("*/*.csv")) if path.stem in FIGURES]


def test_the_answer_is_a_share_where_something_stands_for_its_zero() -> None:
    answer = FIGURES["answer"]
    shares, differences = (answer.table(records) for records in (with_head(0.7), study()))
    assert (set(shares["side"]), "share" in differences) == ({"rank"}, False)
    assert set(differences["side"]) == {"rank", "k"}
    assert answer.draw(shares).get_suptitle().startswith("LoRA of rank 8 keeps 100 % of what fine-tuning brings")


@pytest.mark.parametrize("name", ["answer", "cost", "functional", "modules", "spectral", "arms"])
def test_one_seed_has_no_interval_and_it_is_said(name: str) -> None:
    """Such a study breaks its protocol, and is drawn only where that is asked for."""
    figure = FIGURES[name].draw(FIGURES[name].table(of_one_seed(study())))
    assert "one seed, no interval" in " ".join([*words(figure), *legends(figure)]).replace("\n", " ")


@pytest.mark.parametrize("path", TABLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_published_table_draws_its_figure(path: Path) -> None:
    rows = pd.read_csv(path)
    figure, claim = FIGURES[path.stem].draw(rows), FIGURES[path.stem].claim(rows)
    assert any(letter.isdigit() for letter in claim)
    assert " ".join(figure.get_suptitle().split()).startswith(claim)
    assert all(axes.has_data() or axes.get_label() == "<colorbar>" or not axes.axison for axes in figure.axes)
    check_headings(figure)


def check_headings(figure: Any) -> None:
    """No heading of a panel, and no name of its vertical axis, lies over another."""
    figure.draw_without_rendering()
    texts = [axes.title if axes.title.get_text() else axes._left_title for axes in figure.axes]
    texts += [axes.yaxis.label for axes in figure.axes]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


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
