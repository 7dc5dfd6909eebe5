"""Hydra's launchers: who starts the runs of a sweep, this process alone or several.

A launcher gets numbers, not settings: the runs are planned first, and each job looks up its run by number. So the grid
is expanded once, without Hydra's sweeper.
"""

from __future__ import annotations

import importlib.util
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorax_lab.config.overrides import CONF, values_of
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.record.output import guard
from lorax_lab.record.redact import redact

Allowed = type[int] | type[str] | tuple[str, ...]
LAUNCHERS = {
    "basic": "hydra",
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "submitit_slurm": "hydra_plugins.hydra_submitit_launcher",
}
"""Launchers that the store is tested with, and the module that each needs."""


JOBLIB: dict[str, Allowed] = {
    "n_jobs": int, "verbose": int, "timeout": int, "batch_size": int, "max_nbytes": str, "require": ("sharedmem",),
    "backend": ("loky", "multiprocessing", "threading"), "prefer": ("processes", "threads"),
    "pre_dispatch": ("all", "2*n_jobs"),
}  # fmt: skip
SUBMITIT: dict[str, Allowed] = {
    "timeout_min": int, "cpus_per_task": int, "gpus_per_node": int, "tasks_per_node": int, "mem_gb": int, "nodes": int,
    "name": str, "stderr_to_stdout": ("True", "False"),
}  # fmt: skip
SLURM: dict[str, Allowed] = SUBMITIT | {
    "partition": str, "qos": str, "comment": str, "constraint": str, "exclude": str, "gres": str, "cpus_per_gpu": int,
    "gpus_per_task": int, "mem_per_gpu": str, "mem_per_cpu": str, "account": str, "signal_delay_s": int,
    "max_num_timeout": int, "array_parallelism": int,
}  # fmt: skip
SETTINGS = {"joblib": JOBLIB, "submitit_local": SUBMITIT, "submitit_slurm": SLURM}
"""The settings of each launcher: a whole number, a word, or one of some words."""
REFUSED = {
    "setup": "it would run commands; run them in the shell before, since Slurm hands its environment on",
    "additional_parameters": "it could run commands; set Slurm's own variables before, such as SBATCH_RESERVATION",
    "submitit_folder": "its files go into runs_dir; leave it out",
    "temp_folder": "its files go where the system keeps such files; leave it out",
    "mmap_mode": "no run hands arrays on; leave it out",
}
"""Settings of launchers that are not possible here, and what to do instead."""
WORD = re.compile(r"[\w.,:%+/-]+", re.ASCII)


def check_setting(override: str) -> None:
    """Refuse a launcher's setting that is not a number or a word, or that would run or write something.

    Raises:
        ConfigError: what is possible, and what to type.
    """
    key, _, value = override.lstrip("+").partition("=")
    name = key.removeprefix("hydra.launcher.")
    if name in REFUSED:
        raise ConfigError(f"{key}={value} is not possible: {REFUSED[name]}")
    known = {name: allowed for settings in SETTINGS.values() for name, allowed in settings.items()}
    if name not in known:
        raise ConfigError(f"there is no key {key}; {suggest(name, sorted(known))}")
    values, allowed = values_of(override), known[name]
    if len(values) > 1 or not _fits(values[0], allowed):
        example = allowed[0] if isinstance(allowed, tuple) else 2 if allowed is int else "name"
        words = {int: "a whole number above 0", str: "a word without spaces and signs"}
        may_be = words[allowed] if isinstance(allowed, type) else f"one of {', '.join(allowed)}"
        raise ConfigError(f"{override} is not possible: it is {may_be}; for instance {key}={example}")


def _fits(value: object, allowed: Allowed) -> bool:
    if isinstance(allowed, tuple):
        return str(value) in allowed
    if allowed is int:
        return type(value) is int and (0 < value < 2**31 or value == -1)
    return isinstance(value, str | int) and bool(WORD.fullmatch(str(value)))


def check_launcher(name: str) -> None:
    """Refuse a launcher that is not known here or not installed.

    Raises:
        ConfigError: either of them, with what to type.
    """
    if name not in LAUNCHERS:
        raise ConfigError(f"hydra/launcher={name} is not possible; {suggest(name, list(LAUNCHERS))}")
    try:
        installed = importlib.util.find_spec(LAUNCHERS[name]) is not None
    except ModuleNotFoundError:
        installed = False
    if not installed:
        raise ConfigError(f"hydra/launcher={name} is not installed; type pip install -e '.[parallel]'")


def chosen(overrides: list[str]) -> list[str]:
    """The overrides that choose and set up a parallel launcher; none where this process trains the runs itself.

    Raises:
        ConfigError: settings of a launcher that was not chosen.
    """
    names = [override for override in overrides if override.startswith("hydra/launcher=")][-1:]
    settings = [override for override in overrides if override.startswith("hydra.launcher.")]
    if names in ([], ["hydra/launcher=basic"]):
        if settings:
            raise ConfigError(f"{settings[0]} needs a launcher that has it; type hydra/launcher=joblib as well")
        return []
    own = SETTINGS[names[0].partition("=")[2]]
    for setting in settings:
        name = setting.partition("=")[0].removeprefix("hydra.launcher.")
        if name not in own:
            raise ConfigError(f"{setting} is not possible with {names[0]}; {suggest(name, sorted(own))}")
    return names + settings


def start(job: Callable[[int], object], count: int, launcher: list[str], runs_dir: Path) -> None:
    """Call `job` with each number below `count`, in this process and in order, or through a parallel launcher.

    Args:
        job: must be picklable for a parallel launcher, which calls it in other processes.
        launcher: as `chosen` returns it.
        runs_dir: where the launcher may keep files, in `.hydra`.

    Raises:
        ConfigError: a setting that the launcher does not have.
    """
    if launcher:
        _start_parallel(job, count, launcher, runs_dir)
        return
    for number in range(count):
        job(number)


def _start_parallel(job: Callable[[int], object], count: int, overrides: list[str], runs_dir: Path) -> None:
    from hydra import compose, initialize_config_dir
    from hydra._internal.callbacks import Callbacks
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.types import Quote, QuotedString
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from hydra.types import HydraContext

    from lorax_lab.console import console

    def task(_: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        guard()
        try:
            job(int(HydraConfig.get().job.num))
        except Exception as error:  # a launcher keeps what is raised in files of its own, and prints it
            raise RuntimeError(redact("".join(traceback.format_exception(error)))) from None

    folder = QuotedString(str(runs_dir / ".hydra"), Quote.single).with_quotes()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            config = compose("config", [*overrides, f"hydra.sweep.dir={folder}"], return_hydra_config=True)
        except HydraException as error:
            raise ConfigError(" ".join(str(error).split())) from None
        context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks())
        launcher = Plugins.instance().instantiate_launcher(context, task, config)
        try:
            for result in launcher.launch([[] for _ in range(count)], initial_job_idx=0):
                _ = result.return_value  # raises what the job raised
        except Exception as error:  # such as a worker that the system has killed: the sweep goes on without it
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            console.print(
                f"{overrides[0]} ended early ({reason}); the rest is trained here", soft_wrap=True, markup=False
            )
