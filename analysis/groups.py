"""Records sorted into groups that may share a figure: same model, same data, same budget.

Within a group runs differ in method, rank, seed and the method's own settings (learning rate, alpha, …).
Only seeds are ever averaged: runs that differ in a setting are variants, each with a name of its own.
"""

from __future__ import annotations

import hashlib
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.variants import LEARNING_RATE, named, text, varies
from lorax_lab.store import tables

if TYPE_CHECKING:
    import pandas as pd

INPUTS = ("inputs.model_sha256", "inputs.data_sha256")
NOT_SHARED = (LEARNING_RATE, "config.train.device", "config.task.name", "config.task.path")
"""What need not agree within a group: the method's own rate, the place, and names that hashes stand for."""


class CannotDraw(ValueError):
    """A figure lacks the runs or files that it needs; the message says which, and what to type."""


@dataclass(frozen=True)
class Group:
    """Completed runs that may be compared.

    Attributes:
        name: `<model>-<task>`, the prefix of its files; with a short hash where several groups share it.
        settings: words of the command line that tell it from groups of the same name; empty where there are none.
        runs: one row per run with its `arm` and `variant`, in the order of `variants.named`.
        matrices: one row per run and matrix.
        functional: one row per full fine-tune, part and k.
    """

    name: str
    settings: tuple[str, ...]
    runs: pd.DataFrame
    matrices: pd.DataFrame
    functional: pd.DataFrame

    @property
    def metric(self) -> str:
        """Name of the task's primary metric."""
        return str(self.runs["metric"].iloc[0])

    @property
    def title(self) -> dict[str, str]:
        """The columns that every table begins with: model and task."""
        first = self.runs.iloc[0]
        return {"model": _short(first["config.model"]), "task": _short(first["config.task.name"])}

    @property
    def best(self) -> pd.DataFrame:
        """The runs of one variant per arm: the one whose mean validation score over its seeds is highest."""
        column = f"metrics.validation/{self.metric}"
        means = self.runs.groupby(["arm", "variant"])[column].mean().fillna(float("-inf"))
        winners = set(means.groupby("arm").idxmax())
        pairs = zip(self.runs["arm"], self.runs["variant"], strict=True)
        return self.runs[[pair in winners for pair in pairs]]

    @property
    def full(self) -> pd.DataFrame:
        """The full fine-tunes that the others are compared with, of the best variant."""
        best = self.best
        return best[best["method"] == "full"]

    @property
    def shown(self) -> pd.DataFrame:
        """Every variant of every method, but of full fine-tuning only `full`: there is one reference."""
        return self.runs[(self.runs["method"] != "full") | self.runs["run_id"].isin(self.full["run_id"])]

    def command(self, *words: str) -> str:
        """What to type for a run of this group."""
        first = self.runs.iloc[0]
        names = [f"model={first['config.model']}", f"task={first['config.task.name']}"]
        settings = [word for word in self.settings if not word.startswith(INPUTS)]
        return shlex.join(["python", "-m", "lorax_lab.run", *names, *settings, *words])


def load(runs_dir: Path) -> tuple[pd.DataFrame, list[Group]]:
    """Every recorded run of any status (damaged ones in its `attrs`, as `tables.load_runs` gives it), and the
    groups of the completed ones, in the order of their names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the caller names the damaged ones
        runs = tables.load_runs(runs_dir)
    done = runs[runs["status"] == "completed"]
    if "config.measure" in done:
        done = done[done["config.measure"] != "trial"]
    if done.empty:
        return runs, []
    matrices, functional = tables.load_matrices(runs_dir), tables.load_truncation(runs_dir)
    done = done.assign(rank=done["rank"].astype(float), key=_keys(done), name=_names(done))
    groups = []
    for name, namesakes in done.groupby("name"):
        for key, members in namesakes.groupby("key"):
            shared = varies(namesakes["key"])
            group = Group(
                name=f"{name}-{hashlib.sha256(str(key).encode()).hexdigest()[:6]}" if shared else str(name),
                settings=_settings(members, namesakes),
                runs=named(members),
                matrices=_of(members, matrices),
                functional=_of(members, functional),
            )
            groups.append(group)
    return runs, groups


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the items, evenly spaced, the first and the last among them.

    >>> spread([4, 8, 16, 32, 64], 3), spread([4, 8], 3)
    ([4, 16, 64], [4, 8])
    """
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _shared(runs: pd.DataFrame) -> list[str]:
    """The columns that must agree within a group."""
    prefixes = ("config.task.", "config.train.")
    return [c for c in runs.columns if c in INPUTS or (c.startswith(prefixes) and c not in NOT_SHARED)]


def _keys(runs: pd.DataFrame) -> list[str]:
    columns = _shared(runs)
    return [repr([text(row[c]) for c in columns]) for row in runs.to_dict("records")]


def _settings(members: pd.DataFrame, namesakes: pd.DataFrame) -> tuple[str, ...]:
    """`train.epochs=2`, `task.max_length=64`: what differs between groups of one name, as `members` have it."""
    differing = [c for c in _shared(namesakes) if varies(namesakes[c])]
    values = [text(members[c].iloc[0]) for c in differing]
    short = [value[:8] if c in INPUTS else value for c, value in zip(differing, values, strict=True)]
    return tuple(f"{c.removeprefix('config.')}={v}" for c, v in zip(differing, short, strict=True))


def _names(runs: pd.DataFrame) -> list[str]:
    pairs = zip(runs["config.model"], runs["config.task.name"], strict=True)
    names = [f"{_short(model)}-{_short(task)}" for model, task in pairs]
    return ["".join(c if c.isalnum() or c in "-_." else "_" for c in name) for name in names]


def _short(name: str) -> str:
    return Path(name).name


def _of(runs: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["run_id"].isin(runs["run_id"])] if len(rows) else rows
