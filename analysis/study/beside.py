"""Which runs of a study ran while another one did, so that their seconds are not those of a quiet machine.

A line says when its record was written, and how many seconds the run took. What else the machine did, no record says.
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from lorax_lab.study.published import Line

from .records import Records

if TYPE_CHECKING:
    import pandas as pd

TIME = "%Y-%m-%dT%H:%M:%SZ"
SHARE = "ran_beside"
"""The column of the share of an arm's final runs that ran while another run of the study did."""
TOGETHER = 1.0
"""Seconds, at least, that two runs have in common: a record's time has no parts of a second."""


def with_shares(records: Records, table: pd.DataFrame) -> pd.DataFrame:
    """A table of tasks and arms with the column `SHARE`."""
    beside = _beside(records.lines)
    shares = dict[tuple[str, str | None], float]()
    for task in records.conditions:
        of_arm = defaultdict[tuple[str, str | None], list[bool]](list)
        for line in records.of(task, "final"):
            of_arm[task, records.arm_of(line)].append(line["run_id"] in beside)
        shares |= {place: float(np.mean(flags)) for place, flags in of_arm.items()}
    return table.assign(**{SHARE: [shares.get(place, 0.0) for place in zip(table["task"], table["arm"], strict=True)]})


def of_seconds(table: pd.DataFrame) -> str:
    """What is to be said of a table's seconds, or nothing where no run ran beside another."""
    if SHARE not in table or not (table[SHARE] > 0).any():
        return ""
    return (
        "seconds are of runs side by side, and maybe beside other work: they tell orders of magnitude, not differences"
    )


def _beside(lines: list[Line]) -> set[str]:
    """The runs that have time in common with another one on a machine of the same hardware."""
    times: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for line in lines:
        if (of_run := _time(line)) is not None:
            times[json.dumps(line["hardware"], sort_keys=True)].append((*of_run, str(line["run_id"])))
    found = set[str]()
    for of_machine in times.values():
        starts, ends = (np.sort([run[i] for run in of_machine]) for i in (0, 1))
        for start, end, run_id in of_machine:
            began, over = np.searchsorted(starts, end - TOGETHER), np.searchsorted(ends, start + TOGETHER, "right")
            if began - over > (end - start > TOGETHER):
                found.add(run_id)
    return found


def _time(line: Line) -> tuple[float, float] | None:
    """When the run began and ended; None where that is not recorded."""
    try:
        end = datetime.strptime(line["written"], TIME).timestamp()
    except ValueError:
        return None
    seconds = line.get("time", {}).get("total_seconds")
    return None if seconds is None else (end - float(seconds), end)
