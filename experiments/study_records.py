"""A study's records: what it declares before its runs, the runs folder, and its published runs.

A study may gain arms, levels of its factors, and a prediction for these. Everything else that was declared stays: the
margin, the seeds, the metric, the grid of rates, the prediction. What is added is recorded with its date.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.study import SETTLED, Line, Plan, Progress, composed
from lorax_lab.config.identity import plain, portable
from lorax_lab.console import bar
from lorax_lab.errors import ConfigError
from lorax_lab.record.record import DamagedRecord
from lorax_lab.study.declaration import (
    ANSWER,
    DECLARATION,
    NEUTRAL,
    DamagedDeclaration,
    Declaration,
    Pair,
    Settings,
    alike,
    decisive,
    read_declaration,
    same,
    write_declaration,
)
from lorax_lab.study.protocol import Cell
from lorax_lab.study.published import line_of, read_lines, shared_rows, write_lines
from lorax_lab.study.rows import SHARED, Afterwards, read_rows, write_rows
from lorax_lab.study.tables import read_table, write_sums, write_table
from lorax_lab.tasks import KINDS

if TYPE_CHECKING:
    from lorax_lab.afterwards.trained import Run

PAIR = ("task", "seed", "other_task", "other_seed")
"""Columns that name a pair of runs."""
OWN_TO_THE_PROTOCOL = ("train.learning_rate", "seed", "measure", "reference")
"""Settings that no arm or level may fix."""
NAMES = ("model", "task.name", "task.path")
"""Settings that hashes replace in a run's identity. Here the settings themselves tell cells apart."""
FIXED = ("reference", "rates", "factor", "selection_seeds", "final_seeds", "margin", "loss_margin", "extensions")
"""The parts of the protocol that stay as they were declared. Were three seeds added to five whose scores are known, an
arm at the margin would pass in .041 of studies, and not in .025."""


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
            draft = read_declaration(self.folder) if (self.folder / DECLARATION).is_file() else None
            if draft:
                check_continues(draft, self.plan, self.texts, self.folder.name)
        except (DamagedDeclaration, ConfigError):
            return None
        return draft

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


def declaration_of(plan: Plan, texts: dict[str, Any], before: Declaration | None = None) -> Declaration:
    """The declaration that is written beside the runs. Of an absolute path it has only the file's name.

    Args:
        texts: question, prediction and cost.
        before: the earlier declaration, which the plan continues.

    Raises:
        ConfigError: two cells that no run could tell apart.
    """
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    declared = replace(_promised(plan, texts), settings=settings_of(plan), scores=_scores(plan), **_meaning(plan))
    if before is None:
        return replace(declared, written=now)
    added = _added(before, declared)
    history = (*before.history, {"date": now[:10], "added": added}) if added else before.history
    return replace(declared, history=history, written=before.written)


def _promised(plan: Plan, texts: dict[str, Any]) -> Declaration:
    """What a plan says by itself, without composing a configuration."""
    return Declaration(
        texts=texts,
        protocol=replace(
            plan.protocol,
            arms=tuple(replace(arm, overrides=_portable(arm.overrides)) for arm in plan.protocol.arms),
        ),
        factors={
            factor: {name: _portable(overrides) for name, overrides in levels.items()}
            for factor, levels in plan.factors.items()
        },
        common=_portable(plan.common),
        final={arm: tuple(overrides) for arm, overrides in plan.final.items()},
        figures=plan.figures,
        control_of=plan.control_of,
        low_share=plan.low_share,
    )


def _portable(overrides: Iterable[str]) -> tuple[str, ...]:
    pairs = [override.partition("=") for override in overrides]
    return tuple(f"{key}{sign}{Path(value).name if Path(value).is_absolute() else value}" for key, sign, value in pairs)


