"""Records sorted into groups that may share a figure: same model, same data, same budget.

Within a group runs differ in method, rank, seed and whatever goes with the method. Only seeds are ever averaged.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lorax_lab.errors import ConfigError
from lorax_lab.record import variation
from lorax_lab.record.answer import answers
from lorax_lab.record.comparable import config_of, is_shared, key_of, settings_of
from lorax_lab.record.direction import oriented, scored_on
from lorax_lab.record.record import Record, scan
from lorax_lab.record.tables import load_matrices, load_runs, load_truncation
from lorax_lab.record.variation import Settings

from .variants import COLLAPSED, DEFAULTS, REFERENCE, named

RUNS = Path("runs")
"""Where a run's record goes unless `runs_dir` says otherwise."""
FIRST = ("rank=4,8,16",)
"""Overrides of the runs to begin with."""
UNSAID = "train.precision=fp32"
"""What `auto` becomes where bf16 is no faster: titles leave it out."""
WANTED = (r"query|q_|c_attn|qkv", r"value|v_", r"intermediate|up_|c_fc|fc1|lin1")
"""Types of matrix that `representative` takes first: query, value, and the way into the feed-forward block."""
MOST = 3
"""Types of matrix, and layers, that `representative` takes at most."""
ABOUT = ("method", "variant", "arm", "variants", "rank", "seed")
"""Columns of every table beside model, task and dials."""

NULL = "null."
"""What the columns of the measures of noise begin with."""


class CannotDraw(ValueError):
    """A figure lacks the runs or files that it needs; the message says which, and what to type."""


@dataclass(frozen=True)
class Group:
    """Completed runs that may be compared.

    Attributes:
        name: `<model>-<task>-<hash of what its runs share>`, the prefix of its files; other runs do not change it.
        shared: overrides that all its runs have in common: model, task, and what differs from the defaults.
        dials: settings in which runs differ, method, rank and seed apart; each is a column of every table.
        runs: one row per run, as `variants.named` gives them, `best` and the dials among the columns.
        matrices: one row per run and matrix.
        truncation: one row per full fine-tune, part and k.
        runs_dir: the folder that holds its runs.
        unfinished: records of its runs that are not completed.
    """

    name: str
    shared: tuple[str, ...]
    dials: tuple[str, ...]
    runs: pd.DataFrame
    matrices: pd.DataFrame
    truncation: pd.DataFrame
    records: dict[str, Record]
    runs_dir: Path
    unfinished: list[Record] = field(default_factory=list)

    @property
    def metric(self) -> str:
        """Name of the task's primary metric."""
        return str(self.runs["metric"].iloc[0])

    @property
    def higher_is_better(self) -> bool:
        """Of the primary metric."""
        return bool(self.runs["higher_is_better"].iloc[0])

    def scored_on(self, split: str) -> str:
        """The split in words: `training` where the task is memorised."""
        return scored_on(next(iter(self.records.values())).config, split)

    @property
    def title(self) -> dict[str, str]:
        """The columns that every table begins with: model, task, and the shared settings that are not the defaults."""
        first, inputs = self.runs.iloc[0], ("task", *variation.INPUTS)
        of_note = (
            override for override in self.shared if override.partition("=")[0] not in inputs and override != UNSAID
        )
        settings = " ".join(of_note)
        names = {"model": Path(first["config.model"]).name, "task": Path(first["config.task.name"]).name}
        return names | {"settings": settings or DEFAULTS}

    @property
    def columns(self) -> list[str]:
        """The columns by which every table says to which run a row belongs, and whether a run collapsed if any did."""
        return [*ABOUT, *self.dials, *([COLLAPSED] if self.runs[COLLAPSED].any() else [])]

    @property
    def best(self) -> pd.DataFrame:
        """The runs of one variant per method and rank: that with the best mean validation score over its seeds."""
        return self.runs[self.runs["best"]]

    @property
    def full(self) -> pd.DataFrame:
        """The full fine-tunes that the others are compared with, of the best variant."""
        best = self.best
        return best[best["method"] == REFERENCE]

    @property
    def shown(self) -> pd.DataFrame:
        """Every variant of every method, but of full fine-tuning only `full`: there is one reference."""
        return self.runs[(self.runs["method"] != REFERENCE) | self.runs["best"]]

    @property
    def answer(self) -> str:
        """What its runs say of the rank, in sentences; empty where no full fine-tune is recorded."""
        return " ".join(answers({Path(run["folder"]): self.records[run["run_id"]] for _, run in self.runs.iterrows()}))

    @property
    def measures(self) -> pd.DataFrame:
        """The mean of each measure of `spectra.MEASURES` over a run's matrices, by run id, and that of noise under
        `null.…`; NaN where one of them has none. Empty where no update was measured."""
        from lorax_lab.spectra import MEASURES  # torch, which a page of help needs not

        names = [name for name in (*MEASURES, *(NULL + name for name in MEASURES)) if name in self.matrices]
        if not names:
            return self.matrices
        values = self.matrices[names].astype(float)
        runs = self.matrices["run_id"]
        return values.groupby(runs).mean().where(values.notna().groupby(runs).all())

    def command(self, *overrides: str) -> str:
        return command([*self.shared, *overrides], self.runs_dir)


class Recorded(NamedTuple):
    """What a folder of runs holds: every record by run id, its groups by name, what cannot be used, and the runs that
    no group has, each with the run of the same training that stands for both."""

    records: dict[str, Record]
    groups: list[Group]
    damages: list[str]
    doubles: dict[str, str]


