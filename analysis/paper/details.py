"""The numbers that stand below the claims, one function for each table; the words stand in `paper.md.j2`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..study import comparison
from ..study.figures.arms import mean_losses
from ..study.figures.directions import EVERY
from ..study.records import Records, has_collapsed
from ..study.statistics import Interval
from .directions import FACTOR, FEW, MANY, SIDES, query_over_value, shared
from .readings import CONTROLS, FAILS, HOLDS, NOT_TOLD, between

SHARE = 0.5
"""Of what a task has: a control that surely has more leaves no sign of the task. `paper_subspaces` declared it."""
Numbers = dict[str, Any]


def arms(records: Records, task: str) -> dict[str, Numbers]:
    """`comparison.table` by arm, with the gain over full fine-tuning and the mean log loss."""
    losses, full = mean_losses(records, task), records.protocol.reference
    rows: dict[str, Numbers] = {}
    for arm in comparison.table(records, task).to_dict("records"):
        name = str(arm["arm"])
        more = {"over_full": between(records, task, name, full), "loss": losses.get(name)}
        rows[name] = {str(key): value for key, value in arm.items()} | more
    return rows


def sign_of_the_task(task: Interval, control: Interval) -> str:
    """Whether a control surely has less than half of what the task has, which then is a sign of the task, or more."""
    if control.low > SHARE * task.high:
        return FAILS
    return HOLDS if control.high < SHARE * task.low else NOT_TOLD


def sides_of_seeds(records: Records) -> Iterator[Numbers]:
    """What two seeds share beyond chance on a task and on its control, of A the top direction and else all 64; and how
    much more of the query than of the value."""
    for control, task in CONTROLS.items():
        for name, (pair, side) in SIDES.items():
            k, conditions = 1 if side == FACTOR else MANY, (task, control)
            overlaps = [shared(records, condition, pair, side, (k, k), EVERY) for condition in conditions]
            more = [query_over_value(records, condition, pair, side, FEW) for condition in conditions]
            beyond = [phi.beyond for phi in overlaps if phi]
            if len(beyond) == len(conditions) and all(more):
                yield {"side": name, "k": k, "beyond": beyond, "more": more, "sign": sign_of_the_task(*beyond)}


def ties(records: Records) -> list[Numbers]:
    """Controls of which every trial collapsed: their rates were chosen among ties, and their norms follow from that."""
    facts = []
    for control, task in CONTROLS.items() if set(CONTROLS) <= set(records.conditions) else ():
        trials, finals = (list(map(has_collapsed, records.lines_in(control, stage))) for stage in ("trial", "final"))
        if trials and all(trials):
            counts = {"trials": len(trials), "finals": len(finals), "collapsed": sum(finals)}
            facts.append(counts | {"task": task, "norms": [_relative_norm(records, name) for name in (control, task)]})
    return facts


def _relative_norm(records: Records, task: str) -> float:
    """The mean of ‖ΔW‖ / ‖W‖ over the reference's matrices and seeds."""
    lines = comparison.seeds_of(records, task, records.protocol.reference).values()
    return float(np.mean([row["relative_norm"] for line in lines for row in line["matrices"].values()]))
