"""A study's records: the store that they come from, and their published lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from experiments.declare import check_arms, check_continues, declaration_of, is_grown, settings_of
from experiments.study import SETTLED, Line, Plan, Progress
from lorax_lab.errors import ConfigError
from lorax_lab.record.sums import seal
from lorax_lab.study.continuity import KEY, followed
from lorax_lab.study.declaration import DamagedDeclaration, Declaration, read_declaration, to_content, write_declaration
from lorax_lab.study.equivalence import equivalence_path, proven
from lorax_lab.study.protocol import CHOSEN_FROM, Cell, select, sha256_of_trials

PAIR = ("task", "seed", "other_task", "other_seed")
"""Columns that name a pair of runs."""


class StudyRecords:
    """A study's lines, from the store and from what was published before.

    Args:
        path: of the published lines, `<study>.jsonl`; what was declared lies beside it.
        runs: the store.
        texts: what the study is to a reader: its module, question, prediction, cost, budget.

    Raises:
        ConfigError: the published lines belong to another plan, and this plan does not continue it.
    """

    def __init__(self, path: Path, runs: Path, plan: Plan, texts: dict[str, Any]) -> None:
        from lorax_lab.study.published import read_lines

        check_arms(plan)
        self.path, self.runs, self.plan, self.texts = path, runs, plan, texts
        self.beside = path.with_suffix(".json")
        lines, damages = read_lines(path)
        self.before = _declared(self.beside) if (lines or damages) and self.beside.is_file() else None
        if lines and self.before is None:
            raise ConfigError(
                f"{path} has lines, and there is no {self.beside.name} beside it; restore it, or move both"
            )
        if self.before:
            check_continues(self.before, plan, texts, path.stem)
        self.published = {str(line["run_id"]): line for line in lines}
        self._of_cell = {self.before.cell_of(line): line for line in lines} if self.before else {}
        self._read: dict[tuple[str, int], Line] = {}
        self._chosen: dict[tuple[str, int], str] = {}
        for damage in damages:
            print(f"left out, and to be run again: {damage}", file=sys.stderr)

    def progress(self, wanted: Callable[[Cell], bool]) -> Progress:
        """How far the study is."""
        finals = frozenset(cell for cell in self._of_cell if cell and cell.stage == "final")
        return Progress(self.plan, self.line, wanted, finals)

    def line(self, cell: Cell) -> Line | None:
        """A run's line: a published one comes before one from the store, which gets the hash of the declaration that
        the run followed."""
        from lorax_lab.record.record import DamagedRecord
        from lorax_lab.study.published import line_of

        if cell in self._of_cell:
            return self._of_cell[cell]
        run = self.plan.run_id(cell)
        path = self.runs / run / "record.json"
        try:
            key = (run, path.stat().st_mtime_ns)
            if key not in self._read:
                self._read[key] = line_of(path.parent)
            return self._stamped(cell, self._read[key])
        except FileNotFoundError:
            return None
        except (DamagedRecord, OSError) as error:
            print(f"left out, and to be run again: {error}", file=sys.stderr)
            return None

    def _stamped(self, cell: Cell, line: Line) -> Line:
        """A line from the store with the hash of the declaration that its run followed; a final run's also with that of
        the trials that its rate was chosen from."""
        if self.before is None:
            return line
        declared = self.before.versions
        place = followed(declared, line)
        stamped = line | {KEY: declared[place].sha256}
        if cell.stage == "trial":
            return stamped
        if (cell.condition, place) not in self._chosen:  # the trials are settled once there is a final run
            protocol, known = self.plan.protocol, {None, *(one.sha256 for one in declared[: place + 1])}
            trials = protocol.trials(cell.condition, select(protocol, cell.condition, self.line).steps)
            chosen = [trial for trial in map(self.line, trials) if trial and trial.get(KEY) in known]
            self._chosen[cell.condition, place] = sha256_of_trials(chosen)
        return stamped | {CHOSEN_FROM: self._chosen[cell.condition, place]}

    def check(self, progress: Progress) -> None:
        """Refuse before training if arms have equal settings, a published rate would change, a run is older than what
        was declared, or the code is another version.

        Raises:
            ConfigError: names what stands in the way, and what to type.
        """
        self._check_rates(progress)
        self._check_order(progress)
        if progress.missing:
            self._check_comparable(progress)
            settings_of(self.plan)

    def _check_comparable(self, progress: Progress) -> None:
        """Refuse to add runs to those of another version of the code or of its defaults, unless the versions are proven
        equivalent; and to a condition that began with another model or other data. A study that is complete stays so,
        whatever became of the code."""
        pairs = proven(self.path)
        whole = self.progress(lambda cell: True)  # also of arms and seeds that are not asked for now
        settled = [(cell, line) for cell in whole.cells if (line := progress.settled(cell))]
        growing = {cell.condition for cell in progress.missing}
        others: list[Line] = []
        refilled: dict[str, list[Line]] = {}
        for cell, line in settled:
            code, run = self.plan.code(cell), line["run_id"]
            same_code = line["code"] == code or (line["code"], code) in pairs
            if not same_code or run not in (self.plan.run_id(cell), self.plan.run_id_of(cell, line["inputs"])):
                others.append(line)
            elif cell.condition in growing and run != self.plan.run_id(cell):
                refilled.setdefault(cell.condition, []).append(line)
        if others:
            commits = ", ".join(sorted({str(line["git"]["commit"])[:10] for line in others}))
            version = f"another version of the code or its defaults (commit {commits})"
            raise ConfigError(
                f"{len(others)} of the study's runs are of {version}, and could not be compared with new ones; show "
                f"that the versions are equivalent: python -m experiments.equivalence {self.path.stem} --records "
                f"{self.path.parent}; or check that "
                "commit out to go on with it, or start anew: --runs FOLDER --records FOLDER"
            )
        if refilled:
            counts = "; ".join(f"{condition}: {len(lines)} recorded runs" for condition, lines in refilled.items())
            raise ConfigError(
                f"{counts} had another model or other data than a new run would, such as files that another processor "
                "made, so they could not be compared; bring those files back, or start anew: --runs FOLDER --records "
                "FOLDER"
            )
        self._check_packages(settled)

    def _check_packages(self, settled: list[tuple[Cell, Line]]) -> None:
        """Refuse to add runs that other versions of torch and the like would make."""
        found: dict[str, str] = {}
        for cell, line in settled:
            now = self.plan.versions(cell)
            others = {name: old for name, old in line["versions"].items() if name in now and now[name] != old}
            found |= {name: f"{name} {old} (here {now[name]})" for name, old in others.items() if name != "lorax_lab"}
        if found:
            raise ConfigError(
                f"the study's runs were made with {', '.join(found.values())}, and new ones could not be compared; "
                "install those versions to go on with it, or start anew: --runs FOLDER --records FOLDER"
            )

    def _check_rates(self, progress: Progress) -> None:
        """Once an arm's final runs are published, its rate stays as chosen. New arms may extend the grid, but the rate
        is not chosen anew, since the test split was read."""
        for cell in self._of_cell:
            selection = progress.selections.get(cell.condition) if cell else None
            if cell and cell.stage == "final" and selection and selection.choices:
                chosen = self.plan.protocol.rate(cell.arm, selection.choices[cell.arm].step)
                if chosen != cell.rate:
                    raise ConfigError(
                        f"{cell.condition}, {cell.arm}: its final runs have the learning rate {cell.rate:g}, and the "
                        f"extended grid now chooses {chosen:g}; take the new arms out, or start anew: --runs FOLDER "
                        "--records FOLDER"
                    )

    def _check_order(self, progress: Progress) -> None:
        """Refuse runs of the store that were recorded before the study was declared."""
        declared = self.before or self._draft()
        first = declared.versions[0].written if declared else None
        lines = [line for cell in progress.cells if cell not in self._of_cell and (line := progress.settled(cell))]
        early = [line["run_id"] for line in lines if first is None or line["written"] < first]
        if early:
            raise ConfigError(
                f"{len(early)} runs in {self.runs} are older than the declaration of {self.path.stem}, such as "
                f"{min(early)}; a study's runs follow what it declares: --runs FOLDER for a folder without them"
            )

    def _draft(self) -> Declaration | None:
        """What lies beside no line yet, where it declares the same as the plan; None where it does not."""
        try:
            found = read_declaration(self.beside) if self.beside.is_file() else None
        except DamagedDeclaration:
            return None
        now = declaration_of(self.plan, self.texts, None) if found else None
        same = found and now and replace(now, written=found.written).sha256 == found.sha256
        return found if same else None

    def declare(self, progress: Progress) -> None:
        """Write the study's declaration before its runs, if it is not written yet, has grown, or lacks a setting that
        the code has now and its new lines will have."""
        prediction = str(self.texts.get("prediction", ""))
        if self.before and not is_grown(self.before, self.plan, prediction) and self._told_alike(self.before):
            complete = not progress.missing and not progress.to_come
            if complete or not self._has_new_settings(self.before):
                return
        self.before = (None if self.before else self._draft()) or declaration_of(self.plan, self.texts, self.before)
        write_declaration(self.beside, self.before)

    def _told_alike(self, before: Declaration) -> bool:
        known = (before.figures, before.control_of, before.texts.get("cost"))
        return known == (self.plan.figures, self.plan.control_of, self.texts.get("cost"))

    def _has_new_settings(self, before: Declaration) -> bool:
        """Whether the plan's cells have other settings than declared, and every published line keeps its cell."""
        if not before.settings:  # format 1 has only overrides, which a new setting leaves as they are
            return False
        now = declaration_of(self.plan, self.texts, before)
        old, new = to_content(before), to_content(now)
        changed = any(old[key] != new[key] for key in ("settings", "neutral", "apart"))
        return changed and all(now.cell_of(line) == cell for cell, line in self._of_cell.items())

    def publish(self, cells: Iterable[Cell]) -> None:
        """Write the lines of those runs that are finished."""
        from lorax_lab.study.published import write_lines

        lines = {str(line["run_id"]): line for cell in cells if (line := self.line(cell)) and line["status"] in SETTLED}
        if any(self.published.get(run) != line for run, line in lines.items()):
            self.published |= lines
            write_lines(self.path, self.published.values())
            self.seal()

    def share(self, progress: Progress) -> None:
        """Measure the directions that pairs of full fine-tunes have in common, seeds of one condition and one seed of
        two, into `<study>_shared.csv`. Only pairs that it lacks are measured, and only if the store has both spectra:
        of a study that grew on another machine the earlier ones are gone."""
        from lorax_lab.study.published import shared_rows, shared_table, write_shared

        path, reference = self.path.with_name(f"{self.path.stem}_shared.csv"), self.plan.protocol.reference
        full = [cell for cell in progress.cells if cell.stage == "final" and cell.arm == reference]
        ends = {(cell.condition, cell.seed): cell for cell in full}
        known, damages = shared_table(path)
        for damage in damages:
            print(f"left out: {damage}", file=sys.stderr)
        known_pairs = [] if known is None else known[list(PAIR)].itertuples(index=False, name=None)
        measured = {frozenset(((a, i), (b, j))) for a, i, b, j in known_pairs}
        pairs = [
            (a, b)
            for a, b in combinations(ends, 2)
            if (a[0] == b[0] or a[1] == b[1]) and frozenset((a, b)) not in measured
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
            write_shared(path, rows)

    def seal(self) -> None:
        """Write the checksums of the study's files that have none."""
        shared = self.path.with_name(f"{self.path.stem}_shared.csv")
        for path in (self.path, self.beside, shared, equivalence_path(self.path)):
            seal(path)


def _declared(path: Path) -> Declaration:
    """A study's declaration.

    Raises:
        ConfigError: it is damaged, and what to do.
    """
    try:
        return read_declaration(path)
    except DamagedDeclaration as error:
        raise ConfigError(
            f"{error}; restore {path} (git checkout -- {path}), or start anew: --runs FOLDER --records FOLDER"
        ) from None
