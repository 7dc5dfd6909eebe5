"""Weights & Biases, a window on the records. Once a run's own files are complete, a separate process sends W&B what
they hold; it is ended if it takes too long. Only this file imports wandb.

Offline runs lie in `<runs_dir>/wandb/`; `wandb leet <runs_dir>/wandb` browses them. `python -m lorax_lab.store.tracking
sync` uploads the runs that were not uploaded yet, each once. `<run>/wandb.json` says how much of a run W&B has.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorax_lab.config import TrackingConfig
from lorax_lab.errors import answer
from lorax_lab.store import variation
from lorax_lab.store.files import write_json
from lorax_lab.store.folder import load_spectra, read_history
from lorax_lab.store.output import guard
from lorax_lab.store.pictures import heat_map, spectrum_chart
from lorax_lab.store.published import portable
from lorax_lab.store.record import Record, read_record, scan
from lorax_lab.store.redact import redact, redacted

SUMMARY_KEYS = ("effective_rank", "stable_rank", "participation_ratio", "energy_rank_90", "relative_norm")
MARK = "wandb.json"
LONGEST = 64
"""Letters of a tag, or of a job type, at most; W&B refuses more."""
PATIENCE = 90.0
"""Seconds after which the process that tells W&B of a run is ended."""
NOT_TOLD: dict[str, Any] = {
    "host": "", "program": "", "x_disable_meta": True, "x_disable_machine_info": True, "x_disable_stats": True,
    "x_save_requirements": False, "disable_git": True, "disable_code": True,
}  # fmt: skip
"""Settings with which W&B keeps nothing of the machine: its name, its paths, its user, what else is installed."""


def publish(config: TrackingConfig, folder: Path, group: str, patience: float = PATIENCE) -> bool:
    """Tell W&B of one recorded run: its configuration, learning curves, summary, spectra and effective-rank heat map.

    Any failure becomes a warning, after `patience` seconds at most: only the record on disk counts.

    Args:
        folder: the run's, with a completed record.
        group: the name under which W&B shows the sweep.

    Returns:
        Whether W&B was told, or nothing was to be told.
    """
    if config.mode == "disabled":
        return True
    command = [sys.executable, "-m", "lorax_lab.store.tracking", "publish", str(folder), "--group", group]
    command += ["--mode", config.mode, "--project", config.project]
    command += ["--entity", config.entity] if config.entity else []
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    try:
        process = subprocess.Popen(command, start_new_session=True, text=True, **pipes)  # type: ignore[call-overload]
    except OSError as error:
        return _untold(folder, str(error))
    try:
        _, errors = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # wandb's own process too, which holds the pipe
        process.communicate()
        return _untold(folder, f"it took more than {patience:g} s")
    if process.returncode != 0:
        lines = errors.strip().splitlines() or [f"its process ended with status {process.returncode}"]
        return _untold(folder, lines[-1])
    return True


def _untold(folder: Path, why: str) -> bool:
    again = f"python -m lorax_lab.store.tracking sync {folder.parent}"
    warnings.warn(f"W&B was not told of {folder.name} ({why}); its record is complete; later: {again}", stacklevel=3)
    return False


def mark_of(folder: Path) -> str | None:
    """`online` or `offline`, as W&B was told of a run; None where it was not."""
    try:
        mode = json.loads((folder / MARK).read_text(encoding="utf-8"))["mode"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return str(mode)


def sync(runs_dir: Path, config: TrackingConfig, patience: float = PATIENCE) -> int:
    """Upload every completed run that was not, each once however many do it at a time; returns how many could not."""
    from filelock import FileLock, Timeout

    records, damages = scan(runs_dir)
    for damage in damages:
        print(f"left out: {damage.reason}")
    folders = [folder for folder, record in records.items() if record.result]
    waiting = [folder for folder in folders if mark_of(folder) != "online"]
    failed = 0
    (runs_dir / "wandb").mkdir(exist_ok=True)
    for number, folder in enumerate(waiting, 1):
        place = f"[{number}/{len(waiting)}] {folder.name}"
        try:
            with FileLock(runs_dir / "wandb" / f"{folder.name}.lock", timeout=0):
                if mark_of(folder) != "online":
                    uploaded = publish(config, folder, _group(folder), patience)
                    failed += not uploaded
                    answer = "uploaded" if uploaded else "not uploaded"
                    print(f"{place}: {answer}")
        except Timeout:
            print(f"{place}: another process uploads it")
    print(f"{len(folders) - len(waiting)} of {len(folders)} were uploaded before, {failed} could not be")
    return failed


def _group(folder: Path) -> str:
    try:
        return str(json.loads((folder / MARK).read_text(encoding="utf-8"))["group"])
    except (OSError, ValueError, TypeError, KeyError):
        return "sync"


def resolve_mode(mode: str) -> str:
    """`online` or `offline` for `auto`: online when there is a login already; it never asks for one."""
    if mode != "auto":
        return mode
    import wandb

    if os.environ.get("WANDB_MODE") in ("offline", "online", "disabled"):
        return os.environ["WANDB_MODE"]
    return "online" if wandb.login(prompt=False) else "offline"


def tell(config: TrackingConfig, folder: Path, group: str) -> None:
    """What `publish` has done in a process of its own.

    Raises:
        Exception: whatever wandb raises.
    """
    runs_dir, record = folder.resolve().parent, read_record(folder)
    history = read_history(folder)
    mode = resolve_mode(config.mode)
    if mode == "disabled":
        return
    try:
        _send(config, folder, group, mode, record, history)
    finally:
        _remove_logs(runs_dir / "wandb", record.run_id)
    mark = {"mode": mode, "project": config.project, "group": group}
    write_json(folder / MARK, mark | {"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})


def _send(config: TrackingConfig, folder: Path, group: str, mode: str, record: Record, history: list[Any]) -> None:
    runs_dir = folder.resolve().parent
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_DATA_DIR", str(runs_dir / "wandb"))
    (runs_dir / "wandb").mkdir(parents=True, exist_ok=True)
    import wandb

    if notes := os.environ.get("WANDB_NOTES"):  # which W&B reads by itself
        os.environ["WANDB_NOTES"] = redact(notes)
    settings = wandb.Settings(silent=True, console="off", init_timeout=30, **NOT_TOLD)
    names = window_names(record)
    with wandb.init(
        project=config.project,
        entity=config.entity,
        dir=str(runs_dir),
        id=record.run_id,
        name=record.run_id,
        group=group,
        job_type=names.arm,
        tags=names.tags,
        config=redacted(_public(record.config) | {"arm": names.arm}),
        mode=mode,  # type: ignore[arg-type]
        settings=settings,
    ) as run:
        for row in history:
            run.log({key: value for key, value in row.items() if key != "step"}, step=int(row["step"]))
        if record.completed.matrices:  # a trial has none
            pictures = {
                "spectrum/singular_values": wandb.Image(spectrum_chart(record, load_spectra(folder))),
                "spectrum/effective_rank_map": wandb.Image(heat_map(record)),
            }
            run.log(pictures, step=int(history[-1]["step"]))
        run.summary.update(_summary(record))


def _public(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as W&B is shown it: without places, and only the name of a file or folder of the user's."""
    kept = portable(config)
    if path := config["task"].get("path"):
        kept["task"]["path"] = _name(str(path), config["task"].get("source") == "hub")
    return kept | {"model": _name(str(config["model"]), is_public=True)}


