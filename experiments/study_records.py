"""A study's records: what it declares before its runs, the runs folder, and its published runs.

A study may gain arms, levels of its factors, and a prediction for these. What else decides its numbers stays: the
margin, the seeds, the metric, the grid of rates. What is added is recorded with its date.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.study import DESIGN, SETTLED, Line, Plan, Progress, composed
from lorax_lab.config.identity import plain, portable
from lorax_lab.console import bar
from lorax_lab.errors import ConfigError
from lorax_lab.record.record import RECORD, DamagedRecord
from lorax_lab.study import published
from lorax_lab.study.declaration import (
    DECLARATION,
    NEUTRAL,
    Declaration,
    Pair,
    Settings,
    decisive,
    read_declaration,
    same,
    write_declaration,
)
from lorax_lab.study.protocol import Cell
from lorax_lab.study.published import Afterwards
from lorax_lab.tasks import KINDS

if TYPE_CHECKING:
    from lorax_lab.afterwards.trained import Run

OWN_TO_THE_PROTOCOL = ("train.learning_rate", "seed", "measure", "reference")
"""Settings that no arm or level may fix."""
NAMES = ("model", "task.name", "task.path")
"""Settings that hashes replace in a run's identity. Here the settings themselves tell cells apart."""
START_ANEW = "start anew: --runs FOLDER --records FOLDER"


class StudyRecords:
    """A study's runs, from the runs folder and from what was published before.

    Args:
        folder: of the published runs and their declaration, `<records>/<study>`.
        runs: the runs folder.
        texts: what the study is to a reader: its module, question, prediction, cost.

    Raises:
        ConfigError: the published runs belong to another plan, and this plan does not continue it.
    """

    def __init__(self, folder: Path, runs: Path, plan: Plan, texts: dict[str, Any]) -> None:
        check_arms(plan)
        self.folder, self.runs, self.plan, self.texts = folder, runs, plan, texts
        lines = published.read_lines(folder)
        self.before = read_declaration(folder) if (folder / DECLARATION).is_file() or lines else None
        if self.before and (changes := broken_promises(self.before, _promised(plan, texts))):
            if lines:
                raise ConfigError(
                    f"{folder.name} has runs, and its declaration changed: {'; '.join(changes)}. Undo this in "
                    f"the study's plan (arms and levels may be added), or {START_ANEW}"
                )
            self.before = None  # nothing was run under it
        self.published = {str(line["run_id"]): line for line in lines}
        self.of_cell = {cell: line for line in lines if self.before and (cell := self.before.cell_of(line))}

    def progress(self, wanted: Callable[[Cell], bool]) -> Progress:
        finals = frozenset(cell for cell in self.of_cell if cell.stage == "final")
        return Progress(self.plan, self.line, wanted, finals)

    def line(self, cell: Cell) -> Line | None:
        """A run as it is published, or as it will be; None where it is not recorded."""
        if cell in self.of_cell:
            return self.of_cell[cell]
        folder = self.runs / self.plan.run_id(cell)
        try:
            return _read_line(folder, (folder / RECORD).stat().st_mtime_ns)
        except FileNotFoundError:
            return None
        except (DamagedRecord, OSError) as error:
            print(f"left out, and to be run again: {error}", file=sys.stderr)
            return None

    def check(self, progress: Progress) -> None:
        """Refuse before training if a published rate would change, cells have equal settings, or a setting has another
        value than declared."""
        self._check_rates(progress)
        declared = declaration_of(self.plan, self.texts, self.before) if progress.missing else None
        if declared and self.before and self.published and (moved := moved_settings(self.before, declared)):
            raise ConfigError(
                f"{'; '.join(moved[:3])}: new runs could not be compared with the study's; write the old value "
                f"into the study's plan, or {START_ANEW}"
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
                        f"extended grid now chooses {chosen:g}; take the new arms out, or {START_ANEW}"
                    )

    def declare(self, progress: Progress) -> None:
        """Write the study's declaration before its runs, if it is not written yet, has grown, or lacks a setting that
        the code has now and its new runs will have."""
        now = _promised(self.plan, self.texts)
        grown = any(getattr(self.before, name, None) != getattr(now, name) for name in ("texts", *DESIGN))
        if not grown and not progress.missing:
            return
        declared = declaration_of(self.plan, self.texts, self.before)
        if declared != self.before:
            write_declaration(self.folder, declared)
        self.before = declared

    def publish(self, cells: Iterable[Cell]) -> None:
        """Write those runs that are finished."""
        lines = [line for cell in cells if (line := self.line(cell)) and line["status"] in SETTLED]
        new = {str(line["run_id"]): line for line in lines if line is not self.published.get(str(line["run_id"]))}
        if new:
            merged = self.published | new
            published.write_lines(self.folder, merged.values())
            self.published = merged  # last: where the tables were not all written, the next call writes them

    def measure(self, progress: Progress) -> None:
        """Measure what the plan asks for and a table lacks, condition by condition.

        A condition is measured whole, or not at all. It is left out where not all its final runs are asked for. Where
        the runs folder has not every run, as of a study that grew on another machine, or where a run diverged, it is
        also named. It is measured again where its rows are of other runs than the study's; where a plan asks for other
        rows, remove the table.
        """
        for name, rows_of in self.plan.afterwards.items():
            measured = published.read_rows(self.folder, name)
            for condition in self.plan.conditions:
                finals = [cell for cell in progress.cells if cell.stage == "final" and cell.condition == condition]
                if len(finals) < len(self.plan.protocol.arms) * len(self.plan.protocol.final_seeds):
                    continue
                runs = self._completed(progress, finals)
                ids = sorted(run.folder.name for run in runs.values())
                if condition in measured and measured[condition].runs == ids:
                    table = self.folder / f"{name}.parquet"
                    print(f"{condition}: {name} is measured; if the plan now asks for other rows, first remove {table}")
                    continue
                if lacking := len(finals) - sum((run.folder / RECORD).is_file() for run in runs.values()):
                    reason = f"{lacking} of {len(finals)} final runs diverged or are not in {self.runs}"
                    print(f"{condition}: {reason}, so {name} is not measured")
                    continue
                print(f"{condition}: measuring {name} of {len(runs)} runs", flush=True)
                rows = list[dict[str, Any]]()
                with bar(f"{condition}: rows of {name}") as on_done:
                    for row in rows_of(runs):
                        rows.append(row)
                        on_done(len(rows), None)
                measured[condition] = Afterwards(ids, rows)
                published.write_rows(self.folder, name, measured)

    def _completed(self, progress: Progress, cells: Iterable[Cell]) -> dict[tuple[str, int], Run]:
        from lorax_lab.afterwards.trained import Run

        lines = {cell: progress.settled(cell) for cell in cells}
        return {
            (cell.arm, cell.seed): Run(composed(tuple(self.plan.overrides(cell))), self.runs / self.plan.run_id(cell))
            for cell, line in lines.items()
            if line and line["status"] == "completed"
        }


