"""Writes `analysis/study/constants.csv`: what one answer for every input scores in each condition of the studies.

    python tests/constants.py rank_sweep rank_sweep_2

Published lines do not have the labels, so the tables read this from the data, by the lab's own reading of them. Where a
study's conditions grow, type it again; `tests/test_constants.py` names the rows that lack.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from analysis.study.constants import COLUMNS, FILE, read
from lorax_lab.store.files import write_text


def rows_of(study: str) -> list[dict[str, Any]]:
    """A row for each condition and split of a study's plan; none where no single answer has a score."""
    import numpy as np

    from experiments.study import composed
    from lorax_lab.tasks import load_task
    from lorax_lab.tasks.collapse import best_constant
    from lorax_lab.tasks.split import DTYPES

    plan = import_module(f"experiments.{study}").plan("full")
    plan.prepare()
    arm, rows = plan.protocol.arm(plan.protocol.reference), []
    for condition, overrides in plan.conditions.items():
        task = load_task(composed((*overrides, *arm.overrides, *plan.common)).task)
        for split in ("validation", "test"):
            labels = np.array([example.label for example in task.splits[split]], DTYPES[task.config.labels])
            constant = best_constant(task, labels)
            if constant is not None:
                facts = (study, condition, task.data_sha256, split, len(labels), task.metric, f"{constant:.6g}")
                rows.append(dict(zip(COLUMNS, facts, strict=True)))
    return rows


def main(studies: list[str]) -> None:
    """Write the rows of the named studies anew, and keep those of the others."""
    import pandas as pd

    kept = read()
    kept = kept[~kept["study"].isin(studies)]
    rows = [row for study in studies for row in rows_of(study)]
    made = pd.concat([kept, pd.DataFrame(rows, columns=list(COLUMNS))]).sort_values(["study"], kind="stable")
    write_text(FILE, made.to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    main(sys.argv[1:])
