"""Launchers of sweeps that start at once and can be killed: children of one process that has everything imported.

`Launchers` starts this file as a program. It reads requests, a line of JSON each, forks, and the child, head of a
process group of its own, is `python -m lorax_lab.run` with the overrides of the request.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Launch:
    """A launcher that runs: its process group, and where its output and, in the end, its exit code go."""

    pid: int
    output: Path

    @property
    def exit_code(self) -> int | None:
        path = self.output.with_suffix(".exit")
        return int(path.read_text()) if path.exists() and path.read_text() else None

    @property
    def ended(self) -> bool:
        return self.exit_code is not None or not Path(f"/proc/{self.pid}").exists()

    def kill(self) -> None:
        """End the whole process group, at once."""
        for end in (os.killpg, os.kill):  # the second before the child has made its group
            with suppress(ProcessLookupError):
                end(self.pid, signal.SIGKILL)
        while Path(f"/proc/{self.pid}").exists():
            time.sleep(0.002)

    def wait(self, seconds: float = 300) -> int:
        deadline = time.monotonic() + seconds
        while not self.ended:
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.01)
        code = self.exit_code
        return -9 if code is None else code


class Launchers:
    """Starts launchers; as a context manager it ends its own process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "default"}
        quiet |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "HYDRA"))}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, __file__], env=kept | quiet, **pipes)  # type: ignore[call-overload]

    def __enter__(self) -> Launchers:
        assert self._ask({}) == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def start(self, overrides: list[str], **fault: Any) -> Launch:
        """Start `python -m lorax_lab.run WORDS`, with a fault of `faults.FAULTS` in it."""
        self.count += 1
        output = self.folder / f"launch-{self.count}.txt"
        return Launch(int(self._ask({"overrides": overrides, "output": str(output), "fault": fault})), output)

    def run(self, overrides: list[str], **fault: Any) -> Launch:
        """Start and wait for the end."""
        launch = self.start(overrides, **fault)
        launch.wait()
        return launch

    def _ask(self, request: dict[str, Any]) -> str:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return str(self.process.stdout.readline().strip())


def _child(request: dict[str, Any], launch: Any) -> None:
    os.setpgid(0, 0)
    handle = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(handle, stream)
    import pytest
    from faults import apply
    from here import without_workers

    apply(request["fault"])
    without_workers(pytest.MonkeyPatch())
    sys.argv = ["lorax_lab.run", *request["overrides"]]
    code = 70
    try:
        code = launch()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        Path(request["output"]).with_suffix(".exit").write_text(str(code))
        os._exit(code)


def _serve() -> None:
    import importlib

    heavy = (
        "transformers.models.bert.modeling_bert transformers.models.auto.modeling_auto accelerate hydra sklearn.metrics"
    )
    ours = "execute measure.truncation measure.rows memory record.record methods"
    ours += " models record.provenance tasks train"
    for name in [*heavy.split(), *(f"lorax_lab.{part}" for part in ours.split())]:
        importlib.import_module(name)
    from lorax_lab.launch.entry import launch

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries the children
    for line in sys.stdin:
        request = json.loads(line)
        if not request:
            print("ready", flush=True)
            continue
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _child(request, launch)
        print(pid, flush=True)


if __name__ == "__main__":
    _serve()
