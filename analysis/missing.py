"""What the figures do not show, by name: unfinished and damaged runs, folders without a record, absent seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.groups import Group
from lorax_lab.store import record

if TYPE_CHECKING:
    import pandas as pd

TRACES = ("metrics.jsonl", "spectra.npz", "*.safetensors")
"""Files that only a run leaves; they tell a run's folder from any other."""


def left_out(runs_dir: Path, runs: pd.DataFrame) -> list[str]:
    """One line per run under `runs_dir` that no figure shows, with its status or what is wrong with it."""
    unfinished = runs[runs["status"] != "completed"]
    lines = [f"{run} is {status}" for run, status in zip(unfinished["run_id"], unfinished["status"], strict=True)]
    lines += [f"{Path(folder).name} is damaged: {reason}" for folder, reason in runs.attrs["damaged"]]
    for folder in sorted(path for path in runs_dir.iterdir() if path.is_dir()):
        if folder.name == record.QUARANTINE:
            lines += [f"{item.name} is damaged, set aside in {folder}" for item in sorted(folder.iterdir())]
        elif not (folder / record.RECORD).exists() and any(any(folder.glob(trace)) for trace in TRACES):
            lines.append(f"{folder.name} has no {record.RECORD}: it did not finish")
    return lines


def cells(group: Group, runs: pd.DataFrame) -> int:
    """How many runs the group's grid lacks: every arm that it has at every one of its seeds, and the runs of the same
    model and task that were begun and not completed."""
    seeds, arms = set(group.runs["seed"]), ["method", "variant", "settings", "rank"]
    absent = sum(len(seeds - set(part["seed"])) for _, part in group.runs.groupby(arms, dropna=False))
    return absent + len(begun(group, runs))


def begun(group: Group, runs: pd.DataFrame) -> list[str]:
    """Runs of the group's model and task that were begun and are not completed, unless another of the same method,
    rank and seed is."""
    mine = group.runs.iloc[0]
    same = (runs["config.model"] == mine["config.model"]) & (runs["config.task.name"] == mine["config.task.name"])
    done = {_cell(row) for row in group.runs.to_dict("records")}
    open_rows = runs[same & (runs["status"] != "completed")].to_dict("records")
    return [str(row["run_id"]) for row in open_rows if _cell(row) not in done]


def _cell(row: dict[Any, Any]) -> tuple[Any, ...]:
    return row["method"], None if row["rank"] != row["rank"] else row["rank"], row["seed"]


def gaps(group: Group) -> list[str]:
    """What the group's seeds are not complete in: full fine-tunes first, then methods by their ranks; each line
    ends with what to type."""
    runs, seeds = group.runs, set(group.runs["seed"])
    absent = sorted(seeds - set(runs[runs["method"] == "full"]["seed"]))
    lines = [_line(group, "full fine-tuning", ["method=full"], absent)] if absent else []
    others = runs[runs["method"] != "full"]
    holes: dict[tuple[Any, ...], list[str]] = {}
    parts = ["method", "variant", "settings", "rank"]
    for (method, variant, settings, rank), part in others.groupby(parts, sort=False, dropna=False):
        lacking = sorted(seeds - set(part["seed"]))
        if lacking:
            holes.setdefault((method, variant, settings, tuple(lacking)), []).extend(_rank(rank))
    for (method, variant, settings, lacking), ranks in holes.items():
        words = [f"rank={','.join(ranks)}"] if ranks else []
        what = f"{variant} r = {', '.join(ranks)}" if ranks else variant
        lines.append(_line(group, what, [f"method={method}", *words, *settings], lacking))
    return lines


def _line(group: Group, what: str, words: list[str], seeds: Sequence[int]) -> str:
    words = [*words, f"seed={','.join(map(str, seeds))}"]
    sweep = ["-m"] if any("," in word and "[" not in word for word in words) else []
    number = "seeds" if len(seeds) > 1 else "seed"
    return f"{what} of {number} {', '.join(map(str, seeds))}; type {group.command(*words, *sweep)}"


def _rank(rank: Any) -> list[str]:
    return [] if rank != rank else [f"{rank:.0f}"]
