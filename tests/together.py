"""Runs in several processes: what starts them, what compares them with a run in one, and the program of each process.

    torchrun --nproc_per_node 2 tests/together.py '[["method=full", …], …]' [STEP]

trains the runs of several command lines, one after the other. With a STEP, the last process is killed when the first
run has taken so many.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

from lorax_lab.record import read_record
from lorax_lab.record.folder import read_history

ROOT = Path(__file__).parents[1]


def together(processes: int, commands: list[list[str]], *step: str) -> subprocess.CompletedProcess[str]:
    """Train the runs of these command lines in so many processes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    words = [*launcher, __file__, json.dumps(commands), *step]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=ROOT, env=environment, **pipes) as torchrun:
        try:
            output, errors = torchrun.communicate(timeout=300)
        except BaseException:
            # torchrun gives each of its processes a session of its own, so that no signal to a group reaches them
            for process in (*psutil.Process(torchrun.pid).children(recursive=True), torchrun):
                process.kill()
            raise
    return subprocess.CompletedProcess(words, torchrun.returncode, output, errors)


def run_in(store: Path) -> Path:
    """The only run of a store."""
    (folder,) = store.glob("tiny-bert-*")
    return folder


def assert_same_run(one: Path, several: Path, processes: int | None, tolerance: float = 1e-5) -> None:
    """Losses, gradient norms and trained weights, and the scores that follow from them."""
    records = read_record(one), read_record(several)
    assert [record.status for record in records] == ["completed"] * 2
    assert [record.hardware.get("processes") for record in records] == [None, processes]
    losses, histories = [], [read_history(folder) for folder in (one, several)]
    for history in histories:
        losses.append(torch.tensor([[row["train/loss"], row["train/gradient_norm"]] for row in history]))
    torch.testing.assert_close(*losses, rtol=0, atol=tolerance)
    scores = [[record.completed.metrics[name] for name in records[0].completed.metrics] for record in records]
    torch.testing.assert_close(*map(torch.tensor, scores), rtol=0, atol=tolerance)
    assert records[0].completed.time.tokens == records[1].completed.time.tokens
    (name,) = [path.name for path in one.glob("*.safetensors")]
    saved = [load_file(folder / name) for folder in (one, several)]
    torch.testing.assert_close(*saved, rtol=0, atol=tolerance)


def die_at(step: int) -> None:
    from lorax_lab.record.checkpoints import Checkpoints

    save = Checkpoints.save

    def saved(self: Any, model: Any, optimizer: Any, scaler: Any, position: Any) -> None:
        save(self, model, optimizer, scaler, position)
        if position.step == step and os.environ["RANK"] == str(int(os.environ["WORLD_SIZE"]) - 1):
            os.kill(os.getpid(), signal.SIGKILL)

    Checkpoints.save = saved


def main() -> int:
    from lorax_lab.launch.entry import launch

    commands, *step = sys.argv[1:]
    if step:
        die_at(int(step[0]))
    codes = []
    for words in json.loads(commands):
        sys.argv[1:] = words
        try:
            codes.append(launch())
        except SystemExit as end:
            codes.append(int(end.code or 0))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
