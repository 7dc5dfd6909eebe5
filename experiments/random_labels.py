"""Control: labels drawn at random. What does an update look like that can learn nothing but noise?"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from experiments.command import main
from experiments.planted import headlines
from experiments.study import Plan, full, lora
from lorax_lab.study.protocol import Protocol

QUESTION = """\
The same headlines as in the rank study, with labels drawn at random: what rank has an update that learns noise?"""
PREDICTION = """\
(2026-11-25, before the runs) Every arm scores .5 on test, so every rank "matches" and every cut is enough: r* and k*
say nothing where there is nothing to learn. The spectrum does not know that: its effective rank is above that of
the real labels' update."""
COST = """\
About 18 runs of a minute: 20 minutes on 2 cores."""

EXAMPLES = 6000


def plan() -> Plan:
    """The grid. The table is made before the first run, once, in the cache folder."""
    data = ("task=local", f"task.path={table()}", "task.text=text", "task.label=label")
    sizes = ("task.train_examples=3000", "task.validation_examples=1000", "task.test_examples=2000")
    return Plan(
        protocol=Protocol((full(1e-4), lora(8, 1e-3)), extensions=1),
        factors={"task": {"random labels": data}},
        common=sizes,
        seconds={"trial": 35.0, "final": 80.0},
        control_of="rank_sweep",
        prepare=write,
    )


def table() -> Path:
    """Where the table is kept."""
    from lorax_lab.data.assets import cache_folder

    return cache_folder() / "random-labels.csv"


def write() -> None:
    """Write the table, if it is not there."""
    from experiments.teacher import write_table

    path = table()
    if not path.is_file():
        draw = random.Random(0)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, [(text, draw.choice(("no", "yes"))) for text in headlines(EXAMPLES)])


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
