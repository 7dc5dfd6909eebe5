"""Whatever kills a sweep: nothing that was finished is lost, changed or trained again, and what is resumed ends in the
same bits."""

import itertools
import random
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from here import store_of
from launcher import Launchers, completed, hashes

from lorax_lab.record import load_runs, record

pytestmark = pytest.mark.faults
ALONE = ["reference=false"]
LORA = ["rank=4", "method.dropout=0.2"]


@pytest.fixture(params=[[], ALONE], ids=["with its reference", "alone"])
def more(request: pytest.FixtureRequest) -> Any:
    """What is typed beside the defaults, at which a run has its reference."""
    return request.param


RESULT = re.compile(r"^\[(\d+)/\d+\] \S.* accuracy [\d.]+ \d+ s", re.MULTILINE)
"""What a launcher prints when it has trained a run."""


def test_a_sweep_killed_at_random_moments_is_finished_without_loss(
    launchers: Launchers, tiny: list[str], more: list[str], chance: random.Random, request: pytest.FixtureRequest
) -> None:
    overrides, runs = [*tiny, *more, "rank=1,2,3,4", "seed=0,1,2", "-m"], 12 if more else 15
    kills = 150 if request.config.getoption("--full") else 15
    store, before, done, start = store_of(overrides), {}, 0, time.monotonic()
    assert launchers.run(overrides).exit_code == 0
    whole = time.monotonic() - start
    shutil.rmtree(store)
    for _ in range(kills):
        launch = launchers.start(overrides)
        time.sleep(chance.uniform(0.0, 1.2 * whole / runs + 0.5))
        done += launch.exit_code is not None
        launch.kill()
        after = completed(store)
        assert before.items() <= after.items(), "a finished run was lost or changed"
        before = after
        if len(after) == runs:  # all there: begin again with an empty store, so that every kill hits work
            shutil.rmtree(store)
            before = {}
    assert launchers.run(overrides).exit_code == 0
    after = completed(store)
    assert before.items() <= after.items()
    assert len(after) == runs
    print(f"{kills} kills, {done} of them after the end, none lost")


@pytest.mark.parametrize("words", [["method=full"], LORA, [*LORA, *ALONE]], ids=["full", "lora", "lora alone"])
def test_a_run_killed_at_any_step_ends_in_the_same_bits(
    launchers: Launchers, tiny: list[str], words: list[str], chance: random.Random, request: pytest.FixtureRequest
) -> None:
    extra = [*words]
    extra += ["train.epochs=3", "train.gradient_accumulation=2", "train.clip_norm=0.5", "train.validations=2"]
    overrides = [*tiny, *extra]
    store = store_of(overrides)
    expected = bits(launchers, overrides, store)
    for _ in range(100 if request.config.getoption("--full") else 10):
        shutil.rmtree(store)
        step = chance.randrange(1, 10)
        assert launchers.run(overrides, kill_at_step={"step": step}).exit_code == -signal.SIGKILL
        (folder,) = store.glob("tiny-bert-*")  # the first run of two
        left = sorted(folder.glob("checkpoints/step-*"))
        assert left[-1].name == f"step-{step:06d}"
        assert len(left) <= 2
        assert bits(launchers, overrides, store) == expected, f"killed at step {step}"


def bits(launchers: Launchers, overrides: list[str], store: Path) -> dict[str, object]:
    """Everything that each run ends with, but for what it cost."""
    launch = launchers.run(overrides)
    assert launch.exit_code == 0, launch.output.read_text()
    assert not list(store.glob("*/checkpoints"))
    parts = ("metrics", "matrices", "truncation", "parameters")
    ends = {}
    for folder in store.glob("tiny-bert-*"):
        result = record.read_record(folder).completed
        ends[folder.name] = hashes(folder, "*.safetensors", "metrics.jsonl"), *(getattr(result, part) for part in parts)
    return ends


@pytest.fixture
def writes(request: pytest.FixtureRequest, chance: random.Random, more: list[str]) -> Iterator[int]:
    """Numbers of writes: with --full all of them, else every third of a run, every ninth of two, from a random one of
    the first on."""
    step = 1 if request.config.getoption("--full") else 3 if more else 9
    return itertools.count(chance.randint(1, step), step)


def test_a_power_cut_at_any_write_leaves_the_old_state_or_the_new(
    launchers: Launchers, tiny: list[str], more: list[str], writes: Iterator[int]
) -> None:
    overrides = [*tiny, *more, "rank=1", "train.max_steps=2"]
    store = store_of(overrides)
    assert launchers.run(overrides).exit_code == 0
    finished = completed(store, "*.safetensors")
    cuts = 0
    for number in writes:
        shutil.rmtree(store)
        launch = launchers.run(overrides, die_at_write={"number": number})
        if launch.exit_code == 0:
            break
        cuts += 1
        before = completed(store)
        for folder in store.glob("tiny-bert-*"):
            assert record.status_of(folder) in (None, "running", "completed")
        assert launchers.run(overrides).exit_code == 0
        after = completed(store)
        assert before.items() <= after.items()
        assert completed(store, "*.safetensors") == finished
        assert not [
            path for name in after for path in record.read_record(store / name).completed.files if path[0] == "."
        ]
        assert not [path for name in after for path in (store / name).glob(".*")]
        assert not list(store.glob("*/checkpoints"))
    assert cuts >= 7
    print(f"{cuts} power cuts at writes of a run")


