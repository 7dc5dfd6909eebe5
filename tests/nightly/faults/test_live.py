"""Whatever W&B, its followers or a killer do while runs are shown live: no run is changed by it.

By default a few of each; with `--full` 100 kills and 50 servers that hang or fail:
`pytest tests/faults/test_live.py -m faults --full -s`.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from launcher import Launch, Launchers
from test_neighbours import server

sys.path.insert(0, str(Path(__file__).parents[2]))
from wandb_server import Server, wandb_server

from lorax_lab.record import record
from lorax_lab.windows.marks import mark_of

pytestmark = pytest.mark.faults
KEY = "0123456789" * 4
BOUND = 2.0
"""Seconds that the end of a sweep waits for its windows in these tests."""


@pytest.fixture(scope="module")
def launchers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launchers]:
    with Launchers(tmp_path_factory.mktemp("launches")) as started:
        yield started


@pytest.fixture
def words(small_run: list[str]) -> list[str]:
    """Three runs of a fraction of a second, without their windows."""
    sizes = ["task.train_examples=48", "task.validation_examples=16", "task.test_examples=16"]
    kept = [word for word in small_run if not re.match(r"task\.\w+_examples|tracking", word)]
    return [*kept, *sizes, "train.batch_size=8", "checkpoint_seconds=0", "rank=1,2,3", "reference=false", "-m"]


def store_of(words: list[str]) -> Path:
    return Path(next(word for word in words if word.startswith("runs_dir=")).partition("=")[2])


def results(store: Path) -> dict[str, dict[str, str]]:
    """The hashes of the files of every completed run that say what came of it: its numbers and its weights."""
    folders = [path.parent for path in store.glob("*/record.json") if record.status_of(path.parent) == "completed"]
    files = ("*.safetensors", "*.npz", "metrics.jsonl")
    return {
        folder.name: {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for name in files for path in folder.glob(name)
        }
        for folder in folders
    }


def records(store: Path) -> dict[str, bytes]:
    """Every completed record, byte by byte."""
    return {name: (store / name / "record.json").read_bytes() for name in results(store)}


@pytest.fixture
def expected(launchers: Launchers, words: list[str]) -> dict[str, dict[str, str]]:
    """What the runs end in when nothing shows them."""
    launch = launchers.run([*words, "tracking=disabled"])
    assert launch.exit_code == 0, launch.output.read_text()
    found = results(store_of(words))
    assert len(found) == 3
    shutil.rmtree(store_of(words))
    return found


def shown(launchers: Launchers, words: list[str], address: str, **fault: Any) -> Launch:
    variables = {"WANDB_BASE_URL": address, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}
    return launchers.start(
        [*words, "tracking=online"], environment=variables, wait_for_windows={"seconds": BOUND}, **fault
    )


def followers(store: Path) -> list[int]:
    """The processes that show the runs of a store."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = path.read_bytes()
            if b"lorax_lab.windows.follower" in line and str(store).encode() in line:
                found.append(int(path.parent.name))
    return found


def end_followers(store: Path) -> None:
    for number in followers(store):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def test_kills_while_runs_are_shown_change_no_run(
    launchers: Launchers, words: list[str], expected: Any, chance: random.Random, request: pytest.FixtureRequest
) -> None:
    """Half of them end the sweep, half its followers."""
    kills, store = 100 if request.config.getoption("--full") else 4, store_of(words)
    with wandb_server() as running:
        for number in range(kills):
            before = records(store)
            launch = shown(launchers, words, running.url)
            time.sleep(chance.uniform(0.2, 6.0))
            if number % 2:
                end_followers(store)
                assert launch.wait() == 0, launch.output.read_text()
                assert results(store) == expected
                lacking = [name for name in records(store).keys() - before.keys() if mark_of(store / name) is None]
                assert unsaid(launch, lacking) == []
            else:
                launch.kill()
            assert before.items() <= records(store).items(), "a finished run was lost or changed"
            if len(records(store)) == 3:
                end_followers(store)
                shutil.rmtree(store, ignore_errors=True)
        assert shown(launchers, words, running.url).wait() == 0
        assert results(store) == expected
        end_followers(store)
        _whole_or_missing(running)
    print(f"{kills} kills, no run changed")


