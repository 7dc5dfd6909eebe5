"""Claims that a control could have refuted, and what it said; the words stand in `analysis/pages/paper.md.j2`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..study.records import Records
from ..study.statistics import Interval
from . import readings
from .readings import (
    CONTROLS,
    FACTOR,
    FAILS,
    FEW,
    GAUSSIAN,
    HOLDS,
    LOW,
    MANY,
    RANKS,
    SIDES_OF_SEEDS,
    START,
    above,
    is_lora,
    is_task,
)

REFUTED, STANDS, OPEN = "refuted", "not refuted", "cannot be told"
SHARE = 0.5
"""Of what a task has: a control that has surely more refutes, as `paper_subspaces` declared it of two seeds of full."""
Row = dict[str, Any]


def rows_of(by_name: Mapping[str, Records]) -> list[Row]:
    """The claims with their controls; none where none has been measured."""
    return [
        row | {"of": chosen}
        for name, reads, chosen in ASKED
        for read in (reads if name in by_name else ())
        for row in read(by_name[name])
    ]


def _directions(records: Records) -> Iterator[Row]:
    """Of Figures 3 and 4: what is shared is made by training, and is of the task. Labels drawn at random have no
    task."""
    for task in filter(is_task, records.conditions):
        controls = [control for control, chosen in CONTROLS.items() if chosen == task]  # of the task's own texts
        asked = [("made", "", "before training", (task, RANKS, FACTOR), (task, RANKS, START))]
        for control in controls:
            asked.append(("ranks", "", control, (task, RANKS, FACTOR), (control, RANKS, FACTOR)))
            for words, (pair, side) in SIDES_OF_SEEDS.items():
                asked.append(("seeds", words, control, (task, pair, side), (control, pair, side)))
                own, drawn = (readings.query_minus_value(records, name, pair, side, FEW) for name in (task, control))
                if own and drawn and own.low > 0:
                    yield _row("query", words, control, task, [own, drawn], _of_halves(own, drawn), k=FEW)
        for asks, words, control, *places in asked:
            k = 1 if places[0][2] == FACTOR else MANY
            pair_of = [readings.shared(records, *place, at=(k, k), module=readings.EVERY) for place in places]
            if pair_of[0] and pair_of[1]:
                facts = [each.beyond for each in pair_of if each]
                yield _row(asks, words, control, task, facts, _of_halves(facts[0], facts[1]), k=k)


def _row(asks: str, words: str, control: str, task: str, facts: list[Any], outcome: str, **more: Any) -> Row:
    row = {"asks": asks, "words": words, "control": control, "task": task, "found": facts, "outcome": outcome}
    return row | more


def _of_halves(own: Interval, control: Interval) -> str:
    """Whether the control has surely more than half of what the task has, or surely less."""
    if control.low > SHARE * own.high:
        return REFUTED
    return STANDS if control.high < SHARE * own.low else OPEN


def _norms(records: Records) -> Iterator[Row]:
    """Of Table 7: what W has more in the full update's directions than in a Gaussian's is of the task."""
    chosen = {(task, arm, r): rows for task, arm, r, rows in readings.groups(records)}
    for control, task in CONTROLS.items():
        for arm, r in [(arm, r) for name, arm, r in chosen if name == task and r == LOW and not is_lora(arm)]:
            if drawn := chosen.get((control, arm, r)):
                more = [readings.ratio(each, GAUSSIAN, "factor") for each in (chosen[task, arm, r], drawn)]
                beyond = [Interval(x.mean - 1, x.low - 1, x.high - 1, x.count) for x in more]
                yield _row("factor_of_task", arm, control, task, more, _of_halves(beyond[0], beyond[1]), r=r)


def _factors(records: Records) -> Iterator[Row]:
    """Of Table 7: a large factor tells of directions of W that LoRA finds. A Gaussian update finds none."""
    for task, arm, r, rows in readings.groups(records):
        if is_task(task) and is_lora(arm):
            more = readings.ratio(rows, GAUSSIAN, "factor")
            factors = [readings.factor(rows, key) for key in ("factor", GAUSSIAN)]
            outcome = {HOLDS: REFUTED, FAILS: STANDS}.get(above(more, 1.0), OPEN)
            yield _row("factor", "", "Gaussian update of that norm", task, [*factors, more], outcome, r=r)


ASKED = (
    ("paper_subspaces", (_directions,), ""),
    ("paper_amplification", (_norms, _factors), ""),
    ("paper_which_rank", (_directions, _factors), ", query and value alone"),
)
"""Studies, what is asked of them, and what their figures' names end in."""
