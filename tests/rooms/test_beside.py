"""Seconds of runs that ran side by side are said to be so, wherever they are shown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic import study

from analysis.study import beside
from analysis.study.command import latex
from analysis.study.figures import FIGURES
from analysis.study.records import RECORDS, Records, load

SAID = "seconds are of runs side by side, and maybe beside other work: they tell orders of magnitude, not differences"


def one_after_another(records: Records, apart: int = 10) -> Records:
    """The study whose runs, of ten seconds each, end so many seconds after one another."""
    ends = [divmod(apart * number, 60) for number in range(len(records.lines))]
    lines = [
        line | {"written": f"2026-11-25T01:{minutes:02}:{seconds:02}Z"}
        for line, (minutes, seconds) in zip(records.lines, ends, strict=True)
    ]
    return replace(records, lines=lines)


@pytest.mark.parametrize(("apart", "said"), [(10, ""), (9, ""), (8, SAID)])
def test_runs_that_have_more_than_a_second_in_common_ran_side_by_side(apart: int, said: str) -> None:
    table = FIGURES["cost"].table(one_after_another(study(), apart))
    assert set(table[beside.SHARE]) == {1.0 if said else 0.0}
    assert beside.of_seconds(table) == said


def test_runs_of_two_machines_are_not_side_by_side() -> None:
    records = study()
    lines = [line | {"hardware": {"device": "cpu", "threads": number}} for number, line in enumerate(records.lines)]
    assert beside.of_seconds(FIGURES["cost"].table(replace(records, lines=lines))) == ""


@pytest.mark.parametrize("is_beside", [True, False])
def test_figure_and_table_say_it(is_beside: bool) -> None:
    records = study() if is_beside else one_after_another(study())
    table = FIGURES["cost"].table(records)
    texts = [FIGURES["cost"].draw(table).get_suptitle(), str(latex("cost", table))]
    assert [SAID[1:] in " ".join(text.split()) for text in texts] == [is_beside] * 2


def test_the_published_rank_study_says_it() -> None:
    """Its LoRA of rank 1 to 8 on tweets takes one and a half times full fine-tuning's seconds, that of rank 16 less."""
    assert beside.of_seconds(FIGURES["cost"].table(load(RECORDS / "rank_sweep_2"))) == SAID