def check_arms(plan: Plan) -> None:
    """Refuse arms and levels that set what the protocol chooses, and names that are not unique.

    Raises:
        ConfigError: names the arm or level, and what to change.
    """
    protocol = plan.protocol
    names = [arm.name for arm in protocol.arms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two arms are called {twice[0]}; give each a name of its own")
    if protocol.reference not in names:
        raise ConfigError(f"reference={protocol.reference} is no arm; arms: {', '.join(names)}")
    parts = {f"arm {arm.name}": arm.overrides for arm in protocol.arms} | {"every run": plan.common}
    parts |= {f"{factor} {name}": o for factor, levels in plan.factors.items() for name, o in levels.items()}
    for name, overrides in parts.items():
        for override in overrides:
            if override.partition("=")[0].lstrip("+~") in OWN_TO_THE_PROTOCOL:
                raise ConfigError(f"{name} fixes {override}, which the protocol chooses; leave it out")
            if override == "train.precision=auto":
                raise ConfigError(f"{name} has {override}, which differs between machines; type train.precision=fp32")
    for arm, overrides in plan.final.items():
        if arm not in names:
            raise ConfigError(f"final={arm} is no arm; arms: {', '.join(names)}")
        if longer := [o for o in overrides if not o.startswith("measure=")]:
            raise ConfigError(f"final of {arm} has {longer[0]}; final runs differ from trials in measure= alone")


def settings_of(plan: Plan) -> dict[Pair, Settings]:
    """Every cell's settings as its runs will have them, by condition and arm.

    Raises:
        ConfigError: two cells have the same, so that no run could tell them apart.
    """
    apart = _meaning(plan)["apart"]
    settings = {pair: decisive(portable(plain(config)), apart) for pair, config in _configs(plan).items()}
    for one, other in alike(settings):
        raise ConfigError(
            f"{' / '.join(one)} and {' / '.join(other)} have the same settings, and no record could tell them apart. "
            "Change one of them. If only task.path differs, also set task.name=NAME in each."
        )
    return settings


def _configs(plan: Plan) -> dict[Pair, Any]:
    return {
        (condition, arm.name): composed((*overrides, *arm.overrides, *plan.common))
        for condition, overrides in plan.conditions.items()
        for arm in plan.protocol.arms
    }


def _meaning(plan: Plan) -> dict[str, Any]:
    """The settings that decide no result, and the neutral values of others, as the configuration's fields say."""
    neutral, apart = dict(NEUTRAL), list[str]()
    for config in _configs(plan).values():
        for key, field in _fields(config):
            if "neutral" in field.metadata:
                neutral[key] = field.metadata["neutral"]
            if not field.metadata.get("decides_result", True) and key not in NAMES:
                apart.append(key)
    return {"neutral": neutral, "apart": tuple(dict.fromkeys(apart))}


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{prefix}{field.name}.")
        yield prefix + field.name, field


def _scores(plan: Plan) -> dict[str, tuple[str, bool]]:
    """The primary metric of each condition, and whether higher is better."""
    scores = {}
    for (condition, arm), config in _configs(plan).items():
        if arm == plan.protocol.reference:
            metrics = KINDS[config.task.kind].metrics
            name = config.task.metric or next(iter(metrics))
            scores[condition] = (name, metrics[name].higher_is_better)
    return scores


def check_continues(before: Declaration, plan: Plan, texts: dict[str, Any], name: str) -> None:
    """Refuse a plan that changes what was declared before runs that are recorded.

    Raises:
        ConfigError: names every change, and what to type.
    """
    if changes := list(broken_promises(before, _promised(plan, texts))):
        raise ConfigError(
            f"{name} has runs, and its declaration changed: {'; '.join(changes)}. Undo this in experiments/{name}.py "
            "(arms and levels may be added), or start a study of its own: --runs FOLDER --records FOLDER"
        )


def broken_promises(before: Declaration, now: Declaration) -> Iterator[str]:
    """What an earlier declaration said and a later one says otherwise."""
    for key in FIXED:
        yield from _change(key, getattr(before.protocol, key), getattr(now.protocol, key))
    for key in ("common", "control_of", "low_share"):
        yield from _change(key, getattr(before, key), getattr(now, key))
    arms = {arm.name: arm for arm in now.protocol.arms}
    for arm in before.protocol.arms:
        yield from _change(f"the arm {arm.name}", arm, arms.get(arm.name))
        yield from _change(f"final overrides of {arm.name}", before.final.get(arm.name), now.final.get(arm.name))
    yield from _change("factors", list(before.factors), list(now.factors))
    for factor, levels in before.factors.items():
        for name, overrides in levels.items():
            yield from _change(f"{factor} {name}", overrides, now.factors.get(factor, {}).get(name))
    if before.has_answer and not now.has_answer:
        yield f"the figure {ANSWER} is gone, and with it the verdict"
    for key in ("question", "budget"):
        if _words(before, key) != _words(now, key):
            yield f"the {key} was changed"
    if _words(now, "prediction")[: len(_words(before, "prediction"))] != _words(before, "prediction"):
        yield "the prediction was changed (a new one may follow the old text)"


def _change(key: str, was: object, present: object) -> Iterator[str]:
    if was != present:
        yield f"{key} was {_text(was)} and is {_text(present)}"


def _text(value: object) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)


def _words(declared: Declaration, key: str) -> list[str]:
    return str(declared.texts.get(key, "")).split()


def is_grown(before: Declaration, plan: Plan, texts: dict[str, Any]) -> bool:
    """Whether a plan declares more than before, or says it in other words."""
    now = _promised(plan, texts)
    first, second = ((declared.texts, declared.figures, declared.control_of) for declared in (before, now))
    return bool(_added(before, now)) or first != second


def has_new_settings(before: Declaration, now: Declaration) -> bool:
    """Whether cells that both declare have a setting that the earlier one does not know."""
    both = before.settings.keys() & now.settings.keys()
    return any(now.settings[pair].keys() - before.settings[pair].keys() for pair in both)


def moved_settings(before: Declaration, now: Declaration) -> list[str]:
    """Settings of cells that both declare and that differ, as where a default changed."""
    return [
        f"{key} of {', '.join(pair)} was {declared[key]} and is {now.settings[pair].get(key)}"
        for pair, declared in before.settings.items()
        if pair in now.settings
        for key in declared
        if not same(declared, now.settings[pair], key, now.neutral)
    ]


def _added(before: Declaration, now: Declaration) -> dict[str, Any]:
    earlier = {arm.name for arm in before.protocol.arms}
    added: dict[str, Any] = {"arms": [arm.name for arm in now.protocol.arms if arm.name not in earlier]}
    for factor, levels in now.factors.items():
        added[factor] = [name for name in levels if name not in before.factors.get(factor, {})]
    added["prediction"] = " ".join(_words(now, "prediction")[len(_words(before, "prediction")) :])
    return {key: value for key, value in added.items() if value}