def test_a_power_cut_at_any_write_of_a_comparison_leaves_the_record_whole(
    launchers: Launchers, tiny: list[str]
) -> None:
    overrides = [*tiny, "rank=1", "train.max_steps=2"]
    store = store_of(overrides)
    assert launchers.run([*overrides, "reference=false"]).exit_code == 0
    assert launchers.run([*tiny, "method=full", "train.max_steps=2"]).exit_code == 0
    whole, number = store.with_name("whole"), 0
    shutil.copytree(store, whole)
    while True:
        number += 1
        shutil.rmtree(store)
        shutil.copytree(whole, store)
        launch = launchers.run(overrides, die_at_write={"number": number})
        assert len(completed(store)) == 2
        if launch.exit_code == 0:
            break
        assert launchers.run(overrides).exit_code == 0
        assert any(record.read_record(store / name).completed.reference for name in completed(store))
    assert number > 3
    print(f"{number - 1} power cuts, one at every write of a comparison")


def test_a_full_disk_at_any_write_leaves_what_was_there_and_the_run_resumable(
    launchers: Launchers, tiny: list[str], more: list[str], writes: Iterator[int]
) -> None:
    """The second run's; at the defaults that of its reference too, which has another seed."""
    overrides = [*tiny, *more, "rank=1", "train.max_steps=2"]
    store, second = store_of(overrides), [*overrides, "rank=2", "seed=1"]
    assert launchers.run(overrides).exit_code == 0
    first = completed(store)
    full = 0
    for number in writes:
        for folder in store.glob("*-s1-*"):
            shutil.rmtree(folder)
        launch = launchers.run(second, disk_full_at_write={"number": number})
        shown = launch.output.read_text()
        if "is the one" not in shown:
            assert launch.exit_code == 0
            break
        assert first.items() <= completed(store).items()
        if launch.exit_code != 0:
            assert "No space left on device" in shown
            assert "Traceback" not in shown
        assert launchers.run(second).exit_code == 0
        full += 1
    assert full >= 4
    print(f"a disk that is full at {full} writes")


@pytest.mark.parametrize(
    ("fault", "act"),
    [
        ("folder_at_name", {}),
        *(("at_print", {"act": act}) for act in ("full", "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")),
    ],
)
def test_whatever_happens_at_a_print_or_a_name_the_run_ends_in_the_same_bits(
    launchers: Launchers, tiny: list[str], fault: str, act: dict[str, str], more: list[str], writes: Iterator[int]
) -> None:
    """A full disk at a print ends nothing. A signal, and a folder in a file's place, may end the run, with a record or
    none, and in a sentence; the same command goes on once the folder is gone."""
    overrides = [*tiny, *more, "rank=1", "train.max_steps=2"]
    store, faults = store_of(overrides), 0
    expected = bits(launchers, overrides, store)
    for number in writes:
        shutil.rmtree(store)
        launch = launchers.run(overrides, **{fault: {"number": number} | act})
        shown = launch.output.read_text()
        if "is the one" not in shown:
            break
        faults += 1
        assert "Traceback" not in shown, shown
        assert launch.exit_code == 0 or act != {"act": "full"}, shown
        for folder in store.glob("*/*/in the way"):
            shutil.rmtree(folder.parent)
        for folder in store.glob("tiny-bert-*"):
            assert record.status_of(folder) in (None, "running", "killed", "failed", "completed"), shown
        assert bits(launchers, overrides, store) == expected, f"{fault} {act} at {number}"
    assert faults >= 1
    print(f"{fault} {act}: {faults} faults in turn")


def test_launchers_that_start_together_train_each_run_once(
    launchers: Launchers, tiny: list[str], more: list[str]
) -> None:
    ranks, runs = ",".join(map(str, range(1, 11))), 40 if more else 44
    overrides = [*tiny, *more, f"rank={ranks}", "seed=0,1,2,3", "train.max_steps=2", "-m"]
    started = [launchers.start(overrides) for _ in range(8)]
    assert [launch.wait() for launch in started] == [0] * 8
    trained = [number for launch in started for number in RESULT.findall(launch.output.read_text())]
    assert sorted(map(int, trained)) == list(range(1, runs + 1))
    assert len(completed(store_of(overrides))) == runs


def test_a_launcher_waits_for_the_reference_that_another_trains(launchers: Launchers, tiny: list[str]) -> None:
    first = launchers.start([*tiny, "method=full", "train.epochs=12"])
    time.sleep(0.5)
    second = launchers.run([*tiny, "rank=2", "train.epochs=12"])
    assert (first.wait(), second.exit_code) == (0, 0)
    lora = load_runs(store_of(tiny)).set_index("method").loc["lora"]
    assert lora["reference"] in completed(store_of(tiny))
    trained = [RESULT.findall(launch.output.read_text()) for launch in (first, second)]
    assert [len(numbers) for numbers in trained] == [1, 1]
