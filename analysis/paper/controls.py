"""Claims that a control could have refuted, and what it said; the words stand in `analysis/pages/paper.md.j2`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..study.figures.directions import is_lora
from ..study.records import Records
from ..study.statistics import Interval
from . import readings
from .readings import CONTROLS, FACTOR, FAILS, FEW, GAUSSIAN, HOLDS, LOW, MANY, RANKS, SIDES_OF_SEEDS, START, above

REFUTED, STANDS, OPEN = "refuted", "not refuted", "cannot be told"
SHARE = 0.5
"""Of what a task has: a control that has surely more refutes, as `paper_subspaces` declared it of two seeds of full."""
Row = dict[str, Any]


def rows_of(by_name: Mapping[str, Records]) -> list[Row]:
    """The claims with their controls; none where none has been measured."""
    measured = [(by_name[name], reads, of_figure) for name, reads, of_figure in ASKED if name in by_name]
    return [
        row | {"of": of_figure} for records, reads, of_figure in measured for read in reads for row in read(records)
    ]


def _directions(records: Records) -> Iterator[Row]:
    """Of Figures 3 and 4: what is shared is made by training, and is of the task. Labels drawn at random have no
    task."""
    for task in filter(readings.is_task, records.conditions):
        pairs = [("made", "", "before training", (task, RANKS, FACTOR), (task, RANKS, START))]
        for control in (control for control, source in CONTROLS.items() if source == task):  # of the task's own texts
            pairs.append(("ranks", "", control, (task, RANKS, FACTOR), (control, RANKS, FACTOR)))
            for words, (pair, side) in SIDES_OF_SEEDS.items():
                pairs.append(("seeds", words, control, (task, pair, side), (control, pair, side)))
                more, drawn = (readings.query_minus_value(records, name, pair, side, FEW) for name in (task, control))
                if more and drawn and more.low > 0:
                    yield _row("query", words, control, task, [more, drawn], _by_half(more, drawn), k=FEW)
        for asks, words, control, *places in pairs:
            k = 1 if places[0][2] == FACTOR else MANY
            of_task, of_control = (
                readings.shared(records, *place, at=(k, k), module=readings.EVERY) for place in places
            )
            if of_task and of_control:
                pair_of = [of_task.beyond, of_control.beyond]
                yield _row(asks, words, control, task, pair_of, _by_half(*pair_of), k=k)


def _row(asks: str, words: str, control: str, task: str, numbers: list[Any], outcome: str, **more: Any) -> Row:
    row = {"asks": asks, "words": words, "control": control, "task": task, "found": numbers, "outcome": outcome}
    return row | more


def _by_half(of_task: Interval, of_control: Interval) -> str:
    """Whether the control has surely more than half of what the task has, or surely less."""
    if of_control.low > SHARE * of_task.high:
        return REFUTED
    return STANDS if of_control.high < SHARE * of_task.low else OPEN


def _norms(records: Records) -> Iterator[Row]:
    """Of Table 7: what W has more in the full update's directions than in a Gaussian's is of the task."""
    times = {
        (task, arm, r): readings.ratio(rows, GAUSSIAN, "factor") for task, arm, r, rows in readings.groups(records)
    }
    for (task, arm, r), of_task in times.items():
        for control in (control for control, source in CONTROLS.items() if source == task):
            if r == LOW and not is_lora(arm) and (of_control := times.get((control, arm, r))):
                beyond = [Interval(x.mean - 1, x.low - 1, x.high - 1, x.count) for x in (of_task, of_control)]
                yield _row("factor_of_task", arm, control, task, [of_task, of_control], _by_half(*beyond), r=r)


def _factors(records: Records) -> Iterator[Row]:
    """Of Table 7: a large factor tells of directions of W that LoRA finds. A Gaussian update finds none."""
    for task, arm, r, rows in readings.groups(records):
        if readings.is_task(task) and is_lora(arm):
            times = readings.ratio(rows, GAUSSIAN, "factor")
            factors = [readings.factor(rows, key) for key in ("factor", GAUSSIAN)]
            outcome = {HOLDS: REFUTED, FAILS: STANDS}.get(above(times, 1.0), OPEN)
            yield _row("factor", "", "Gaussian update of that norm", task, [*factors, times], outcome, r=r)


ASKED = (
    ("paper_subspaces", (_directions,), ""),
    ("paper_amplification", (_norms, _factors), ""),
    ("paper_which_rank", (_directions, _factors), ", query and value alone"),
)
"""Studies, what is asked of them, and what their figures' names end in."""
