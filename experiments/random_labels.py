"""Control: labels drawn at random. What does an update look like that can learn nothing but noise?"""

import random
from pathlib import Path

from experiments.planted import headlines
from experiments.study import Plan, full, local, lora
from experiments.teacher import write_table
from lorax_lab.data.assets import cache_folder
from lorax_lab.study.protocol import Protocol

EXAMPLES = 6000


def plan() -> Plan:
    """The grid. The table is made before the first run, once, in the cache folder."""
    sizes = ("task.train_examples=3000", "task.validation_examples=1000", "task.test_examples=2000")
    return Plan(
        protocol=Protocol((full(1e-4), lora(8, 1e-3)), extensions=1),
        factors={"task": {"random labels": local(table())}},
        common=sizes,
        control_of="rank_sweep",
        prepare=write,
    )


def table() -> Path:
    """Where the table is kept."""
    return cache_folder() / "random-labels.csv"


def write() -> None:
    """Write the table, if it is not there."""
    path = table()
    if not path.is_file():
        draw = random.Random(0)
        write_table(path, [(text, draw.choice(("no", "yes"))) for text in headlines(EXAMPLES)])