def unsaid(launch: Launch, names: list[str]) -> list[str]:
    """The runs of which a sweep says neither that W&B lacks them nor that it is told of them in the background."""
    lines = [line for line in launch.output.read_text().splitlines() if "store.tracking sync" in line]
    background = any("in the background" in line for line in lines)
    return [name for name in names if not background and not any(name in line for line in lines)]


def test_a_sweep_says_what_w_and_b_lacks_after_its_follower_was_killed(
    launchers: Launchers, words: list[str], expected: Any
) -> None:
    store = store_of(words)
    with wandb_server() as running:
        launch = shown(launchers, words, running.url)
        while not followers(store):
            assert not launch.ended, launch.output.read_text()
            time.sleep(0.01)
        end_followers(store)
        assert launch.wait() == 0, launch.output.read_text()
        end_followers(store)  # what it had forked in that moment
    assert results(store) == expected
    said = launch.output.read_text()
    assert re.search("W&B lacks .*: the process that shows them ended with status -9; later: python -m", said), said
    lacking = [name for name in records(store) if mark_of(store / name) is None]
    assert lacking
    assert unsaid(launch, lacking) == []
    assert not list(store.glob(".tracking/*/*.json"))


def _whole_or_missing(running: Server) -> None:
    """What arrived has each step once, in order."""
    for run in running.runs.values():
        steps = [step for step, _ in run.rows("train/loss")]
        assert steps == list(range(1, len(steps) + 1))


def test_servers_that_hang_or_fail_change_no_run_and_delay_it_by_no_more_than_said(
    launchers: Launchers, words: list[str], expected: Any, request: pytest.FixtureRequest
) -> None:
    servers, store = 50 if request.config.getoption("--full") else 2, store_of(words)
    start = time.monotonic()
    assert launchers.run([*words, "tracking=disabled"]).exit_code == 0
    alone, longest = time.monotonic() - start, 0.0
    for number in range(servers):
        shutil.rmtree(store, ignore_errors=True)
        with server(500 if number % 2 else 0) as address:
            start = time.monotonic()
            launch = shown(launchers, words, address)
            assert launch.wait() == 0, launch.output.read_text()
            longest = max(longest, time.monotonic() - start)
            assert results(store) == expected
            assert "sync" in launch.output.read_text()  # how what is missing is uploaded later
            everything = [path.read_bytes() for path in store.rglob("*") if path.is_file()]
            assert not [content for content in everything if KEY.encode() in content]
            end_followers(store)
    print(f"{servers} servers, no run changed; a sweep took {alone:.1f} s alone, {longest:.1f} s at most with them")
    assert longest < 4 * alone + BOUND + 20  # other processes share the machine


@pytest.mark.parametrize("size", [None, 64 * 1024], ids=["no folder", "full disk"])
def test_windows_without_room_for_their_files_change_no_run(
    launchers: Launchers, words: list[str], expected: Any, size: int | None
) -> None:
    """W&B's files go where none can be written, or to a disk that is full after the first."""
    store = store_of(words)
    place = store / "wandb"
    store.mkdir(parents=True, exist_ok=True)
    with wandb_server() as running, disk(place, size):
        launch = shown(launchers, words, running.url)
        assert launch.wait() == 0, launch.output.read_text()
        end_followers(store)
        assert results(store) == expected
        assert "sync" in launch.output.read_text()


@contextmanager
def disk(place: Path, size: int | None) -> Iterator[None]:
    """A disk of so many bytes at `place`; for None a file stands there."""
    if size is None:
        place.write_text("")
        yield
        return
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place]).returncode:
        pytest.skip("no disk may be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