def load(runs_dir: Path) -> Recorded:
    """Read a folder of runs, those of a group being comparable. Trials of learning rates are in no group: they are
    scored on validation alone.

    Raises:
        ConfigError: there is no such folder.
    """
    if not runs_dir.is_dir():
        typed = command(FIRST, runs_dir)
        raise ConfigError(f"there is no folder {runs_dir}; type {typed} or say where the runs are: --runs FOLDER")

    records, damages = scan(runs_dir)
    by_id = {record.run_id: record for record in records.values()}
    done = {folder: record for folder, record in records.items() if record.result and not record.is_trial}
    settings = {record.run_id: settings_of(record) for record in done.values()}
    doubles = _doubles(done, settings)
    members: dict[str, dict[Path, Record]] = {}
    for folder, record in done.items():
        if record.run_id not in doubles:
            members.setdefault(key_of(settings[record.run_id]), {})[folder] = record
    groups = sorted((_group_of(runs, settings, runs_dir) for runs in members.values()), key=lambda group: group.name)
    homes = {key_of(settings_of(record, by_name=True)): group for group in groups for record in group.records.values()}
    for record in (record for record in by_id.values() if not record.result and not record.is_trial):
        if home := homes.get(key_of(settings_of(record, by_name=True))):
            home.unfinished.append(record)
    return Recorded(by_id, groups, damages, doubles)


def command(overrides: Sequence[str], runs_dir: Path) -> str:
    """The command that runs these overrides into a folder. Several values of one override make a sweep."""
    sweep = ["-m"] if any("," in override and "[" not in override for override in overrides) else []
    place = [] if runs_dir == RUNS else [f"runs_dir={runs_dir}"]
    return shlex.join(["python", "-m", "lorax_lab.run", *overrides, *place, *sweep])


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the items, evenly spaced, the first and the last among them.

    >>> spread([4, 8, 16, 32, 64], 3), spread([4, 8], 3)
    ([4, 16, 64], [4, 8])
    """
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def representative(matrices: pd.DataFrame) -> pd.DataFrame:
    """The matrices that stand for all of a model where a figure has room for a few: first, middle and last layer of the
    wanted types, else of the first ones; layers in order, and within them the types as the model has them. A model
    without layers has one, 0."""
    layered = matrices[matrices["layer"].notna()] if matrices["layer"].notna().any() else matrices.assign(layer=0)
    types = list(dict.fromkeys(layered["module"]))
    wanted = [next((name for name in types if re.search(pattern, name)), None) for pattern in WANTED]
    chosen = list(dict.fromkeys([*filter(None, wanted), *types]))[:MOST]
    rows = layered[layered["module"].isin(chosen)]
    rows = rows[rows["layer"].isin(spread(sorted(set(rows["layer"])), MOST))]
    return rows.assign(place=rows["module"].map(types.index)).sort_values(["layer", "place"])


def _doubles(done: dict[Path, Record], settings: dict[str, Settings]) -> dict[str, str]:
    """Each run whose training was recorded once more, and the run that stands for both: the one that measured more, or
    the older one. A model's folder under a second name makes such a run, which would count its seed twice."""

    def place(record: Record) -> tuple[int, str, str]:
        return -variation.extent(record.config), record.written, record.run_id

    first: dict[str, str] = {}
    doubles = {}
    for run_id in (record.run_id for record in sorted(done.values(), key=place)):
        counted = first.setdefault(json.dumps(settings[run_id], sort_keys=True), run_id)
        if counted != run_id:
            doubles[run_id] = counted
    return dict(sorted(doubles.items()))


def _group_of(records: dict[Path, Record], settings: dict[str, Settings], runs_dir: Path) -> Group:
    by_id = {record.run_id: record for record in records.values()}
    settings = {run_id: settings[run_id] for run_id in by_id}
    dials = tuple(key for key in variation.dials(list(settings.values())) if key not in ("method.name", "rank"))
    labels = dict(zip(settings, variation.labels(list(settings.values()), dials), strict=True))
    runs = load_runs(records, with_means=False)
    runs = named(runs.assign(rank=runs["rank"].astype(float)), settings)
    runs = runs.assign(**{key: [labels[run_id][key] for run_id in runs["run_id"]] for key in dials}, best=_best(runs))
    runs[COLLAPSED] = runs[COLLAPSED].map(bool)
    oldest = min(records.values(), key=lambda record: (record.written, record.run_id))
    return Group(
        name=_name(oldest),
        shared=tuple(o for o in variation.overrides(config_of(oldest)) if is_shared(o.partition("=")[0])),
        dials=dials,
        runs=runs,
        matrices=load_matrices(records),
        truncation=load_truncation(records),
        records=by_id,
        runs_dir=runs_dir,
    )


def _best(runs: pd.DataFrame) -> pd.Series[bool]:
    scores = runs[f"metrics.validation/{runs['metric'].iloc[0]}"]
    means = scores.groupby([runs["method"], runs["rank"], runs["arm_key"]], dropna=False).mean()
    gains = oriented(means, bool(runs["higher_is_better"].iloc[0])).fillna(float("-inf"))
    best = {arm for _, _, arm in gains.groupby(["method", "rank"], dropna=False).idxmax()}
    return runs["arm_key"].isin(best)


def _name(record: Record) -> str:
    """The hash covers only settings that differ from the defaults, so a new setting changes no name."""
    changed = {key: value for key, value in variation.changed(config_of(record)).items() if is_shared(key)}
    content = {key: value for key, value in changed.items() if key not in variation.INPUTS}
    inputs = record.completed.inputs
    name = f"{Path(record.config['model']).name}-{Path(record.config['task']['name']).name}"
    clean = re.sub(r"[^\w.-]", "_", name)
    return f"{clean}-{variation.digest(content, inputs.model_sha256, inputs.data_sha256)}"
