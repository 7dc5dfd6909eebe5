"""What a study measures of its final runs once they are trained: rows beside its published lines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from experiments.study import Progress, composed
from lorax_lab.console import bar
from lorax_lab.study.measured_rows import Measured, path_of, read_rows, write_rows
from lorax_lab.study.protocol import Cell

if TYPE_CHECKING:
    from experiments.study_records import StudyRecords
    from lorax_lab.afterwards.trained import Run


def measure(records: StudyRecords, progress: Progress) -> None:
    """Measure what the plan asks for and a file lacks, condition by condition.

    A condition is measured whole, or not at all: where the store has not every run's folder, as of a study that grew
    on another machine, or where a run diverged, it is named and left out. Its intact rows stay, and stay marked as
    incomplete. It is measured again where its rows are of other runs than the study's, or of other parts than the plan
    asks for, such as pairs of arms or sizes.
    """
    for name, asked in records.plan.afterwards.items():
        path = path_of(records.path, name)
        measured, damages = read_rows(path)
        for damage in damages:
            print(f"measured again: {damage}", file=sys.stderr)
        for condition in records.plan.conditions:
            before, own = measured.get(condition), _ids(records, progress, condition)
            if before and before.is_whole and before.runs == own and asked.has_all(before.rows):
                continue
            if lacking := _lacking(records, progress, condition):
                print(f"{condition}: {lacking}, so {name} is not measured")
                continue
            runs = _runs(records, progress, condition)
            print(f"{condition}: measuring {name} of {len(runs)} runs", flush=True)
            rows = list[dict[str, Any]]()
            with bar(f"{condition}: rows of {name}") as at:
                for row in asked.rows(runs):
                    rows.append(row)
                    at(len(rows), None)
            measured[condition] = Measured(own, len(rows), rows)
            write_rows(path, measured)


def _ids(records: StudyRecords, progress: Progress, condition: str) -> list[str]:
    return sorted(run.folder.name for run in _runs(records, progress, condition).values())


def _lacking(records: StudyRecords, progress: Progress, condition: str) -> str:
    """Why a condition cannot be measured whole; nothing where it can."""
    cells = _finals(progress, condition)
    runs = _runs(records, progress, condition)
    if len(runs) < len(cells):
        return f"{len(cells) - len(runs)} of {len(cells)} final runs diverged and have no update"
    gone = [run.folder for run in runs.values() if not (run.folder / "record.json").is_file()]
    return f"{len(gone)} of {len(runs)} runs are not in {records.runs}" if gone else ""


def _finals(progress: Progress, condition: str) -> list[Cell]:
    return [cell for cell in progress.cells if cell.stage == "final" and cell.condition == condition]


def _runs(records: StudyRecords, progress: Progress, condition: str) -> dict[tuple[str, int], Run]:
    """The condition's completed final runs."""
    from lorax_lab.afterwards.trained import Run

    def completed(cell: Cell) -> bool:
        line = progress.settled(cell)
        return line is not None and line["status"] == "completed"

    finals = filter(completed, _finals(progress, condition))
    plan = records.plan
    return {
        (cell.arm, cell.seed): Run(composed(tuple(plan.overrides(cell))), records.runs / plan.run_id(cell))
        for cell in finals
    }