@lru_cache(maxsize=4096)
def _read_line(folder: Path, written: int) -> Line:
    """A run's line, once for each time at which its record was `written`."""
    return published.line_of(folder)


def declaration_of(plan: Plan, texts: dict[str, Any], before: Declaration | None = None) -> Declaration:
    """The declaration that is written beside the runs; `before` is the one which the plan continues. Of an absolute
    path it has only the file's name."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    declared = replace(_promised(plan, texts), settings=settings_of(plan), scores=_scores(plan), **_meaning(plan))
    if before is None:
        return replace(declared, written=now)
    added = _added(before, declared)
    history = (*before.history, {"date": now[:10], "added": added}) if added else before.history
    return replace(declared, history=history, written=before.written)


def _promised(plan: Plan, texts: dict[str, Any]) -> Declaration:
    """What a plan says by itself, without composing a configuration."""
    design = {name: getattr(plan, name) for name in DESIGN}
    arms = tuple(replace(arm, overrides=_portable(arm.overrides)) for arm in plan.protocol.arms)
    design |= {"protocol": replace(plan.protocol, arms=arms), "common": _portable(plan.common)}
    design["factors"] = {
        factor: {name: _portable(overrides) for name, overrides in levels.items()}
        for factor, levels in plan.factors.items()
    }
    return Declaration(texts=texts, **design)


def _portable(overrides: Iterable[str]) -> tuple[str, ...]:
    pairs = [override.partition("=") for override in overrides]
    return tuple(f"{key}{sign}{Path(value).name if Path(value).is_absolute() else value}" for key, sign, value in pairs)


def check_arms(plan: Plan) -> None:
    """Refuse arms and levels that set what the protocol chooses, and names that are not unique."""
    names = [arm.name for arm in plan.protocol.arms]
    if len(set(names)) < len(names) or not {plan.protocol.reference, *plan.final, *plan.against} <= set(names):
        raise ConfigError(
            f"reference, final and against name arms, and each arm has a name of its own; arms: {', '.join(names)}"
        )
    parts = {f"arm {arm.name}": arm.overrides for arm in plan.protocol.arms} | {"every run": plan.common}
    parts |= {f"{factor} {name}": o for factor, levels in plan.factors.items() for name, o in levels.items()}
    for name, override in ((name, override) for name, overrides in parts.items() for override in overrides):
        if override.partition("=")[0].lstrip("+~") in OWN_TO_THE_PROTOCOL:
            raise ConfigError(f"{name} fixes {override}, which the protocol chooses; leave it out")
        if override == "train.precision=auto":
            raise ConfigError(f"{name} has {override}, which differs between machines; type train.precision=fp32")
    for arm, overrides in plan.final.items():
        if longer := [o for o in overrides if not o.startswith("measure=")]:
            raise ConfigError(f"final of {arm} has {longer[0]}; final runs differ from trials in measure= alone")


def settings_of(plan: Plan) -> dict[Pair, Settings]:
    """Every cell's settings as its runs will have them, by condition and arm. Two cells that have the same are refused:
    no run could tell them apart."""
    apart = _meaning(plan)["apart"]
    settings = {pair: decisive(portable(plain(config)), apart) for pair, config in _configs(plan).items()}
    for (first, one), (second, another) in combinations(settings.items(), 2):
        if all(same(one, another, key, {}) for key in one.keys() | another.keys()):
            raise ConfigError(
                f"{' / '.join(first)} and {' / '.join(second)} have the same settings, and no record could tell them "
                "apart. Change one of them. If only task.path differs, also set task.name=NAME in each."
            )
    return settings


def _configs(plan: Plan) -> dict[Pair, Any]:
    return {
        (condition, arm.name): composed(tuple(plan.overrides_of_cell(condition, arm)))
        for condition in plan.conditions
        for arm in plan.protocol.arms
    }


def _meaning(plan: Plan) -> dict[str, Any]:
    """The settings that decide no result, and the neutral values of others, as the configuration's fields say. A
    setting that has another neutral value under another method, as `method.others` of full and of LoRA, has none here:
    absent it is unlike all its values."""
    metadata = [pair for config in _configs(plan).values() for pair in _metadata(config)]
    of_key: dict[str, list[Any]] = {}
    for key, fixed in metadata:
        if "neutral" in fixed:
            of_key.setdefault(key, []).append(fixed["neutral"])
    neutral = {key: values[0] for key, values in of_key.items() if all(value == values[0] for value in values)}
    apart = dict.fromkeys(key for key, fixed in metadata if not fixed.get("decides_result", True) and key not in NAMES)
    return {"neutral": NEUTRAL | neutral, "apart": tuple(apart)}


def _metadata(config: Any, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What each field of a configuration and of its sections says of itself, by dotted key."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _metadata(value, f"{prefix}{field.name}.")
        yield prefix + field.name, field.metadata


def _scores(plan: Plan) -> dict[str, tuple[str, bool]]:
    """The primary metric of each condition, and whether higher is better."""
    scores = {}
    for (condition, _), config in _configs(plan).items():
        metrics = KINDS[config.task.kind].metrics
        name = config.task.metric or next(iter(metrics))
        scores[condition] = (name, metrics[name].higher_is_better)
    return scores


def broken_promises(before: Declaration, now: Declaration) -> list[str]:
    """What an earlier declaration said and a later one says otherwise."""
    was, present = _promises(before), _promises(now)
    changed = [key for key in was if present.get(key) != was[key]]
    return [f"{key} was {_text(was[key])} and is {_text(present.get(key))}" for key in changed]


def _promises(declared: Declaration) -> dict[str, object]:
    """What a declaration fixes, by name. Were three seeds added to five whose scores are known, an arm at the margin
    would pass in .041 of studies, and not in .025."""
    promises = {key: value for key, value in vars(declared.protocol).items() if key != "arms"}
    promises |= {key: getattr(declared, key) for key in ("common", "control_of")}
    promises |= {"factors": list(declared.factors)}
    for arm in declared.protocol.arms:
        promises |= {f"the arm {arm.name}": arm, f"final overrides of {arm.name}": declared.final.get(arm.name)}
    for factor, levels in declared.factors.items():
        promises |= {f"{factor} {name}": overrides for name, overrides in levels.items()}
    return promises


def _text(value: object) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)


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
    added["against"] = [name for name in now.against if name not in before.against]
    words, earlier_words = (str(declared.texts.get("prediction", "")).split() for declared in (now, before))
    added["prediction"] = " ".join(words[len(earlier_words) :])
    return {key: value for key, value in added.items() if value}
