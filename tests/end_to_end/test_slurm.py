"""Slurm tells a job that its time is nearly over; it is put back in the queue, and its run goes on."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from here import store_of, until

from lorax_lab.record import scan

ROOT = Path(__file__).parents[2]
TASK = "submitit.core._submit"
"""What the command line of a job has in it."""


@pytest.mark.slow
def test_a_job_that_is_told_to_end_is_queued_again_and_its_run_goes_on(small_run: list[str]) -> None:
    """By submitit's local executor, which queues as its Slurm does. Slurm signals every process of a job."""
    words = [*small_run, "method=full", "train.epochs=100", "train.validations=6", "train.max_steps=120"]
    words += ["checkpoint_seconds=0", "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=30"]
    command = [sys.executable, "-m", "lorax_lab.run", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    until(lambda: list(store_of(words).glob("*/checkpoints/step-00003*")), lambda: launcher.poll() is None)
    (job,) = (one for one in psutil.Process(launcher.pid).children(recursive=True) if TASK in one.cmdline())
    for process in (*job.children(recursive=True), job):
        process.send_signal(signal.SIGUSR2)
    output, _ = launcher.communicate(timeout=200)
    ((_, record),) = scan(store_of(words))[0].items()
    log = "".join(path.read_text() for path in store_of(words).glob(".hydra/.submitit/*/*_log.*"))
    assert (launcher.returncode, record.status) == (0, "completed"), output + log
    assert log.count("Requeued job") == 1
    steps = [int(step) for step in re.findall(r"step (\d+)/120", log)]
    assert (steps, steps[-1]) == (sorted(set(steps)), 120), "no step is told twice: the run did not begin anew"
    assert steps[0] == 20
