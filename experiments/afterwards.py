"""What a study measures of its final runs once they are trained: rows beside its published lines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from experiments.study import Progress, composed
from lorax_lab.store.measured_rows import CONDITION, path_of, read_rows, write_rows

if TYPE_CHECKING:
    from experiments.study_records import StudyRecords
    from lorax_lab.afterwards.trained import Run


def measure(records: StudyRecords, progress: Progress) -> None:
    """Measure what the plan asks for and a file lacks, condition by condition.

    A condition is measured whole, or not at all: where the store has not every run's folder, as of a study that grew
    on another machine, it is named and left out.
    """
    for name, rows_of in records.plan.afterwards.items():
        path = path_of(records.path, name)
        rows, damages = read_rows(path)
        for damage in damages:
            print(f"measured again: {damage}", file=sys.stderr)
        whole = {row[CONDITION] for row in rows} if not damages else set()
        rows = rows if not damages else []
        for condition in (c for c in records.plan.conditions if c not in whole):
            runs = _runs(records, progress, condition)
            if gone := [run.folder for run in runs.values() if not (run.folder / "record.json").is_file()]:
                print(
                    f"{condition}: {len(gone)} of {len(runs)} runs are not in {records.runs}, so {name} is not measured"
                )
                continue
            print(f"{condition}: measuring {name} of {len(runs)} runs", flush=True)
            rows += [{CONDITION: condition} | row for row in rows_of(runs)]
            write_rows(path, rows)


def _runs(records: StudyRecords, progress: Progress, condition: str) -> dict[tuple[str, int], Run]:
    """The condition's completed final runs; one that diverged has no update."""
    from lorax_lab.afterwards.trained import Run

    def completed(cell: Any) -> bool:
        line = progress.settled(cell)
        return line is not None and line["status"] == "completed"

    finals = [c for c in progress.cells if c.stage == "final" and c.condition == condition and completed(c)]
    plan = records.plan
    return {
        (cell.arm, cell.seed): Run(composed(tuple(plan.overrides(cell))), records.runs / plan.run_id(cell))
        for cell in finals
    }
