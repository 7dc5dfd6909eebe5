"""`python -m analysis grid-of-study STUDY CONDITION TABLE.csv`: a study's runs in the format of `python -m analysis
grid`.

The trials with their score on validation, and the final runs with theirs on test, of full fine-tuning and of LoRA at
each rank. Two accuracies of one run are two rows; nothing is rounded or left out. A run that diverged has no score.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.record.files import write_csv

from ..study.records import RECORDS, Records, named, rate_of, score_of
from .table import FINAL, FULL, SPLITS, STAGES, TRIAL

if TYPE_CHECKING:
    import pandas as pd

NAME = "grid-of-study"
SPLIT_OF = dict(zip(STAGES, SPLITS, strict=True))
"""Trials are scored on validation, final runs on test."""


def main(arguments: list[str]) -> int:
    """Write the table. Returns the exit code: 0, or 2 for a wrong input."""
    parser = argparse.ArgumentParser(prog=f"python -m analysis {NAME}", description=__doc__)
    parser.add_argument("study", help="its name, such as rank_sweep_2")
    parser.add_argument("condition", help="the task, such as sarcasm")
    parser.add_argument("table", type=Path, metavar="TABLE.csv", help="the file to write")
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records (experiments/records)")
    options = parser.parse_args(arguments)
    return answer(lambda: _main(options))


def _main(options: argparse.Namespace) -> int:
    records = named(options.records, options.study)
    if options.condition not in records.conditions:
        raise ConfigError(
            f"{options.study} has no task {options.condition}; {suggest(options.condition, records.conditions)}"
        )
    write_csv(options.table, table(records, options.condition))
    print(options.table)
    return 0


def table(records: Records, condition: str) -> pd.DataFrame:
    """One row per run of the reference and of the arms that differ in their rank alone."""
    import pandas as pd

    arms = {arm.name: ("lora", arm.rank) for arm in records.protocol.ranked()} | {
        records.protocol.reference: (FULL, None)
    }
    rows = []
    for stage in (TRIAL, FINAL):
        for line in records.of(condition, stage):
            name = records.arm_of(line)
            if name in arms:
                method, rank = arms[name]
                row = {"model": line["config"]["model"], "task": condition, "method": method, "rank": rank}
                row |= {"learning_rate": rate_of(line), "seed": line["seed"], "stage": stage, "split": SPLIT_OF[stage]}
                rows.append(row | {"metric": records.metric(condition), "score": score_of(line, SPLIT_OF[stage])})
    order = ["stage", "method", "rank", "learning_rate", "seed"]
    found = pd.DataFrame(rows).astype({"rank": "Int64"})
    return found.sort_values(order, ascending=[False, True, True, True, True]).reset_index(drop=True)