def _name(path: str, is_public: bool) -> str:
    """The path itself if it is a data set's or a model's name on the hub, else its last part.

    >>> _name("org/name", True), _name("/home/me/data.csv", True), _name("clinic/patients.csv", False)
    ('org/name', 'data.csv', 'patients.csv')
    """
    of_the_hub = is_public and re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?(@[\w./-]+)?", path)
    return path if of_the_hub and not Path(path).exists() else Path(path).name


def _remove_logs(folder: Path, run_id: str) -> None:
    """Remove the logs that W&B's own code wrote while it was told of a run: they name places on this machine."""
    for logs in folder.glob(f"*run-*-{run_id}/logs"):
        shutil.rmtree(logs, ignore_errors=True)
    for link in folder.glob("debug*.log"):
        link.unlink(missing_ok=True)


@dataclass(frozen=True)
class WindowNames:
    """The names of a run in W&B beside its id: its arm (all but the seed), and a tag for each dial that differs from
    its default."""

    arm: str
    tags: list[str]


def window_names(record: Record) -> WindowNames:
    """Model, task, method and rank, then every setting that differs from its default, and as tags the seed too.

    W&B learns of a run before other runs of its sweep begin, so the run's names depend only on itself.
    """
    config = record.config | {"rank": record.rank, "seed": record.seed}
    typed = dict(override.split("=", 1) for override in variation.overrides(config))
    tags = [f"{key}={Path(value).name if key in variation.INPUTS else value}" for key, value in typed.items()]
    arm = " ".join(tag for tag in tags if not tag.startswith(("model=", "task=", "seed=")))
    if len(arm) > LONGEST:
        arm = f"{arm[: LONGEST - 7]} {variation.digest(arm)}"
    tags += ["collapsed"] if record.result and record.result.collapsed else []
    return WindowNames(arm, [tag[-LONGEST:] for tag in tags])


