"""One study as it was published: its declaration, its trials and final runs, and its damaged lines."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lorax_lab.errors import ConfigError, in_short, suggest
from lorax_lab.record.direction import of_lines, scored_on
from lorax_lab.study.declaration import DECLARATION, Declaration, read_declaration
from lorax_lab.study.protocol import Cell, Protocol
from lorax_lab.study.published import COLLAPSED, HEADS, RUNS, SHARED, Afterwards, Line, names_of, read_lines, read_rows
from lorax_lab.study.tables import read_table

from ..scores import SCORED, UNIT, UNITS, directed

RECORDS = Path(__file__).parents[2] / "experiments" / "records"

NAMED = 3
"""Up to so many models are named in a caption."""
OUTCOME = "outcome.md"
"""What came out of the prediction, in words, in the folder of the records."""
BASE = "base"
"""The factor whose levels are compared with each other, task by task."""
KEPT = 16
"""How many studies' results stay cached while their figures and pages are made."""


@dataclass(frozen=True, eq=False)
class Records:
    """A study's records. Each object is equal only to itself, so results computed from it can be cached.

    Attributes:
        name: that of its folder, as `rank_sweep`.
        declared: the declaration beside the runs: question, prediction, grid, arms, protocol.
        lines: its runs.
        damages: what is wrong with its rows, a sentence each.
        shared: the table of directions that full fine-tunes have in common, None where there is none.
        rows: what was measured of its final runs afterwards, by name.
        heads: by condition, the line of a head alone that was trained to convergence.
        outcome: what came out of the prediction, as Markdown for the study's page; empty where nobody wrote it.
    """

    name: str
    declared: Declaration
    lines: list[Line]
    damages: list[str] = field(default_factory=list)
    shared: pd.DataFrame | None = None
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    heads: dict[str, Line] = field(default_factory=dict)
    outcome: str = ""

    @property
    def protocol(self) -> Protocol:
        return self.declared.protocol

    def against(self, arm: str) -> "Records":
        """The same with another arm as the reference."""
        return replace(self, declared=replace(self.declared, protocol=replace(self.protocol, reference=arm)))

    @cached_property
    def conditions(self) -> list[str]:
        """The conditions within which arms are compared, such as tasks; the column `task` of every table. While a study
        runs these are the ones of which every arm has a final run; before the first, all."""
        declared, arms = list(self.declared.conditions), {arm.name for arm in self.protocol.arms}
        return [name for name in declared if arms <= set(map(self.arm_of, self.lines_in(name, "final")))] or declared

    @property
    def to_come(self) -> list[str]:
        """The declared conditions of which some arm has no final run yet, while another has those of all."""
        return [condition for condition in self.declared.conditions if condition not in self.conditions]

    @property
    def condition_word(self) -> str:
        """What one of them is called: a study may vary something else than tasks."""
        return "task" if set(self.declared.factors) <= {"task"} else "condition"

    def lines_in(self, condition: str, stage: str) -> list[Line]:
        """The lines of a condition's trials or final runs."""
        return list(self._sorted.get((condition, stage), []))

    def on_all_bases(self, condition: str) -> list[str]:
        """The conditions that differ from this one in their base alone, and itself."""
        levels = self.declared.levels
        return [name for name in self.conditions if levels[name] | {BASE: ""} == levels[condition] | {BASE: ""}]

    def _all_in(self, condition: str) -> list[Line]:
        return [*self.lines_in(condition, "final"), *self.lines_in(condition, "trial")]

    @cached_property
    def _sorted(self) -> dict[tuple[str, str], list[Line]]:
        lines: dict[tuple[str, str], list[Line]] = {}
        for line in self.lines:
            if cell := self.cell(line):
                lines.setdefault((cell.condition, cell.stage), []).append(line)
        return lines

    def arm_of(self, line: Line) -> str | None:
        """The arm that a line belongs to; None where it is none of the study's."""
        cell = self.cell(line)
        return cell.arm if cell else None

    def cell(self, line: Line) -> Cell | None:
        """Which of the study's runs a line is of."""
        return self._cells[line["run_id"]]

    def higher_is_better(self, condition: str) -> bool:
        """Of the scores of a condition."""
        return of_lines(self._all_in(condition))

    def metric(self, condition: str) -> str:
        """The primary metric of a condition; nothing where no run has a score and none was declared."""
        declared = self.declared.scores.get(condition, ("", True))[0]
        return next((str(line["metric"]) for line in self._all_in(condition) if "metric" in line), declared)

    @property
    def margin(self) -> str:
        """The declared margin, with its unit where the conditions have one in common."""
        units = {UNITS.get(self.metric(name), "") for name in self.conditions}
        return f"{self.protocol.margin:g} {units.pop() if len(units) == 1 else ''}".strip()

    def scored_on(self, condition: str, split: str = "test") -> str:
        """The split in words: `training` where the condition's task is memorised."""
        return next((scored_on(line["config"], split) for line in self.lines_in(condition, "final")), split)

    def model(self, condition: str) -> str:
        """The base of a condition's runs, as it was typed; nothing where there is no run."""
        return next((str(line["config"]["model"]) for line in self._all_in(condition)), "")

    @property
    def modules(self) -> list[str]:
        """The types of matrix that final runs measured, in the order of the model."""
        finals = (line for name in self.conditions for line in self.lines_in(name, "final"))
        return list(dict.fromkeys(row["module"] for line in finals for row in line.get("matrices", {}).values()))

    def trial(self, cell: Cell) -> Line | None:
        return self._trials.get(cell)

    @cached_property
    def _cells(self) -> dict[str, Cell | None]:
        return {line["run_id"]: self.declared.cell_of(line) for line in self.lines}

    @cached_property
    def _trials(self) -> dict[Cell, Line]:
        return {cell: line for line in self.lines if (cell := self.cell(line)) and cell.stage == "trial"}


