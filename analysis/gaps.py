"""What a figure of runs does not show as it should, and what to type: runs without a result, damaged ones, absent
seeds, and runs that unlike versions of the code or of a package made."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from lorax_lab.record import record, variation
from lorax_lab.record.comparable import config_of, hashes_of, settings_of
from lorax_lab.record.record import Record

from .groups import Group, Recorded, command
from .variants import METHOD_NAMES, REFERENCE

TRACES = ("metrics.jsonl", "spectra.npz", "*.safetensors")
"""Files that only a run writes. They tell a run's folder from any other folder."""
OWN_PACKAGE = "lorax_lab"
LETTERS = 12
"""Of the hash of the code, that are shown."""


def stamp(group: Group, table: pd.DataFrame) -> str:
    """What to stamp on a figure: `3 of 4 runs` where it lacks some, `2 versions of torch` where unlike versions made
    its runs; nothing on one that is whole. The run of a row is that of its `arm` and `seed`."""
    absent = lacking(group, table)
    rows = set(zip(table["arm"], table["seed"], strict=True))  # a row may be of noise
    runs = zip(group.runs["arm"], group.runs["seed"], group.runs["run_id"], strict=True)
    shown = {run_id: group.records[run_id] for arm, seed, run_id in runs if (arm, seed) in rows}
    stamps = [f"{len(shown)} of {len(shown) + absent} runs"] if absent else []
    stamps += [f"{len(set(made.values()))} versions of {name}" for name, made in unlike(shown).items()]
    return ", ".join(stamps)


def left_out(runs_dir: Path, recorded: Recorded) -> list[str]:
    """One line per run under `runs_dir` that no figure shows: its status and, where that helps, what to type."""
    lines = []
    for run in (run for run in recorded.records.values() if not run.result):
        reason = f": {' '.join(run.reason.split())}" if run.reason else ""
        typed = command(variation.overrides(config_of(run)), runs_dir)
        lines.append(f"{run.run_id} is {run.status}{reason}; to run it again, type {typed}")
    lines += [f"{run} is the same training as {shown}, which is counted" for run, shown in recorded.doubles.items()]
    lines += [f"left out: {damage}" for damage in recorded.damages]
    for folder in sorted(path for path in runs_dir.iterdir() if path.is_dir()):
        if not (folder / record.RECORD).exists() and any(any(folder.glob(trace)) for trace in TRACES):
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


def _holes(group: Group, seeds_of: Callable[[str, pd.DataFrame], list[int]]) -> list[str]:
    """A line for each variant and set of seeds that `seeds_of` says of an arm and its runs."""
    holes: dict[tuple[str, tuple[str, ...], tuple[int, ...]], list[str]] = {}
    for arm, runs in group.runs.groupby("arm_key", sort=False):
        if seeds := seeds_of(str(arm), runs):
            first = runs.iloc[0]
            overrides = variation.overrides(config_of(group.records[first["run_id"]]))
            typed = tuple(o for o in overrides if o.partition("=")[0] not in ("rank", variation.SEED))
            ranks = [] if pd.isna(first["rank"]) else [f"{first['rank']:.0f}"]
            holes.setdefault((first["variant"], typed, tuple(seeds)), []).extend(ranks)
    ordered = sorted(holes.items(), key=lambda hole: f"method={REFERENCE}" not in hole[0][1])
    return [_line(group, *place, ranks) for place, ranks in ordered]


def _uncompared(group: Group, arm: str, runs: pd.DataFrame) -> list[int]:
    """Seeds whose run was to be compared with its reference, and was not."""
    records = [group.records[run_id] for run_id in runs["run_id"]]
    wanting = [run for run in records if run.method != REFERENCE and run.config.get("reference")]
    return sorted(run.seed for run in wanting if run.completed.reference is None)


def lacking(group: Group, table: pd.DataFrame) -> int:
    """How many runs a figure lacks. An arm lacks a seed if the group has the seed, or it was tried, and the arm has no
    run of it. A figure that shows fewer seeds than there are averages none, and lacks none."""
    if set(group.runs["seed"]) - set(table["seed"]):
        return 0
    arms = group.runs[group.runs["arm"].isin(table["arm"].unique())].groupby("arm_key")
    return sum(len(absent_seeds(group, str(arm), runs)) for arm, runs in arms)


def absent_seeds(group: Group, arm: str, runs: pd.DataFrame) -> list[int]:
    """Seeds of which the arm has no completed run, although the group has them or the arm was tried with them."""
    tried = {run.seed for run in group.unfinished if variation.arm(_settings_in(group, run)) == arm}
    return sorted((set(group.runs["seed"]) | tried) - set(runs["seed"]))


def unlike(records: Mapping[str, Record]) -> dict[str, dict[str, str]]:
    """What differs among the versions that made these runs, the code or a package: each run's version by its id. A
    package that a run does not use does not count."""
    made = {run_id: {**run.versions, "code": (run.code or "unknown")[:LETTERS]} for run_id, run in records.items()}
    names = sorted({name for versions in made.values() for name in versions} - {OWN_PACKAGE})
    by_name = {name: {run: str(versions[name]) for run, versions in made.items() if name in versions} for name in names}
    return {name: by_run for name, by_run in by_name.items() if len(set(by_run.values())) > 1}


def versions(group: Group) -> list[str]:
    """A line for each package, or the code, of which unlike versions made runs of the group."""
    counts = {name: Counter(by_run.values()) for name, by_run in unlike(group.records).items()}
    return [
        f"{name}: {', '.join(f'{version} in {count} of {made.total()} runs' for version, count in made.most_common())}"
        for name, made in counts.items()
    ]


def _line(group: Group, variant: str, overrides: Sequence[str], seeds: Sequence[int], ranks: list[str]) -> str:
    rank = [f"rank={','.join(ranks)}"] if ranks else []
    arm = f"{variant} r = {', '.join(ranks)}" if ranks else variant
    typed = command([*overrides, *rank, f"seed={','.join(map(str, seeds))}"], group.runs_dir)
    return f"{arm} of seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}; type {typed}"


def _settings_in(group: Group, run: Record) -> dict[str, object]:
    """The settings of a run without a result, with the hashes that the group's runs have for the same names."""
    settings = {key: value for key, value in settings_of(run).items() if key not in variation.INPUTS}
    return settings | hashes_of(next(iter(group.records.values())))
