"""A study's records: the store that they come from, and the lines that are published of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from experiments.study import SETTLED, Line, Plan, Progress
from lorax_lab.store.protocol import Cell, cell_of


class StudyRecords:
    """A study's lines, from the store and from what was published before.

    Args:
        path: of the published lines, `<study>.jsonl`; what was declared lies beside it.
        runs: the store.

    Raises:
        ConfigError: what was published is of another plan than this.
    """

    def __init__(self, path: Path, runs: Path, plan: Plan) -> None:
        from lorax_lab.store.published import read_lines

        self.path, self.runs, self.plan = path, runs, plan
        lines, damages = read_lines(path)
        self.published = {str(line["run_id"]): line for line in lines}
        self._of_cell = {cell_of(plan.rules, list(plan.tasks), line): line for line in lines}
        self._read: dict[tuple[str, int], Line] = {}
        if lines:
            self._check_plan()
        for damage in damages:
            print(f"left out, and to be run again: {damage}", file=sys.stderr)

    def line(self, cell: Cell) -> Line | None:
        """A run's line: what was published counts before what the store has."""
        from lorax_lab.store.published import line_of
        from lorax_lab.store.record import DamagedRecord

        if cell in self._of_cell:
            return self._of_cell[cell]
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

    def check_comparable(self, progress: Progress) -> None:
        """Refuse to add runs to those of another version of the code or of its defaults. A study that is complete
        stays so, whatever became of the code.

        Raises:
            ConfigError: runs are missing, and there are others that could not be compared with them.
        """
        from lorax_lab.errors import ConfigError
        from lorax_lab.store.provenance import code_sha256

        if not progress.missing:
            return
        found = [(cell, line) for cell in progress.cells if (line := progress.found(cell))]
        code = code_sha256()
        others = [x for cell, x in found if (x["code"], x["run_id"]) != (code, self.plan.run_id(cell))]
        if others:
            commits = ", ".join(sorted({str(line["git"]["commit"])[:10] for line in others}))
            version = f"another version of the code or its defaults (commit {commits})"
            what = f"{len(others)} of the study's runs are of {version}"
            how = "check that commit out to go on with them, or start anew: --runs FOLDER --records FOLDER"
            raise ConfigError(f"{what}, and could not be compared with new ones; {how}")

    def publish(self, cells: Iterable[Cell], about: dict[str, Any]) -> None:
        """Write the lines of these runs that are settled, and beside them what was declared beforehand."""
        from lorax_lab.store.files import write_text
        from lorax_lab.store.published import write_lines

        beside = self.path.with_suffix(".json")
        lines = {str(line["run_id"]): line for cell in cells if (line := self.line(cell)) and line["status"] in SETTLED}
        if all(self.published.get(run) == line for run, line in lines.items()) and beside.is_file():
            return
        self.published |= lines
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_lines(self.path, self.published.values())
        write_text(beside, json.dumps(about | _declared(self.plan), indent=1, ensure_ascii=False) + "\n")

    def _check_plan(self) -> None:
        from lorax_lab.errors import ConfigError

        beside = self.path.with_suffix(".json")
        told = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
        changed = [key for key, value in _declared(self.plan).items() if told.get(key) != value]
        if changed:
            what = f"the runs in {self.path} are of another plan of this study: {' and '.join(changed)} changed"
            raise ConfigError(f"{what}; start anew: --runs FOLDER --records FOLDER")

    def share(self, progress: Progress) -> None:
        """Measure the directions that pairs of full fine-tunes have in common, seeds of one task and one seed of two
        tasks, into `<study>_shared.csv`; once, and as long as the store has their spectra."""
        import pandas as pd

        from lorax_lab.store.files import write_text
        from lorax_lab.store.published import shared_rows

        path, rules = self.path.with_name(f"{self.path.stem}_shared.csv"), self.plan.rules
        if path.is_file():
            return
        full = [cell for cell in progress.cells if cell.stage == "final" and cell.arm == rules.reference]
        folders = {(cell.task, cell.seed): self.runs / self.plan.run_id(cell) for cell in full}
        if not all((folder / "spectra.npz").is_file() for folder in folders.values()):
            print("the runs' spectra are not here any more, so the directions they share are not measured")
            return
        pairs = [(a, b) for a, b in combinations(folders, 2) if a[0] == b[0] or a[1] == b[1]]
        rows: list[dict[str, Any]] = []
        for number, (one, other) in enumerate(pairs, 1):
            about = {"task": one[0], "seed": one[1], "other_task": other[0], "other_seed": other[1]}
            rows += [about | row for row in shared_rows(folders[one], folders[other])]
            print(f"shared directions: {number} of {len(pairs)} pairs", flush=True)
        write_text(path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def _declared(plan: Plan) -> dict[str, Any]:
    """The plan as it is written beside the lines, of every file its name alone."""
    tasks = {task: _portable(words) for task, words in plan.tasks.items()}
    told = {"tasks": tasks, "common": _portable(plan.common), "final": plan.final, "protocol": asdict(plan.rules)}
    return dict(json.loads(json.dumps(told)))


def _portable(words: Iterable[str]) -> list[str]:
    pairs = [word.partition("=") for word in words]
    return [f"{key}{sign}{Path(value).name if Path(value).is_absolute() else value}" for key, sign, value in pairs]
