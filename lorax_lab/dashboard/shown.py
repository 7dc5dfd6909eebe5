"""What the recorded runs show, as far as panels have to name it: metrics, tasks and types of matrices."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorax_lab.errors import ConfigError
from lorax_lab.record.record import Record, scan
from lorax_lab.windows.contents import noise_shares


@dataclass(frozen=True)
class Shown:
    """What differs between one sweep and another in the names of what is shown.

    Attributes:
        studies: those that any of the runs says it belongs to.
        tasks, metrics: those of completed runs, in alphabetical order.
        modules: types of matrices, such as `attention.self.query`, whose update was measured.
        shares: those of them that have a share of noise's effective rank in any run.
    """

    studies: tuple[str, ...]
    tasks: tuple[str, ...]
    metrics: tuple[str, ...]
    modules: tuple[str, ...]
    shares: tuple[str, ...]


def of(runs_dir: Path, studies: Sequence[str] = ()) -> Shown:
    """What the runs in a folder show: those of the studies, if any of them says that it is of one, and otherwise all.

    Args:
        studies: their names.

    Raises:
        ConfigError: there is no such folder, or no completed run in it.
    """
    again = shlex.join(["python", "-m", "lorax_lab.run", "rank=4,8,16", "-m"])
    again += "" if runs_dir == Path("runs") else f" runs_dir={shlex.quote(str(runs_dir))}"
    if not runs_dir.is_dir():
        raise ConfigError(f"--runs {runs_dir}: there is no such folder; to make runs type {again}")
    records, _ = scan(runs_dir)
    done = [record for record in records.values() if record.result]
    known = {study for record in done if (study := _study(record))}
    if of_studies := [record for record in done if _study(record) in studies]:
        done = of_studies
    if not done:
        raise ConfigError(f"--runs {runs_dir}: no completed run is recorded there; to make runs type {again}")
    from lorax_lab.record.measures import rows  # imports torch

    measured = [record for record in done if record.completed.matrices]
    shares = {share for run in measured for share in noise_shares(rows(runs_dir / run.run_id), run.method)}
    return Shown(
        studies=tuple(sorted(known)),
        tasks=tuple(sorted({str(record.config["task"]["name"]) for record in done})),
        metrics=tuple(sorted({record.completed.metric for record in done})),
        modules=tuple(sorted({matrix.module for run in measured for matrix in run.completed.matrices.values()})),
        shares=tuple(sorted(shares)),
    )


def _study(record: Record) -> str | None:
    """The study that a run says it is of; records of older versions do not say."""
    study = record.config.get("tracking", {}).get("study")
    return None if study is None else str(study)
