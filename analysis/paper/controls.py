"""Claims that a control could have refuted, and what it said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..study.markdown import table
from ..study.records import Records
from ..study.statistics import Interval
from . import directions, norms
from .reading import CONTROLS, FAILS, HOLDS, above, is_task, written

REFUTED, STANDS, OPEN = "refuted", "not refuted", "cannot be told"
SHARE = 0.5
"""Of what a task has: a control that has surely more refutes, as `paper_subspaces` declared it of two seeds of full."""
RULE = """\
Refuted where what the control has, beyond chance or noise, is surely more than half of what the task has, not refuted
where it surely is less; of a Gaussian update, where its factor is surely larger, or surely smaller. The half was
declared of two seeds of full fine-tuning before the runs, and is used of all the rest too. Random labels are of
sarcasm's texts, so they are a control of that task alone. They were not learned, and were trained at rates of their
own, which stand below."""
HEADINGS = ["of the paper", "read so", "the control", "task", "here", "the control's", "it is"]


def section(by_name: Mapping[str, Records]) -> list[str]:
    """The claims with their controls as a part of the page; empty where none has been measured."""
    rows = []
    for name, reads, of in ASKED:
        for read in reads if name in by_name else ():
            rows += [[f"{figure}{of}", *rest] for figure, *rest in read(by_name[name])]
    head = "## Claims with a control that could have refuted them"
    return [head, table(HEADINGS, rows), f"Rule: {' '.join(RULE.split())}"] if rows else []


def _directions(records: Records) -> Iterator[list[str]]:
    """Of Figures 3 and 4: what is shared is made by training, and is of the task. Labels drawn at random have no
    task."""
    ranks, seeds = "What A of rank 8 and 64 share is", "What two seeds share is of the task"
    for task in filter(is_task, records.conditions):
        at_start = _place(task, directions.RANKS, directions.START)
        trained = _place(task, directions.RANKS, directions.FACTOR)
        asked = [("Figure 3", f"{ranks} made by training", "before training", trained, at_start)]
        for control in _controls(task):
            asked += [("Figure 3", f"{ranks} of the task", control, trained, trained | {"task": control})]
            for pair, side, words in directions.SIDES_OF_SEEDS:
                place = _place(task, pair, side)
                asked.append(("Figure 4", f"{seeds} ({words})", control, place, place | {"task": control}))
                yield from _query(records, task, control, pair, side, words)
        for figure, text, name, own, other in asked:
            found = [directions.shared(records, **place, module=directions.EVERY) for place in (own, other)]
            if found[0] and found[1]:
                beyond = [each.interval(each.chance) for each in found if each]
                numbers = [f"φ{own['at']} − chance = {written(each)}" for each in beyond]
                yield [figure, text, name, task, *numbers, _of_halves(*beyond)]


def _query(records: Records, task: str, control: str, pair: str, side: str, words: str) -> Iterator[list[str]]:
    """Where two seeds surely share more of the query than of the value: whether that is of the task."""
    k = directions.FEW
    found = [directions.query_minus_value(records, name, pair, side, k) for name in (task, control)]
    if found[0] and found[1] and found[0].low > 0:
        text = f"That two seeds share more of the query than of the value is of the task ({words})"
        numbers = [f"φ({k}, {k}), query − value = {written(each)}" for each in found if each]
        yield ["Figure 4", text, control, task, *numbers, _of_halves(found[0], found[1])]


def _controls(task: str) -> list[str]:
    """Those of the task's own texts: of other texts, what is not there could be the texts' doing."""
    return [control for control, of in CONTROLS.items() if of == task]


def _place(task: str, pair: str, side: str) -> dict[str, Any]:
    k = 1 if side in (directions.FACTOR, directions.START) else directions.MANY
    return {"task": task, "pair": pair, "side": side, "at": (k, k)}


def _of_halves(own: Interval, control: Interval) -> str:
    """Whether the control has surely more than half of what the task has, or surely less."""
    if control.low > SHARE * own.high:
        return REFUTED
    return STANDS if control.high < SHARE * own.low else OPEN


def _norms(records: Records) -> Iterator[list[str]]:
    """Of Table 7: what W has more in the full update's directions than in a Gaussian's is of the task."""
    of = {(task, arm, r): rows for task, arm, r, rows in norms.groups(records)}
    for (task, arm, r), rows in of.items():
        for control in _controls(task) if r == norms.LOW and not norms.is_lora(arm) else ():
            if drawn := of.get((control, arm, r)):
                more = [norms.ratio(each, norms.GAUSSIAN, norms.FACTOR) for each in (rows, drawn)]
                numbers = [f"{written(each, 2)} times" for each in more]
                beyond = [Interval(x.mean - 1, x.low - 1, x.high - 1, x.count) for x in more]
                text = f"That W is larger in the top {r} directions of {arm} than in a Gaussian's is of the task"
                yield ["Table 7", text, control, task, *numbers, _of_halves(*beyond)]


def _factors(records: Records) -> Iterator[list[str]]:
    """Of Table 7: a large factor tells of directions of W that LoRA finds. A Gaussian update finds none."""
    for task, arm, r, rows in norms.groups(records):
        if is_task(task) and norms.is_lora(arm):
            more = norms.ratio(rows, norms.GAUSSIAN, norms.FACTOR)
            own, noise = (norms.factor(rows, key) for key in (norms.FACTOR, norms.GAUSSIAN))
            outcome = {HOLDS: REFUTED, FAILS: STANDS}.get(above(more, 1.0), OPEN)
            text = f"A large factor at r = {r} tells of directions that LoRA finds in W"
            numbers = [f"{own:.2f}", f"{noise:.2f}, {written(more, 2)} times"]
            yield ["Table 7", text, "Gaussian update of that norm", task, *numbers, outcome]


ASKED = (
    ("paper_subspaces", (_directions,), ""),
    ("paper_amplification", (_norms, _factors), ""),
    ("paper_which_rank", (_directions, _factors), ", query and value alone"),
)
"""Studies, what is asked of them, and what their figures' names end in."""
