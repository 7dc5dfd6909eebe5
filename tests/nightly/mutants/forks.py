"""Tests in a fork: the large libraries are imported once, the code under test anew in each child."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[3]
LARGE = [
    "torch", "numpy", "pandas", "scipy.stats", "sklearn.metrics", "statsmodels.api", "accelerate", "peft", "hydra",
    "transformers.models.bert.modeling_bert", "transformers.models.auto.modeling_auto", "pydantic", "hypothesis",
    "matplotlib.pyplot", "pytest",
]  # fmt: skip
OPTIONS = ("-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")

T = TypeVar("T")
Place = Callable[[], AbstractContextManager[Any]]
FORK = get_context("fork")


def import_large() -> None:
    """Import what most tests need and no mutation changes."""
    for name in LARGE:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


def forked(act: Callable[[], int], output: Path, seconds: float, cpu_seconds: int | None = None) -> int | None:
    """Exit code of `act` in a child, the head of a process group of its own, whose output goes to a file; None where it
    was ended because it took more than so many seconds by the clock, or of the processor.
    """
    sys.stdout.flush()
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        _become_child(output, cpu_seconds)
        os._exit(_outcome(act))
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                return None if code == -signal.SIGXCPU else code
            time.sleep(0.02)
        return None
    finally:
        if os.getpid() == parent:
            _end(pid)


def spread(jobs: Sequence[T], act: Callable[[T, Any], Any], workers: int, place: Place = nullcontext) -> Iterator[Any]:
    """What `act(job, place)` answers for each job, in the order in which they end; each worker is a process that has a
    `place` of its own for all its jobs."""
    taken, answers = FORK.Value("i", 0), FORK.Queue()  # type: ignore[var-annotated]

    def work() -> None:
        with place() as own:
            while True:
                with taken.get_lock():
                    number, taken.value = taken.value, taken.value + 1
                if number >= len(jobs):
                    return
                answers.put(act(jobs[number], own))

    processes = [FORK.Process(target=work, daemon=True) for _ in range(min(workers, len(jobs)))]
    for process in processes:
        process.start()
    for _ in jobs:
        yield answers.get()
    for process in processes:
        process.join()


def _become_child(output: Path, cpu_seconds: int | None) -> None:
    os.setsid()
    if cpu_seconds is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(handle, stream)


def _outcome(act: Callable[[], int]) -> int:
    try:
        code = act()
    except BaseException as error:
        print(f"ERROR {error!r}")
        code = 3
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _end(pid: int) -> None:
    """End what is left of a child's process group."""
    try:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def run_tests(
    tests: Sequence[str], project: Path, *options: str, plugins: Sequence[Any] = (), paths: Sequence[Path] = ()
) -> int:
    """pytest's exit code for the tests of a copy of the project, whose code is imported from there.

    Args:
        paths: where processes that the tests start look for modules besides.
    """
    import pytest

    os.chdir(project)
    os.environ |= {"PYTHONPATH": os.pathsep.join(map(str, (project, *paths))), "OMP_NUM_THREADS": "1"}
    kept = [path for path in sys.path if Path(path).resolve() not in (ROOT, Path(__file__).parent)]
    sys.path[:] = [str(project), *kept]
    return int(pytest.main([*OPTIONS, *options, f"--rootdir={project}", *tests], plugins=list(plugins)))


def failed_test(output: Path) -> str:
    """The test that failed, by pytest's summary in a file; else the last line."""
    lines = output.read_text(errors="replace").splitlines() if output.exists() else []
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return (failed or lines or [""])[-1]
