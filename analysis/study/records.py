"""One study as it was published: what was declared, its lines sorted into trials and final runs, what is damaged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.store.protocol import Arm, Cell, Protocol, cell_of
from lorax_lab.store.published import Line, read_lines

if TYPE_CHECKING:
    import pandas as pd

RECORDS = Path(__file__).parents[2] / "experiments" / "records"


class NoStudy(ValueError):
    """There are no records of the study that is asked for; says what to type."""


@dataclass(frozen=True)
class Records:
    """A study's records.

    Attributes:
        name: the file's stem, as `rank_sweep`.
        declared: what was written beside the lines: question, prediction, tasks, protocol.
        lines: the intact ones.
        damages: what is wrong with the others.
        shared: the table of directions that full fine-tunes have in common, None where there is none.
    """

    name: str
    declared: dict[str, Any]
    lines: list[Line]
    damages: list[str]
    shared: pd.DataFrame | None = None

    @cached_property
    def rules(self) -> Protocol:
        """The protocol that was declared."""
        told = dict(self.declared["protocol"])
        arms = tuple(Arm(arm["name"], tuple(arm["words"]), arm["lowest"]) for arm in told.pop("arms"))
        told |= {key: tuple(told[key]) for key in ("selection_seeds", "final_seeds")}
        return Protocol(arms=arms, **told)

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks that were declared."""
        return list(self.declared["tasks"])

    def of(self, task: str, stage: str) -> list[Line]:
        """The lines of a task's trials or final runs."""
        return list(self._sorted.get((task, stage), []))

    @cached_property
    def _sorted(self) -> dict[tuple[str, str], list[Line]]:
        found: dict[tuple[str, str], list[Line]] = {}
        for line in self.lines:
            if cell := self.cell(line):
                found.setdefault((cell.task, cell.stage), []).append(line)
        return found

    def arm_of(self, line: Line) -> str | None:
        """The arm that a line belongs to; None where it is none of the study's."""
        cell = self.cell(line)
        return cell.arm if cell else None

    def cell(self, line: Line) -> Cell | None:
        """Which of the study's runs a line is of."""
        return cell_of(self.rules, self.tasks, line)


def load(path: Path) -> Records:
    """The study at `<folder>/<name>.jsonl`, with what was declared beside it.

    Raises:
        NoStudy: no such file, or nothing declared.
    """
    import pandas as pd

    beside = path.with_suffix(".json")
    if not path.is_file() or not beside.is_file():
        what = f"there are no records of a study at {path} (with {beside.name} beside it)"
        raise NoStudy(f"{what}; type: python -m experiments.{path.stem}")
    lines, damages = read_lines(path)
    shared = path.with_name(f"{path.stem}_shared.csv")
    declared = json.loads(beside.read_text(encoding="utf-8"))
    return Records(path.stem, declared, lines, damages, pd.read_csv(shared) if shared.is_file() else None)


def rate_of(line: Line) -> float:
    """The learning rate."""
    return float(line["config"]["train"]["learning_rate"])


def score_of(line: Line, split: str) -> float:
    """The primary metric on a split; NaN where it was not read."""
    value = line.get("metrics", {}).get(f"{split}/{line.get('metric')}")
    return float("nan") if value is None else float(value)