def _summary(record: Record) -> dict[str, Any]:
    result = record.completed
    flat: dict[str, Any] = dict(result.metrics)
    flat |= {f"baseline/{key}": value for key, value in result.baselines.items()}
    flat |= {f"parameters/{key}": value for key, value in asdict(result.parameters).items()}
    flat |= {f"memory/{key}": value for key, value in result.memory.by_category.items()}
    flat |= {"memory/peak_bytes": result.memory.peak_bytes, "status": record.status}
    flat |= {"collapsed": bool(result.collapsed), "collapsed/why": "; ".join(result.collapsed)}
    if cover := result.coverage:
        flat |= {f"coverage/{key}": value for key, value in asdict(cover).items() if key != "parts"}
        flat |= {f"coverage/{part.reason}/{part.module}": part.parameters for part in cover.parts}
    flat |= {"metric": result.metric, "higher_is_better": result.higher_is_better}
    flat |= {f"time/{key}": value for key, value in asdict(result.time).items()}
    flat |= {f"spectrum/{key}": result.summary[key] for key in SUMMARY_KEYS if result.summary}
    return flat


def main(arguments: list[str] | None = None) -> int:
    """`sync [RUNS]`, for people, and `publish RUN`, which a run starts."""
    return answer(lambda: _main(arguments), "; what is uploaded stays so")


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lorax_lab.store.tracking", description="Upload what W&B was not told."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    upload = commands.add_parser("sync", help="upload the completed runs that were not, each once")
    upload.add_argument("folder", nargs="?", default="runs", type=Path, metavar="RUNS", help="runs by default")
    one = commands.add_parser("publish", help="tell W&B of one run; what a sweep does after each")
    one.add_argument("folder", type=Path, metavar="RUN")
    one.add_argument("--group", default="sync", help="the name under which W&B shows the sweep")
    for command, mode in ((upload, "online"), (one, "auto")):
        command.add_argument("--mode", default=mode, choices=["auto", "offline", "online"])
        command.add_argument("--project", default="lorax_lab")
        command.add_argument("--entity")
    upload.add_argument("--patience", type=float, default=PATIENCE, help=f"seconds for a run ({PATIENCE:.0f})")
    asked = parser.parse_args(arguments)
    config = TrackingConfig(asked.mode, asked.project, asked.entity)
    if asked.command == "sync" and not 0 < asked.patience < float("inf"):
        parser.error(f"--patience {asked.patience} is no time: a number of seconds above 0, such as {PATIENCE:.0f}")
    if not asked.folder.is_dir():
        parser.error(f"{asked.folder} is no folder; type the one with the records, as in: {asked.command} runs")
    if asked.command == "sync":
        return 1 if sync(asked.folder, config, asked.patience) else 0
    try:
        tell(config, asked.folder, asked.group)
    except Exception as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    guard()
    sys.exit(main())
