"""From the command line to recorded runs: plan the whole grid, train what is missing, close with a table."""

from __future__ import annotations

import hashlib
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorax_lab import record
from lorax_lab.compose import CONF, compose, expand, reference_words, spell_out
from lorax_lab.config import ConfigError, Diverged, RunConfig, from_dict, run_id

Execute = Callable[[RunConfig, str, Path | None, str], dict[str, Any]]
SWEEP_FLAGS = ("-m", "--multirun")


@dataclass(frozen=True)
class Planned:
    """A run to be had: its configuration and where its record is, or will be."""

    config: RunConfig
    run_id: str

    @property
    def folder(self) -> Path:
        """`<runs_dir>/<run_id>`."""
        return Path(self.config.runs_dir) / self.run_id


def planned(config: RunConfig) -> Planned:
    """The run of a configuration; its model and data are looked at for their hashes, not read.

    Raises:
        ConfigError: a model or data set that is not to be had.
    """
    from lorax_lab.models import model_sha256
    from lorax_lab.tasks import data_sha256

    return Planned(config, run_id(config, model_sha256(config.model), data_sha256(config.task)))


def with_reference(words: list[str], config: RunConfig | None = None) -> list[Planned]:
    """One job's runs in order: the full fine-tune it is compared with, where it wants one, and the run."""
    config = config or compose(words)
    run = planned(config)
    if config.method.name == "full" or not config.reference:
        return [run]
    return [planned(compose(reference_words(words))), run]


def plan(words: list[str], multirun: bool) -> list[Planned]:
    """Every run of the command line, each once, references first where they are needed.

    Raises:
        ConfigError: any bad setting anywhere in the grid, before anything is trained.
    """
    jobs = expand(spell_out(words))
    if len(jobs) > 1 and not multirun:
        raise ConfigError(f"{' '.join(words)} is a sweep of {len(jobs)} runs; type -m at the end to run it")
    runs = [run for job in jobs for run in with_reference(job)]
    return list({run.run_id: run for run in runs}.values())


def launch(execute: Execute) -> int:
    """Run the command line in `sys.argv`; returns the exit code: 0 all completed, 1 some not, 2 a setting that
    cannot be, 130 interrupted."""
    from lorax_lab.console import console

    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    flags = [word for word in sys.argv[1:] if word.startswith("-")]
    try:
        if any(flag not in SWEEP_FLAGS for flag in flags):
            return _hydra(lambda _: None, sys.argv[1:])
        runs = plan(words, bool(flags))
        waiting = [run for run in runs if run.config.force or record.status_of(run.folder) != "completed"]
        console.print(f"{len(runs) - len(waiting)} of {len(runs)} already recorded in {runs[0].config.runs_dir}")
        _check_data(waiting)
        interrupted = bool(waiting) and _train(execute, runs, spell_out(words) + flags)
    except ConfigError as error:
        console.print(f"[red]error:[/red] {_literal(error)}", soft_wrap=True)
        return 2
    complete = _close(runs)
    if interrupted:
        console.print("interrupted; the same command goes on with what is missing")
        return 130
    return 0 if complete else 1


def _check_data(runs: list[Planned]) -> None:
    """Read each data set once, so that one that cannot be used stops the sweep before it starts."""
    from lorax_lab.tasks import load_task

    for task in {repr(run.config.task): run.config.task for run in runs}.values():
        load_task(task)


def _train(execute: Execute, runs: list[Planned], arguments: list[str]) -> bool:
    """Hand the grid to Hydra's launcher; returns whether it was interrupted."""
    group = "sweep-" + hashlib.sha256("".join(run.run_id for run in runs).encode()).hexdigest()[:8]
    position, done = {run.run_id: i for i, run in enumerate(runs, 1)}, set[str]()

    def job(cfg: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        words = list(HydraConfig.get().overrides.task)
        *before, run = with_reference(words, from_dict(cfg))
        for item in (*before, run):
            if item.run_id not in done:
                title = f"[{position.get(item.run_id, '?')}/{len(runs)}] {item.run_id}"
                attempt(execute, item, before[0].folder if before and item is run else None, group, title)
                done.add(item.run_id)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _hydra(job, arguments)
    except KeyboardInterrupt:
        return True
    return False


def attempt(execute: Execute, run: Planned, reference: Path | None, group: str, title: str) -> str:
    """Train one run unless it is recorded, and leave a record of whatever came of it; returns its status.

    A completed record that `force` repeats stays until the new one is complete.
    """
    from lorax_lab.console import console

    before = record.status_of(run.folder)
    if before == "completed" and not run.config.force:
        return before
    if before == "damaged":
        console.print(f"the record is damaged; the folder is now {record.quarantine(run.folder)}", soft_wrap=True)
    keep = before == "completed"
    console.print(title, style="bold", soft_wrap=True, markup=False)
    _note(run, "running", None, keep)
    if reference is not None and not _has_weights(reference):
        why = "is not complete, or its weights are gone: no comparison with it"
        console.print(f"  {reference.name} {why}", soft_wrap=True)
        reference = None
    try:
        execute(run.config, run.run_id, reference, group)
    except KeyboardInterrupt:
        _note(run, "killed", "interrupted", keep)
        raise
    except Exception as error:
        status = _status_of(error)
        known = isinstance(error, ConfigError | Diverged)
        reason = str(error) if known else f"{error!r}; the traceback is in {run.folder / record.RECORD}"
        _note(run, status, "".join(traceback.format_exception(error)), keep)
        console.print(f"  {status}: {_literal(reason)}", soft_wrap=True, markup=True)
        return status
    return "completed"


def _has_weights(reference: Path) -> bool:
    return record.status_of(reference) == "completed" and (reference / "model.safetensors").exists()


def _status_of(error: Exception) -> str:
    import torch

    if isinstance(error, Diverged):
        return "diverged"
    return "oom" if isinstance(error, MemoryError | torch.OutOfMemoryError) else "failed"


def _note(run: Planned, status: str, error: str | None, keep: bool) -> None:
    from lorax_lab.provenance import provenance

    if not keep:
        record.write_record(run.folder, provenance(run.config, run.run_id, status) | {"error": error})


def _hydra(job: Callable[[Any], None], arguments: list[str]) -> int:
    import hydra

    def task(cfg: Any) -> None:
        job(cfg)

    sys.argv[1:] = arguments
    hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(task)()
    return 0


def _close(runs: list[Planned]) -> bool:
    from lorax_lab.console import console, table

    rows = []
    for run in runs:
        status = record.status_of(run.folder) or "not run"
        content = record.read_record(run.folder) if status == "completed" else None
        rows.append((content, run.run_id, status))
    console.print(table(rows, Path(runs[0].config.runs_dir)))
    return all(status == "completed" for _, _, status in rows)


def _literal(text: object) -> str:
    from rich.markup import escape

    return escape(str(text))
