"""`python -m experiments.constants <study>`: what one answer for every input scores in each condition of a study.

Published lines do not have the labels, so the lines below which a score says nothing are read from the data, by the
lab's own reading of them, and written to `analysis/study/constants.csv`. Where a study's conditions grow, type it
again; `tests/rooms/test_constants.py` names the studies whose rows lack.
"""

import argparse
from typing import Any

import numpy as np
import pandas as pd

from analysis.constant import COLUMNS, FILE, read
from experiments.study import RECORDS, UNGROUPED, composed, plan_of
from lorax_lab.errors import answer
from lorax_lab.record.files import write_csv
from lorax_lab.record.redact import guard
from lorax_lab.study.published import read_lines


def main(arguments: list[str] | None = None) -> int:
    """Write the rows anew. Returns the exit code: 0 written, 2 a wrong input, 130 stopped."""
    parser = argparse.ArgumentParser(prog="python -m experiments.constants", description=__doc__)
    parser.add_argument("study", help="such as rank_sweep; the rows of others are kept")
    options = parser.parse_args(arguments)
    return answer(lambda: _write(options.study), "; nothing is written")


def _write(study: str) -> int:
    """Data that a study generates differ in their last bits between processors, so the rows of published data stay,
    and none is added of data that no published line has."""
    published = {line["inputs"]["data_sha256"] for line in read_lines(RECORDS / study) if "inputs" in line}
    new = pd.DataFrame(rows_of(study), columns=list(COLUMNS))
    new = new[new["data_sha256"].isin(published)] if published else new
    before = read()
    before = before[(before["study"] != study) | before["data_sha256"].isin(published)]
    place = ["study", "condition", "data_sha256", "split"]
    table = pd.concat([before, new]).drop_duplicates(place, keep="last").sort_values(["study"], kind="stable")
    write_csv(FILE, table)
    print(f"{FILE}: {len(new)} rows of {study} written")
    return 0


def rows_of(study: str) -> list[dict[str, Any]]:
    """A row for each condition and split of a study's plan; none where no single answer has a score."""
    from lorax_lab.tasks import load_task
    from lorax_lab.tasks.collapse import best_constant
    from lorax_lab.tasks.split import DTYPES

    plan = plan_of(study)
    plan.prepare()
    arm, rows = plan.protocol.arm(plan.protocol.reference), []
    for condition, overrides in plan.conditions.items():
        task = load_task(composed((UNGROUPED, *overrides, *arm.overrides, *plan.common)).task)
        for split in ("validation", "test"):
            labels = np.array([example.label for example in task.splits[split]], DTYPES[task.config.labels])
            constant = best_constant(task, labels)
            if constant is not None:
                facts = (study, condition, task.data_sha256, split, len(labels), task.metric, f"{constant:.6g}")
                rows.append(dict(zip(COLUMNS, facts, strict=True)))
    return rows


if __name__ == "__main__":
    guard()
    raise SystemExit(main())
