"""The figures of a study that is scored in nats per token: its intervals and its unit."""

from __future__ import annotations

import copy
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.legend import Legend
from scipy.stats import t
from synthetic import EXAMPLES, again, study
from test_pseudo_values import packed

from analysis.report import of_study, study_page
from analysis.study import comparison
from analysis.study.figures import FIGURES
from analysis.study.records import Records
from lorax_lab.store.answers import CORRECT, PSEUDO_VALUES

TASK = "reviews"


def in_nats(records: Records, kept: bool = True) -> Records:
    """The study of a language model: 2 less each score in nats, and what each test example adds if it is `kept`."""
    lines = copy.deepcopy(records.lines)
    for line in lines:
        line["metrics"] = {key.replace("accuracy", "nats"): 2 - score for key, score in line["metrics"].items()}
        line |= {"metric": "nats", "higher_is_better": False}
        line["config"]["task"]["kind"] = "language_modeling"
        if "functional" in line:
            line["functional"] = [[*place, 2 - score] for *place, score in line["functional"]]
        if line.pop(CORRECT, None) and kept:
            draw = np.random.default_rng(zlib.crc32(line["run_id"].encode()))
            values = draw.gamma(4, 0.1, EXAMPLES["test"])
            line[PSEUDO_VALUES] = packed(values - values.mean() + line["metrics"]["test/nats"])
    return again(records, lines)


def of_one_seed(records: Records) -> Records:
    return replace(records, lines=[x for x in records.lines if x["config"]["measure"] == "trial" or x["seed"] == 0])


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
    records = of_one_seed(in_nats(study(), kept=False))
    table = FIGURES["cost"].table(records)
    assert table["test_low"].isna().all()
    shown = legends(FIGURES["cost"].draw(table))
    assert {"LoRA, one seed, no interval", "full fine-tuning"} <= set(shown)
    assert "interval" not in FIGURES["cost"].latex(table)
    [view, *_] = of_study.VIEWS["cost"](table)
    assert {"LoRA, one seed, no interval", "full fine-tuning"} <= {trace["name"] for trace in view.traces}
    assert study_page._bars("cost", table)[0] == "Points: one seed, no interval."
