"""A study's records: the runs folder that they come from, and its published runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.declare import (
    check_arms,
    check_continues,
    declaration_of,
    has_new_settings,
    is_grown,
    moved_settings,
    settings_of,
)
from experiments.study import SETTLED, Line, Plan, Progress, composed
from lorax_lab.console import bar
from lorax_lab.errors import ConfigError
from lorax_lab.record.record import DamagedRecord
from lorax_lab.study.declaration import (
    DECLARATION,
    DamagedDeclaration,
    Declaration,
    read_declaration,
    write_declaration,
)
from lorax_lab.study.protocol import Cell
from lorax_lab.study.published import line_of, read_lines, shared_rows, write_lines
from lorax_lab.study.rows import SHARED, Afterwards, read_rows, write_rows
from lorax_lab.study.tables import read_table, write_sums, write_table

if TYPE_CHECKING:
    from lorax_lab.afterwards.trained import Run

PAIR = ("task", "seed", "other_task", "other_seed")
"""Columns that name a pair of runs."""


class StudyRecords:
    """A study's runs, from the runs folder and from what was published before.

    Args:
        folder: of the published runs and their declaration, `<records>/<study>`.
        runs: the runs folder.
        texts: what the study is to a reader: its module, question, prediction, cost, budget.

    Raises:
        ConfigError: the published runs belong to another plan, and this plan does not continue it.
    """

    def __init__(self, folder: Path, runs: Path, plan: Plan, texts: dict[str, Any]) -> None:
        check_arms(plan)
        self.folder, self.runs, self.plan, self.texts = folder, runs, plan, texts
        try:
            lines = read_lines(folder)
            self.before = read_declaration(folder) if lines else None
        except (OSError, ValueError, KeyError) as error:  # a damaged declaration is a ValueError
            start_anew = "or start anew: --runs FOLDER --records FOLDER"
            raise ConfigError(f"{error}; restore {folder} (git checkout -- {folder}), {start_anew}") from None
        if self.before:
            check_continues(self.before, plan, texts, folder.name)
        self.published = {str(line["run_id"]): line for line in lines}
        self.of_cell = {cell: line for line in lines if self.before and (cell := self.before.cell_of(line))}
        self._read: dict[tuple[str, int], Line] = {}

    def progress(self, wanted: Callable[[Cell], bool]) -> Progress:
        """How far the study is."""
        finals = frozenset(cell for cell in self.of_cell if cell.stage == "final")
        return Progress(self.plan, self.line, wanted, finals)

    def line(self, cell: Cell) -> Line | None:
        """A run as it is published, or as it will be; None where it is not recorded."""
        if cell in self.of_cell:
            return self.of_cell[cell]
        run = self.plan.run_id(cell)
        path = self.runs / run / "record.json"
        try:
            key = (run, path.stat().st_mtime_ns)
            if key not in self._read:
                self._read[key] = line_of(path.parent)
            return self._read[key]
        except FileNotFoundError:
            return None
        except (DamagedRecord, OSError) as error:
            print(f"left out, and to be run again: {error}", file=sys.stderr)
            return None

    def check(self, progress: Progress) -> None:
        """Refuse before training if a published rate would change, a run is older than what was declared, cells have
        equal settings, or a setting has another value than declared.

        Raises:
            ConfigError: names what stands in the way, and what to type.
        """
        self._check_rates(progress)
        self._check_order(progress)
        if not progress.missing:
            return
        settings_of(self.plan)
        if self.before and (moved := moved_settings(self.before, declaration_of(self.plan, self.texts, self.before))):
            raise ConfigError(
                f"{'; '.join(moved[:3])}: new runs could not be compared with the study's; write the old value into "
                f"experiments/{self.folder.name}.py, or start anew: --runs FOLDER --records FOLDER"
            )

    def _check_rates(self, progress: Progress) -> None:
        """Once an arm's final runs are published, its rate stays as chosen. New arms may extend the grid, but the rate
        is not chosen anew, since the test split was read."""
        for cell in self.of_cell:
            selection = progress.selections.get(cell.condition)
            if cell.stage == "final" and selection and selection.choices:
                chosen = self.plan.protocol.rate(cell.arm, selection.choices[cell.arm].step)
                if chosen != cell.rate:
                    raise ConfigError(
                        f"{cell.condition}, {cell.arm}: its final runs have the learning rate {cell.rate:g}, and the "
                        f"extended grid now chooses {chosen:g}; take the new arms out, or start anew: --runs FOLDER "
                        "--records FOLDER"
                    )

    def _check_order(self, progress: Progress) -> None:
        """Refuse recorded runs that are older than what the study declared."""
        first = (self.before or self._draft() or Declaration({}, self.plan.protocol, {})).written
        lines = [line for cell in progress.cells if cell not in self.of_cell and (line := progress.settled(cell))]
        if early := [line["run_id"] for line in lines if not first or line["written"] < first]:
            raise ConfigError(
                f"{len(early)} runs in {self.runs} are older than the declaration of {self.folder.name}, such as "
                f"{min(early)}; a study's runs follow what it declares: --runs FOLDER for a folder without them"
            )

    def _draft(self) -> Declaration | None:
        """What was declared before the first run, where the plan keeps it; None where it does not."""
        try:
            found = read_declaration(self.folder) if (self.folder / DECLARATION).is_file() else None
            if found:
                check_continues(found, self.plan, self.texts, self.folder.name)
        except (DamagedDeclaration, ConfigError):
            return None
        return found

    def declare(self, progress: Progress) -> None:
        """Write the study's declaration before its runs, if it is not written yet, has grown, or lacks a setting that
        the code has now and its new runs will have."""
        before = self.before or self._draft()
        is_complete = not progress.missing and not progress.to_come
        if before and is_complete and not is_grown(before, self.plan, self.texts):
            self.before = before
            return
        declared = declaration_of(self.plan, self.texts, before)
        if not before or is_grown(before, self.plan, self.texts) or has_new_settings(before, declared):
            write_declaration(self.folder, declared)
            write_sums(self.folder.parent)
        self.before = declared

    def publish(self, cells: Iterable[Cell]) -> None:
        """Write those runs that are finished."""
        lines = [line for cell in cells if (line := self.line(cell)) and line["status"] in SETTLED]
        new = {str(line["run_id"]): line for line in lines if line is not self.published.get(str(line["run_id"]))}
        if new:
            self.published |= new
            write_lines(self.folder, self.published.values())
            write_sums(self.folder.parent)

    def share(self, progress: Progress) -> None:
        """Measure the directions that pairs of full fine-tunes have in common, seeds of one condition and one seed of
        two, into `shared.parquet`. Only pairs that it lacks are measured, and only if the runs folder has both spectra:
        of a study that grew on another machine the earlier ones are gone."""
        path, reference = self.folder / SHARED, self.plan.protocol.reference
        full = [cell for cell in progress.cells if cell.stage == "final" and cell.arm == reference]
        ends = {(cell.condition, cell.seed): cell for cell in full}
        known = list(read_table(path)) if path.is_file() else []
        measured = {frozenset(((row[PAIR[0]], row[PAIR[1]]), (row[PAIR[2]], row[PAIR[3]]))) for row in known}
        pairs = [
            (one, other)
            for one, other in combinations(ends, 2)
            if (one[0] == other[0] or one[1] == other[1]) and frozenset((one, other)) not in measured
        ]
        folders = {end: self.runs / self.plan.run_id(ends[end]) for pair in pairs for end in pair}
        here = {end for end, folder in folders.items() if (folder / "spectra.npz").is_file()}
        if gone := sum(not here.issuperset(pair) for pair in pairs):
            print(f"spectra of runs are not here any more, so {gone} pairs' shared directions are not measured")
        pairs = [pair for pair in pairs if here.issuperset(pair)]
        rows: list[dict[str, Any]] = []
        for number, (one, other) in enumerate(pairs, 1):
            pair = dict(zip(PAIR, (*one, *other), strict=True))
            rows += [pair | row for row in shared_rows(folders[one], folders[other])]
            print(f"shared directions: {number} of {len(pairs)} pairs", flush=True)
        if rows:
            write_table(path, [*known, *rows])
            write_sums(self.folder.parent)

    def measure(self, progress: Progress) -> None:
        """Measure what the plan asks for and a table lacks, condition by condition.

        A condition is measured whole, or not at all: where the runs folder has not every run, as of a study that grew
        on another machine, or where a run diverged, it is named and left out. It is measured again where its rows are
        of other runs than the study's, or of other parts than the plan asks for, such as pairs of arms or sizes.
        """
        for name, asked in self.plan.afterwards.items():
            measured = read_rows(self.folder, name)
            for condition in self.plan.conditions:
                runs = self._completed(progress, condition)
                ids, before = sorted(run.folder.name for run in runs.values()), measured.get(condition)
                if before and before.runs == ids and asked.has_all(before.rows):
                    continue
                if lacking := self._lacking(progress, condition, runs):
                    print(f"{condition}: {lacking}, so {name} is not measured")
                    continue
                print(f"{condition}: measuring {name} of {len(runs)} runs", flush=True)
                rows = list[dict[str, Any]]()
                with bar(f"{condition}: rows of {name}") as at:
                    for row in asked.rows(runs):
                        rows.append(row)
                        at(len(rows), None)
                measured[condition] = Afterwards(ids, rows)
                write_rows(self.folder, name, measured)
                write_sums(self.folder.parent)

    def _lacking(self, progress: Progress, condition: str, runs: dict[tuple[str, int], Run]) -> str:
        """Why a condition cannot be measured whole; nothing where it can."""
        if (count := len(_finals(progress, condition))) > len(runs):
            return f"{count - len(runs)} of {count} final runs diverged and have no update"
        gone = [run.folder for run in runs.values() if not (run.folder / "record.json").is_file()]
        return f"{len(gone)} of {len(runs)} runs are not in {self.runs}" if gone else ""

    def _completed(self, progress: Progress, condition: str) -> dict[tuple[str, int], Run]:
        """The condition's completed final runs."""
        from lorax_lab.afterwards.trained import Run

        lines = {cell: progress.settled(cell) for cell in _finals(progress, condition)}
        return {
            (cell.arm, cell.seed): Run(composed(tuple(self.plan.overrides(cell))), self.runs / self.plan.run_id(cell))
            for cell, line in lines.items()
            if line and line["status"] == "completed"
        }


def _finals(progress: Progress, condition: str) -> list[Cell]:
    return [cell for cell in progress.cells if cell.stage == "final" and cell.condition == condition]
