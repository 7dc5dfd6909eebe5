"""What a figure of runs does not show as it should, and what to type: runs without a result, damaged ones, absent
seeds, and runs of one arm that unlike versions of the code or of a package made."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from lorax_lab.record import record, variation
from lorax_lab.record.folder import QUARANTINE
from lorax_lab.record.record import Record

from .groups import Group, Recorded, command, config_of, settings_of
from .variants import METHOD_NAMES, REFERENCE

TRACES = ("metrics.jsonl", "spectra.npz", "*.safetensors")
"""Files that only a run writes. They tell a run's folder from any other folder."""
MADE_BY = "made by"
"""The column that says of each row by which versions its run was made. A table has it only if they are unlike."""
OWN_PACKAGE = "lorax_lab"
LETTERS = 12
"""Of the hash of the code, that are shown."""
NAMED = 3
"""Runs of one set of versions that are named."""


def stamped(group: Group, table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """A figure's table, with `MADE_BY` if unlike versions made its runs, and what to stamp on the figure, such as
    `3 of 4 runs` and `2 versions of torch`.

    Args:
        table: with the columns `arm` and `seed`, which name the run of each row.
    """
    runs = {(run["arm"], run["seed"]): str(run["run_id"]) for run in group.runs.to_dict("records")}
    rows = [runs.get(key, "") for key in zip(table["arm"], table["seed"], strict=True)]  # a row may be of noise
    present = set(rows) - {""}
    if differing := unlike({run_id: group.records[run_id] for run_id in dict.fromkeys(rows) if run_id}):
        table = table.assign(**{MADE_BY: [_made_by(differing, run_id) for run_id in rows]})
    absent = lacking(group, table)
    stamps = [f"{len(present)} of {len(present) + absent} runs"] if absent else []
    return table, stamps + [f"{len(set(made.values()))} versions of {name}" for name, made in differing.items()]


def left_out(runs_dir: Path, recorded: Recorded) -> list[str]:
    """One line per run under `runs_dir` that no figure shows: its status and, where that helps, what to type."""
    lines = [_unfinished(run, runs_dir) for run in recorded.records.values() if not run.result]
    lines += [f"{run} is the same training as {shown}, which is counted" for run, shown in recorded.doubles.items()]
    lines += [f"{damage.folder.name} is damaged: {damage.reason}" for damage in recorded.damages]
    for folder in sorted(path for path in runs_dir.iterdir() if os.path.isdir(path)):
        if folder.name == QUARANTINE:
            lines += [f"{item.name} is damaged, set aside in {folder}" for item in sorted(folder.iterdir())]
        elif not os.path.lexists(folder / record.RECORD) and any(any(folder.glob(trace)) for trace in TRACES):
            lines.append(f"{folder.name} has no {record.RECORD}: it did not finish")
    return lines


def missing(group: Group) -> list[str]:
    """The seeds that each arm lacks, and those of which it lacks the comparison with the reference: arms with the same
    gap together, the reference first; each line ends with what to type."""
    lines = []
    if group.full.empty:
        seeds = sorted(set(group.runs["seed"]))
        lines.append(_line(group, METHOD_NAMES[REFERENCE], (*group.shared, f"method={REFERENCE}"), seeds, []))
    lines += _holes(group, partial(absent_seeds, group))
    return lines + [f"the comparison with the reference: {line}" for line in _holes(group, partial(_uncompared, group))]


def lacking(group: Group, table: pd.DataFrame) -> int:
    """How many runs a figure lacks. An arm lacks a seed if the group has the seed, or it was tried, and the arm has no
    run of it. A figure that shows fewer seeds than there are averages none, and lacks none."""
    if set(group.runs["seed"]) - set(table["seed"]):
        return 0
    arms = group.runs[group.runs["arm"].isin(table["arm"].unique())].groupby("arm_key")
    return sum(len(absent_seeds(group, str(arm), part)) for arm, part in arms)


def absent_seeds(group: Group, arm: str, runs: pd.DataFrame) -> list[int]:
    """Seeds of which the arm has no completed run, although the group has them or the arm was tried with them."""
    tried = {run.seed for run in group.unfinished if variation.arm(_like(group, run)) == arm}
    return sorted((set(group.runs["seed"]) | tried) - set(runs["seed"]))


def unlike(records: Mapping[str, Record]) -> dict[str, dict[str, str]]:
    """What differs among the versions that made these runs, the code or a package: each run's version by its id. A
    package that a run does not use does not count."""
    made = {run_id: {**run.versions, "code": (run.code or "unknown")[:LETTERS]} for run_id, run in records.items()}
    names = sorted({name for versions in made.values() for name in versions} - {OWN_PACKAGE})
    by_name = {name: {run: str(versions[name]) for run, versions in made.items() if name in versions} for name in names}
    return {name: by_run for name, by_run in by_name.items() if len(set(by_run.values())) > 1}


def versions(group: Group) -> list[str]:
    """A line for each set of versions that made runs of the group; nothing where they were made alike."""
    differing = unlike(group.records)
    made: dict[str, list[str]] = {}
    for run_id in group.runs["run_id"] if differing else ():
        made.setdefault(_made_by(differing, run_id), []).append(run_id)
    return [f"{label}: {_named(runs)}" for label, runs in made.items()]


def _made_by(differing: Mapping[str, Mapping[str, str]], run_id: str) -> str:
    return ", ".join(f"{name} {made[run_id]}" for name, made in differing.items() if run_id in made)


def _named(runs: list[str]) -> str:
    more = f" and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
    return f"{len(runs)} run{'s' * (len(runs) > 1)}: {', '.join(runs[:NAMED])}{more}"


def _holes(group: Group, seeds_of: Callable[[str, pd.DataFrame], list[int]]) -> list[str]:
    """A line for each variant and set of seeds that `seeds_of` says of an arm and its runs."""
    holes: dict[tuple[str, tuple[str, ...], tuple[int, ...]], list[str]] = {}
    for arm, part in group.runs.groupby("arm_key", sort=False):
        if seeds := seeds_of(str(arm), part):
            overrides = variation.overrides(config_of(group.records[part["run_id"].iloc[0]]))
            typed = tuple(o for o in overrides if o.partition("=")[0] not in ("rank", variation.SEED))
            rank = part["rank"].iloc[0]
            ranks = [] if rank != rank else [f"{rank:.0f}"]
            holes.setdefault((part["variant"].iloc[0], typed, tuple(seeds)), []).extend(ranks)
    ordered = sorted(holes.items(), key=lambda hole: f"method={REFERENCE}" not in hole[0][1])
    return [_line(group, variant, typed, seeds, ranks) for (variant, typed, seeds), ranks in ordered]


def _uncompared(group: Group, arm: str, runs: pd.DataFrame) -> list[int]:
    """Seeds whose run was to be compared with its reference, and was not."""
    records = [group.records[run_id] for run_id in runs["run_id"]]
    wanting = [record for record in records if record.method != REFERENCE and record.config.get("reference")]
    return sorted(record.seed for record in wanting if record.completed.reference is None)


def _line(group: Group, variant: str, overrides: Sequence[str], seeds: Sequence[int], ranks: list[str]) -> str:
    of_rank = [f"rank={','.join(ranks)}"] if ranks else []
    arm = f"{variant} r = {', '.join(ranks)}" if ranks else variant
    number = "seeds" if len(seeds) > 1 else "seed"
    listed = ", ".join(map(str, seeds))
    typed = command([*overrides, *of_rank, f"seed={','.join(map(str, seeds))}"], group.runs_dir)
    return f"{arm} of {number} {listed}; type {typed}"


def _unfinished(run: Record, runs_dir: Path) -> str:
    reason = f": {' '.join(run.reason.split())}" if run.reason else ""
    typed = command(variation.overrides(config_of(run)), runs_dir)
    return f"{run.run_id} is {run.status}{reason}; to run it again, type {typed}"


def _like(group: Group, run: Record) -> dict[str, object]:
    """The settings of a run without a result, with the hashes that the group's runs have for the same names."""
    own = {key: value for key, value in settings_of(run).items() if key not in variation.INPUTS}
    inputs = next(iter(group.records.values())).completed.inputs
    return own | {"inputs.model_sha256": inputs.model_sha256, "inputs.data_sha256": inputs.data_sha256}