def load(folder: Path) -> Records:
    """The study in `<records>/<name>`, with what was declared beside its runs. Rows of no published run are named in
    `damages`.

    Raises:
        ConfigError: no such folder, no run yet, or its declaration or its runs cannot be read.
    """
    if not (folder / RUNS).is_file():
        absent = f"there are no records of a study in {folder}"
        if (names := names_in(folder.parent)) and not (folder / DECLARATION).is_file():
            raise ConfigError(f"{absent}; {suggest(folder.name, names)}")
        raise ConfigError(f"{absent}; type: python -m experiments {folder.name}")
    try:
        heads = _heads(folder)
        declared, lines = read_declaration(folder), read_lines(folder)
        measured = {name: read_rows(folder, name) for name in names_of(folder)}
        path = folder / SHARED
        shared = pd.read_parquet(path, page_checksum_verification=True) if path.is_file() else None
        outcome = (folder / OUTCOME).read_text(encoding="utf-8") if (folder / OUTCOME).is_file() else ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        more = f"{in_short(error)}; restore it: git checkout -- {folder}"
        raise ConfigError(f"{folder.name} cannot be read: {more}") from None
    damages: list[str] = []
    records = Records(folder.name, declared, lines, damages, shared, heads=heads, outcome=outcome)
    for name, by_condition in measured.items():
        records.rows[name], faults = _of_published_runs(records, by_condition)
        damages += [f"{folder.name}/{name}: {text}" for text in faults]
    return records


def names_in(folder: Path) -> list[str]:
    """The names of the studies of which a folder has runs."""
    return sorted(path.parent.name for path in folder.glob(f"[!.]*/{RUNS}"))


def _heads(folder: Path) -> dict[str, Line]:
    path = folder.parent / HEADS
    rows = [row for row in read_table(path) if row["study"] == folder.name] if path.is_file() else []
    return {row["condition"]: row | {"metrics": {f"test/{row['metric']}": row["test"]}} for row in rows}


def _of_published_runs(records: Records, measured: Mapping[str, Afterwards]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows that were measured of the published final runs; and why those of other runs have no place."""
    rows = list[dict[str, Any]]()
    faults = [
        f"{name} is no condition of the study; its rows are not read" for name in measured.keys() - records.conditions
    ]
    for condition in (name for name in records.conditions if name in measured):
        of_condition = measured[condition]
        finals = [line for line in records.lines_in(condition, "final") if line["status"] == "completed"]
        if of_condition.runs != sorted(line["run_id"] for line in finals):
            faults.append(f"{condition} was measured of other runs than the published ones; measure it again")
        else:
            rows += of_condition.rows
    return rows, faults


def every(records: Records, of_condition: Callable[..., pd.DataFrame], *more: str) -> pd.DataFrame:
    """The tables of all conditions, one under the other."""
    return pd.concat([of_condition(records, name, *more) for name in records.conditions], ignore_index=True)


def with_model(records: Records, table: pd.DataFrame) -> pd.DataFrame:
    """A figure's table with the base of each condition, for its caption."""
    return table.assign(model=table["task"].map(records.model))


def models_of(table: pd.DataFrame) -> str:
    """The bases of a figure's runs, in words: their names, or how many there are."""
    names = list(dict.fromkeys(table["model"]))
    return ", ".join(names) if len(names) <= NAMED else f"{len(names)} models"


def with_direction(records: Records, table: pd.DataFrame) -> pd.DataFrame:
    """A figure's table, whose column `task` has the conditions, with the direction of the scores where lower ones are
    better in any condition, what they are counted in where any metric has a unit, and what they are of where any
    condition's task is memorised."""
    split = {name: records.scored_on(name, "") for name in records.conditions}
    table = table.assign(**{SCORED: table["task"].map(split)}) if any(split.values()) else table
    units = table["task"].map(lambda name: UNITS.get(records.metric(name), ""))
    table = table.assign(**{UNIT: units}) if (units != "").any() else table
    return directed(table, table["task"].map(records.higher_is_better))


def rate_of(line: Line) -> float:
    return float(line["config"]["train"]["learning_rate"])


def has_collapsed(line: Line) -> bool:
    """Whether the run is flagged as collapsed; no line that is older than the flag is."""
    return bool(line.get(COLLAPSED))


def collapsed(records: Records) -> str:
    """How many of the study's runs collapsed, in words, or nothing."""
    parts = []
    for name, stage in (("final runs", "final"), ("trials", "trial")):
        lines = [line for line in records.lines if (cell := records.cell(line)) and cell.stage == stage]
        if count := sum(map(has_collapsed, lines)):
            parts.append(f"{count} of {len(lines)} {name}")
    return f"{' and '.join(parts)} collapsed; none is left out" if parts else ""


def hours_of(lines: Iterable[Line]) -> str:
    """The sum of the times of runs, in words. A line that several studies have counts once; a run that was trained
    again counts again; one that diverged has no time."""
    seconds = {(line["run_id"], line["written"]): line.get("time", {}).get("total_seconds", 0.0) for line in lines}
    return f"{sum(seconds.values()) / 3600:.1f} hours"


def score_of(line: Line, split: str) -> float:
    """The primary metric on a split; NaN where it was not read."""
    value = line.get("metrics", {}).get(f"{split}/{line.get('metric')}")
    return float("nan") if value is None else float(value)
