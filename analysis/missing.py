"""Names what the figures do not show, and what to type: runs that are not completed, damaged runs, absent seeds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lorax_lab.record import record, variation
from lorax_lab.record.folder import QUARANTINE
from lorax_lab.record.record import Record

from .groups import Group, Recorded, command, config_of, settings_of
from .variants import METHOD_NAMES, REFERENCE

if TYPE_CHECKING:
    import pandas as pd

TRACES = ("metrics.jsonl", "spectra.npz", "*.safetensors")
"""Files that only a run writes. They tell a run's folder from any other folder."""


def left_out(runs_dir: Path, recorded: Recorded) -> list[str]:
    """One line per run under `runs_dir` that no figure shows: its status and, where that helps, what to type."""
    lines = [_unfinished(run, runs_dir) for run in recorded.records.values() if not run.result]
    lines += [_double(recorded, run, other) for run, other in recorded.doubles.items()]
    lines += [f"{damage.folder.name} is damaged: {damage.reason}" for damage in recorded.damages]
    for folder in sorted(path for path in runs_dir.iterdir() if os.path.isdir(path)):
        if folder.name == QUARANTINE:
            lines += [f"{item.name} is damaged, set aside in {folder}" for item in sorted(folder.iterdir())]
        elif not os.path.lexists(folder / record.RECORD) and any(any(folder.glob(trace)) for trace in TRACES):
            lines.append(f"{folder.name} has no {record.RECORD}: it did not finish")
    return lines


def _double(recorded: Recorded, run: str, other: str) -> str:
    measures = [recorded.records[name].config.get(variation.MEASURE) for name in (run, other)]
    which = "has controls" if measures[0] != measures[1] else "is counted; a run counts its seed once"
    return f"{run} is the same training as {other}, which {which}"


def lacking(group: Group, table: pd.DataFrame) -> int:
    """How many runs a figure lacks. An arm lacks a seed if the group has the seed, or it was tried, and the arm has no
    run of it. A figure that shows fewer seeds than there are averages none, and lacks none."""
    if set(group.runs["seed"]) - set(table["seed"]):
        return 0
    arms = group.runs[group.runs["arm"].isin(table["arm"].unique())].groupby("arm_key")
    return sum(len(absent(group, str(arm), part)) for arm, part in arms)


def absent(group: Group, arm: str, runs: pd.DataFrame) -> list[int]:
    """Seeds of which the arm has no completed run, although the group has them or the arm was tried with them."""
    tried = {run.seed for run in group.unfinished if variation.arm(_like(group, run)) == arm}
    return sorted((set(group.runs["seed"]) | tried) - set(runs["seed"]))


def gaps(group: Group) -> list[str]:
    """The seeds that each arm lacks, and those of which it lacks the comparison with the reference: arms with the same
    gap together, the reference first; each line ends with what to type."""
    lines = [_no_reference(group)] if group.full.empty else []
    lines += _holes(group, lambda arm, part: absent(group, arm, part))
    return lines + [f"the comparison with the reference: {line}" for line in _holes(group, partial(_uncompared, group))]


def _holes(group: Group, seeds_of: Callable[[str, pd.DataFrame], list[int]]) -> list[str]:
    holes: dict[tuple[str, tuple[str, ...], tuple[int, ...]], list[str]] = {}
    for arm, part in group.runs.groupby("arm_key", sort=False):
        if seeds := seeds_of(str(arm), part):
            overrides = variation.overrides(config_of(group.records[part["run_id"].iloc[0]]))
            kept = tuple(o for o in overrides if o.partition("=")[0] not in ("rank", variation.SEED))
            rank = part["rank"].iloc[0]
            ranks = [] if rank != rank else [f"{rank:.0f}"]
            holes.setdefault((part["variant"].iloc[0], kept, tuple(seeds)), []).extend(ranks)
    ordered = sorted(holes.items(), key=lambda hole: f"method={REFERENCE}" not in hole[0][1])
    return [_line(group, variant, kept, seeds, ranks) for (variant, kept, seeds), ranks in ordered]


def _uncompared(group: Group, arm: str, runs: pd.DataFrame) -> list[int]:
    """Seeds whose run was to be compared with its reference, and was not."""
    records = [group.records[run_id] for run_id in runs["run_id"]]
    wanting = [record for record in records if record.method != REFERENCE and record.config.get("reference")]
    return sorted(record.seed for record in wanting if record.completed.reference is None)


def _no_reference(group: Group) -> str:
    seeds = sorted(set(group.runs["seed"]))
    return _line(group, METHOD_NAMES[REFERENCE], (*group.shared, f"method={REFERENCE}"), seeds, [])


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
