"""The figures of a study that is scored in nats per token: its intervals and its unit."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from made_studies import in_nats, of_one_seed
from matplotlib.legend import Legend
from scipy.stats import t
from synthetic import study

from analysis import scores
from analysis.study import comparison
from analysis.study.figures import FIGURES
from analysis.study.latex import units
from lorax_lab.tasks import KINDS

TASK = "reviews"


def legends(figure: Any) -> list[str]:
    return [text.get_text() for legend in figure.findobj(Legend) for text in legend.get_texts()]


def test_one_seed_in_nats_has_students_interval_over_its_pseudo_values() -> None:
    records = of_one_seed(in_nats(study()))
    table = FIGURES["cost"].table(records)
    for row in table.to_dict("records"):
        values = comparison.added(comparison.seeds_of(records, TASK, row["arm"])[0])
        assert values is not None
        half = t.isf(0.025, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
        assert (row["test_low"], row["test_high"]) == pytest.approx((row["test"] - half, row["test"] + half))
    shown = legends(FIGURES["cost"].draw(table))
    assert "LoRA, one seed, 95 % interval over its test examples" in shown
    assert "full fine-tuning, in grey its interval" in shown
    assert "one seed with the 95" in FIGURES["cost"].latex(table)


def test_no_interval_is_said_where_none_is_known() -> None:
    records = of_one_seed(in_nats(study(), are_kept=False))
    table = FIGURES["cost"].table(records)
    assert table["test_low"].isna().all()
    shown = legends(FIGURES["cost"].draw(table))
    assert {"LoRA, one seed, no interval", "full fine-tuning"} <= set(shown)
    assert "interval" not in FIGURES["cost"].latex(table)


def words(figure: Any) -> str:
    """What a figure's titles and axes say."""
    parts = [figure.get_suptitle(), *(a.get_title("left") + " " + a.get_title() for a in figure.axes)]
    return " ".join(" ".join([*parts, *(a.get_xlabel() + " " + a.get_ylabel() for a in figure.axes)]).split())


OF_SCORES = ("answer", "cost", "functional", "modules", "trials", "arms")


@pytest.mark.parametrize("name", OF_SCORES)
def test_a_figure_names_the_unit_of_its_scores(name: str) -> None:
    figure = FIGURES[name]
    shares, nats = (figure.table(records) for records in (study(), in_nats(study())))
    assert "nats per token (lower is better)" in words(figure.draw(nats))
    assert scores.UNIT not in shares
    assert "nats" not in words(figure.draw(shares))
    if hasattr(figure, "latex"):
        head = figure.latex(nats).partition(r"\midrule")[0]
        assert r"\multicolumn{2}{l}{nats per token}" in head
        assert r"\times 100" not in head


@pytest.mark.parametrize("name", OF_SCORES)
def test_a_unit_meets_no_other_text(name: str) -> None:
    table = FIGURES[name].table(in_nats(study())).assign(model="a model")
    figure = FIGURES[name].draw(pd.concat([table.assign(task=f"arithmetic {i}") for i in range(6)], ignore_index=True))
    figure.draw_without_rendering()
    texts = [axes.title if axes.title.get_text() else axes._left_title for axes in figure.axes]
    texts += [axes.yaxis.label for axes in figure.axes]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_rows_of_two_units_have_no_one_unit() -> None:
    rows = scores.with_units(pd.DataFrame({"direction": ["lower is better"] * 2}), pd.Series(["nats", "accuracy"]))
    assert scores.unit(rows) == ""
    assert scores.unit(rows[:1]) == "nats per token"
    assert units(rows)[2] == ""


def test_the_metrics_that_have_units_are_metrics_of_tasks() -> None:
    assert set(scores.UNITS) <= {name for kind in KINDS.values() for name in kind.metrics}
