"""Whatever W&B, the process that shows runs, or a killer do: no run is changed by it.

By default a few kills; with `--full` 100.
"""

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from here import store_of
from launcher import Launch, Launchers, completed
from wandb_server import wandb_server

from lorax_lab.windows.child import shown_in

pytestmark = pytest.mark.faults
RESULTS = ("*.safetensors", "*.npz", "metrics.jsonl")
"""The files of a run that say what came of it: its numbers and its weights."""


@pytest.fixture
def words(tiny: list[str]) -> list[str]:
    """Three runs with their reference, without their windows."""
    return [*(word for word in tiny if not word.startswith("tracking")), "rank=1,2,3", "-m"]


def records(store: Path) -> dict[str, bytes]:
    """Every completed record, byte by byte."""
    return {name: (store / name / "record.json").read_bytes() for name in completed(store)}


@pytest.fixture
def expected(launchers: Launchers, words: list[str]) -> dict[str, dict[str, str]]:
    """What the runs end in when nothing shows them."""
    launch = launchers.run([*words, "tracking=disabled"])
    assert launch.exit_code == 0, launch.output.read_text()
    found = completed(store_of(words), *RESULTS)
    assert len(found) == 4
    shutil.rmtree(store_of(words))
    return found


def start(launchers: Launchers, words: list[str], address: str) -> Launch:
    variables = {"WANDB_BASE_URL": address, "WANDB_API_KEY": "0123456789" * 4, "WANDB_ERROR_REPORTING": "false"}
    return launchers.start([*words, "tracking=online"], environment=variables)


def children(parent: int) -> list[int]:
    """The processes that show runs, and W&B's own."""
    processes = [each for each in psutil.process_iter(["ppid", "cmdline"]) if each.info["ppid"] == parent]
    return [each.pid for each in processes if "lorax_lab.windows.child" in (each.info["cmdline"] or [])]


def test_kills_while_runs_are_shown_change_no_run(
    launchers: Launchers, words: list[str], expected: Any, chance: random.Random, request: pytest.FixtureRequest
) -> None:
    """Half of them end the sweep, half the process that shows its runs."""
    kills, store = 100 if request.config.getoption("--full") else 4, store_of(words)
    with wandb_server() as running:
        for number in range(kills):
            before = records(store)
            launch = start(launchers, words, running.url)
            time.sleep(chance.uniform(0.2, 6.0))
            if number % 2:
                for child in children(launch.process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                assert launch.wait() == 0, launch.output.read_text()
                assert completed(store, *RESULTS) == expected
                made = records(store).keys() - before.keys()
                lacking = [name for name in made if not shown_in(store / name, "online")]
                assert [name for name in lacking if f"lacks {name} " not in launch.output.read_text()] == []
            else:
                launch.kill()
            assert before.items() <= records(store).items(), "a finished run was lost or changed"
            if len(records(store)) == 4:
                shutil.rmtree(store, ignore_errors=True)
        assert start(launchers, words, running.url).wait() == 0
        assert completed(store, *RESULTS) == expected
        arrived = [[step for step, _ in run.rows("train/loss")] for run in running.runs.values()]
    assert all(steps == list(range(1, len(steps) + 1)) for steps in arrived), "each step once, in order"
    print(f"{kills} kills, no run changed")
