"""Launchers of sweeps that start at once and can be killed: forks of one server that has everything imported."""

import hashlib
import multiprocessing
import os
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lorax_lab.record import record

HEAVY = ["transformers.models.bert.modeling_bert", "transformers.models.auto.modeling_auto", "hydra"]
OURS = ["execute", "memory", "methods", "models", "tasks", "train", "launch.entry"]


@dataclass(frozen=True)
class Launch:
    """A launcher that runs: its process, head of a process group of its own, and where its output goes."""

    process: Any
    output: Path

    @property
    def exit_code(self) -> int | None:
        """None while it runs; that of a signal is negative."""
        return None if self.process.exitcode is None else int(self.process.exitcode)

    def kill(self) -> None:
        """End the whole process group, at once."""
        for end in (os.killpg, os.kill):  # the second before the child has made its group
            with suppress(ProcessLookupError):
                end(self.process.pid, signal.SIGKILL)
        self.process.join()

    def wait(self, seconds: float = 300) -> int:
        self.process.join(seconds)
        assert self.exit_code is not None, self.output.read_text()
        return self.exit_code


class Launchers:
    """Starts launchers, each with its output in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([*HEAVY, *(f"lorax_lab.{name}" for name in OURS)])

    def start(self, overrides: list[str], **fault: Any) -> Launch:
        """Start `python -m lorax_lab.run WORDS`, with faults of `faults` in it."""
        self.count += 1
        output = self.folder / f"launch-{self.count}.txt"
        process = self.context.Process(target=_child, args=(overrides, output, fault))
        with pytest.MonkeyPatch.context() as patch:  # for the server, which starts with the first
            for key, value in {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "default"}.items():
                patch.setenv(key, value)
            process.start()
        return Launch(process, output)

    def run(self, overrides: list[str], **fault: Any) -> Launch:
        """Start and wait for the end."""
        launch = self.start(overrides, **fault)
        launch.wait()
        return launch


def _child(overrides: list[str], output: Path, fault: dict[str, Any]) -> None:
    os.setpgid(0, 0)
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(handle, stream)
    from faults import apply
    from here import without_workers

    from lorax_lab.launch.entry import launch

    apply(fault)
    without_workers(pytest.MonkeyPatch())
    sys.argv = ["lorax_lab.run", *overrides]
    code: Any = 70
    try:
        code = launch()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def completed(store: Path, *patterns: str) -> dict[str, dict[str, str]]:
    """The hashes of the files of every completed run, or of those that fit a pattern."""
    folders = [path.parent for path in store.glob("*/record.json") if record.status_of(path.parent) == "completed"]
    return {folder.name: hashes(folder, *patterns) for folder in folders}


def hashes(folder: Path, *patterns: str) -> dict[str, str]:
    paths = {path for pattern in patterns or ["*"] for path in folder.glob(pattern) if path.is_file()}
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
