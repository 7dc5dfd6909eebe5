"""A study's records: the store that they come from, and the lines that are published of them."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

from experiments.study import Line, Plan, Progress


class Book:
    """Lines by run, from the store and from what was published before.

    Args:
        path: of the published lines, `<study>.jsonl`.
        runs: the store.
    """

    def __init__(self, path: Path, runs: Path) -> None:
        from lorax_lab.published import read_lines

        self.path, self.runs = path, runs
        lines, damages = read_lines(path)
        self.published = {str(line["run_id"]): line for line in lines}
        self._read: dict[tuple[str, int], Line] = {}
        for damage in damages:
            print(f"left out, and to be run again: {damage}", file=sys.stderr)

    def line(self, run: str) -> Line | None:
        """A run's line; what the store has counts before what was published."""
        from lorax_lab.published import line_of
        from lorax_lab.record import DamagedRecord

        path = self.runs / run / "record.json"
        try:
            key = (run, path.stat().st_mtime_ns)
            if key not in self._read:
                self._read[key] = line_of(path.parent)
            return self._read[key]
        except FileNotFoundError:
            return self.published.get(run)
        except (DamagedRecord, OSError) as error:
            print(f"left out, and to be run again: {error}", file=sys.stderr)
            return self.published.get(run)

    def check_code(self, progress: Progress) -> None:
        """Refuse to go on with records of another version of the code: they could not be compared.

        Raises:
            ConfigError: there is one among the study's runs.
        """
        from lorax_lab.config import ConfigError
        from lorax_lab.provenance import code_sha256

        lines = [line for cell in progress.cells if (line := progress.found(cell))]
        others = [line for line in lines if line["code"] != code_sha256()]
        if others:
            commits = ", ".join(sorted({str(line["git"]["commit"])[:10] for line in others}))
            what = f"{len(others)} of the study's runs are of another version of the code (commit {commits})"
            how = "check that commit out to go on with them, or start anew: --runs FOLDER --records FOLDER"
            raise ConfigError(f"{what}, and could not be compared with new ones; {how}")

    def publish(self, runs: Iterable[str], plan: Plan, about: dict[str, Any]) -> None:
        """Write the lines of these runs, and beside them what was declared beforehand."""
        from lorax_lab.files import write_text
        from lorax_lab.published import write_lines

        self.published |= {run: line for run in runs if (line := self.line(run))}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_lines(self.path, self.published.values())
        tasks = {task: [w for w in words if not w.startswith("task.path=")] for task, words in plan.tasks.items()}
        declared = about | {"tasks": tasks, "protocol": dataclasses.asdict(plan.rules)}
        write_text(self.path.with_suffix(".json"), json.dumps(declared, indent=1, ensure_ascii=False) + "\n")

    def share(self, progress: Progress) -> None:
        """Measure the directions that pairs of full fine-tunes have in common, seeds of one task and one seed of two
        tasks, into `<study>_shared.csv`; once, and as long as the store has their spectra."""
        import pandas as pd

        from lorax_lab.files import write_text
        from lorax_lab.published import shared_rows

        path, rules = self.path.with_name(f"{self.path.stem}_shared.csv"), progress.plan.rules
        if path.is_file():
            return
        full = [cell for cell in progress.cells if cell.stage == "final" and cell.arm == rules.reference]
        folders = {(cell.task, cell.seed): self.runs / progress.plan.run_id(cell) for cell in full}
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
