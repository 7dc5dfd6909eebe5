"""`python -m lorax_lab.run`: Hydra's program, with a few flags of its own, and what a sweep does from its grid to its
table."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lorax_lab
from lorax_lab.config import AUTO, RunConfig
from lorax_lab.config.overrides import CONF
from lorax_lab.errors import ConfigError, any_sign_can_be_printed, in_one_line
from lorax_lab.launch.compose import in_our_words, recorded, spell_out, typed

if TYPE_CHECKING:
    from omegaconf import DictConfig

Launch = Callable[..., Sequence[Any]]
"""A launcher of Hydra's: called with the overrides of each job."""


def launch() -> int:
    """Run the command line in `sys.argv`.

    Returns:
        The exit code: 0 all completed, 1 some not, 2 a setting that is not possible, 130 interrupted.
    """
    import hydra

    any_sign_can_be_printed()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises then what it would print, and it is said in our words
    try:
        if "--version" in sys.argv:
            print(f"lorax_lab {lorax_lab.__version__}")
            return 0
        sys.argv[1:] = for_hydra(sys.argv[1:])
        with in_our_words():
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted before anything trained", file=sys.stderr)
        return 130
    except ConfigError as error:
        from rich.text import Text

        from lorax_lab.console import console

        console.print(Text.assemble(("error:", "red"), f" {in_one_line(error)}"), soft_wrap=True)
        return 2


def for_hydra(words: list[str]) -> list[str]:
    """A command line as Hydra takes it: our flags become overrides, and `-m` may have stood anywhere.

    >>> for_hydra(["rank=4,8", "-m", "task.text=sentence", "--dry-run"])
    ['rank=4,8', '++task.text=sentence', 'hydra.sweeper.dry_run=true', '--multirun']
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    ours, rest = parser.parse_known_args(words)
    overrides = [word for word in rest if "=" in word and not word.startswith("-")]
    flags = [word for word in rest if word not in overrides]
    if ours.config:
        overrides = recorded(ours.config, overrides)
    overrides = spell_out(overrides, ours.config_dir)
    overrides += ["hydra.sweeper.dry_run=true"] if ours.dry_run else []
    flags += ["--config-dir", str(ours.config_dir)] if ours.config_dir else []
    asks = any(flag.startswith(("--cfg", "-c", "--info", "-i", "--help", "-h")) for flag in flags)
    if "--resolve" in flags and not asks:
        raise ConfigError("--resolve is not possible alone; type --cfg job --resolve")
    return [*overrides, *flags, *(["--multirun"] if ours.multirun and not asks else [])]


def job(config: DictConfig) -> float:
    """A job of Hydra's, as every sweeper and launcher may start one: the run of its configuration, and before it the
    full fine-tune that it is compared with. What is recorded is not trained again.

    Returns:
        The run's score on validation.

    Raises:
        RuntimeError: the run has no result.
    """
    from omegaconf import OmegaConf

    from lorax_lab.launch.plan import check, run_of, with_reference
    from lorax_lab.launch.sweep import Sweep
    from lorax_lab.record.record import read_record
    from lorax_lab.train import check_one_process

    check_one_process()
    content: Any = OmegaConf.to_container(config)
    sweep = Sweep(with_reference(run_of(typed(content))))
    if sweep.waiting:
        check(sweep.waiting)
        if sweep.train([{}]):
            raise KeyboardInterrupt
    *_, run = sweep.runs
    if not sweep.is_settled(run):
        raise RuntimeError(f"{run.run_id} has no result; its record says why")
    return read_record(run.folder).completed.score("validation")


def make_store(runs_dir: Path) -> None:
    """Make the folder of the records, and try whether a file can be written there.

    Raises:
        ConfigError: neither is possible.
    """
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=runs_dir).close()
    except OSError as error:
        instead = "name another folder, as in runs_dir=runs"
        raise ConfigError(f"runs_dir={runs_dir} cannot be written ({error.strerror}); {instead}") from None


def carry_out(configs: list[RunConfig], jobs: list[list[str]], launcher: Launch | None, dry_run: bool) -> int:
    """Check every run, train those that are missing, and print the closing table; or say what would be done.

    Args:
        configs: of the runs that are asked for.
        jobs: the overrides of each.
        launcher: starts the jobs; None for worker processes of our own.

    Returns:
        As `launch`.
    """
    from lorax_lab.console import say
    from lorax_lab.launch.fastest import precision_of
    from lorax_lab.launch.outlook import dry_run_lines, not_measured_lines
    from lorax_lab.launch.plan import check, each_once, run_of, with_reference
    from lorax_lab.launch.room import in_words, shares
    from lorax_lab.launch.sweep import Sweep
    from lorax_lab.train import check_one_process

    check_one_process()
    grid = [with_reference(run_of(config)) for config in configs]
    sweep = Sweep(each_once(grid))
    workers = shares(sweep.waiting, len(sweep.runs), check(sweep.waiting))
    if sweep.waiting and not dry_run:
        make_store(sweep.runs_dir)
    say(sweep.opening)
    if configs[0].train.precision == AUTO:
        say(f"note: train.precision=auto is train.precision={precision_of(configs[0].train)} here")
    for line in [*in_words([] if launcher else workers), *not_measured_lines(sweep.waiting)]:
        say(line)
    if dry_run:
        for line in dry_run_lines(sweep.runs, len(workers)):
            say(line)
        return 0
    if launcher and sweep.waiting:
        overrides = {runs[-1].run_id: job for runs, job in zip(grid, jobs, strict=True)}
        pending = [overrides[run.run_id] for run in sweep.waiting if run.run_id in overrides]
        try:
            launcher(pending, initial_job_idx=0)
        except Exception as error:  # such as a worker that the system has killed: the sweep goes on without it
            say(f"the launcher ended early ({in_one_line(error)}); the rest is trained here")
    interrupted = bool(sweep.waiting) and sweep.train(workers)
    complete = sweep.close()
    if interrupted:
        say("interrupted; the same command goes on with what is missing")
        return 130
    return 0 if complete else 1
