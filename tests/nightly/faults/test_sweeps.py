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

import pytest
from here import store_of
from launcher import Launchers, completed, hashes

from lorax_lab.record import load_runs, record

pytestmark = pytest.mark.faults
RESULT = re.compile(r"^\[(\d+)/\d+\] \S.* accuracy [\d.]+ \d+ s", re.MULTILINE)
"""What a launcher prints when it has trained a run."""


def test_a_sweep_killed_at_random_moments_is_finished_without_loss(
    launchers: Launchers, tiny: list[str], chance: random.Random, request: pytest.FixtureRequest
) -> None:
    overrides = [*tiny, "rank=1,2,3,4", "seed=0,1,2", "reference=false", "-m"]
    kills = 300 if request.config.getoption("--full") else 30
    store, before, done, start = store_of(overrides), {}, 0, time.monotonic()
    assert launchers.run(overrides).exit_code == 0
    whole = time.monotonic() - start
    shutil.rmtree(store)
    for _ in range(kills):
        launch = launchers.start(overrides)
        time.sleep(chance.uniform(0.0, 1.2 * whole / 12 + 0.5))
        done += launch.exit_code is not None
        launch.kill()
        after = completed(store)
        assert before.items() <= after.items(), "a finished run was lost or changed"
        before = after
        if len(after) == 12:  # all there: begin again with an empty store, so that every kill hits work
            shutil.rmtree(store)
            before = {}
    assert launchers.run(overrides).exit_code == 0
    after = completed(store)
    assert before.items() <= after.items()
    assert len(after) == 12
    print(f"{kills} kills, {done} of them after the end, none lost")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_killed_at_any_step_ends_in_the_same_bits(
    launchers: Launchers, tiny: list[str], method: str, chance: random.Random, request: pytest.FixtureRequest
) -> None:
    extra = ["method=full"] if method == "full" else ["rank=4", "reference=false", "method.dropout=0.2"]
    extra += ["train.epochs=3", "train.gradient_accumulation=2", "train.clip_norm=0.5", "train.validations=2"]
    overrides = [*tiny, *extra]
    store = store_of(overrides)
    expected = bits(launchers, overrides, store)
    for _ in range(100 if request.config.getoption("--full") else 10):
        shutil.rmtree(store)
        step = chance.randrange(1, 10)
        assert launchers.run(overrides, kill_at_step={"step": step}).exit_code == -signal.SIGKILL
        (folder,) = store.glob("tiny-bert-*")
        kept = sorted(folder.glob("checkpoints/step-*"))
        assert kept[-1].name == f"step-{step:06d}"
        assert len(kept) <= 2
        assert bits(launchers, overrides, store) == expected, f"killed at step {step}"


def bits(launchers: Launchers, overrides: list[str], store: Path) -> dict[str, object]:
    """Everything that a run ends with, but for what it cost."""
    launch = launchers.run(overrides)
    assert launch.exit_code == 0, launch.output.read_text()
    (folder,) = store.glob("tiny-bert-*")
    assert not (folder / "checkpoints").exists()
    result = record.read_record(folder).completed
    parts = ("metrics", "matrices", "truncation", "parameters")
    return {**hashes(folder, "*.safetensors", "metrics.jsonl"), **{part: getattr(result, part) for part in parts}}


@pytest.fixture
def writes(request: pytest.FixtureRequest, chance: random.Random) -> Iterator[int]:
    """Numbers of a run's writes: with --full all of them, else every third, from a random one of the first three."""
    return itertools.count(1) if request.config.getoption("--full") else itertools.count(chance.randint(1, 3), 3)


def test_a_power_cut_at_any_write_leaves_the_old_state_or_the_new(
    launchers: Launchers, tiny: list[str], writes: Iterator[int]
) -> None:
    overrides = [*tiny, "rank=1", "reference=false", "train.max_steps=2"]
    store = store_of(overrides)
    assert launchers.run(overrides).exit_code == 0
    finished = {name: files["adapter_model.safetensors"] for name, files in completed(store).items()}
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
        assert {name: files["adapter_model.safetensors"] for name, files in after.items()} == finished
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
    launchers: Launchers, tiny: list[str], writes: Iterator[int]
) -> None:
    overrides = [*tiny, "rank=1", "reference=false", "train.max_steps=2"]
    store = store_of(overrides)
    assert launchers.run(overrides).exit_code == 0
    ((first, files),) = completed(store).items()
    full = 0
    for number in writes:
        for folder in store.glob("*-r2-*"):
            shutil.rmtree(folder)
        launch = launchers.run([*overrides, "rank=2"], disk_full_at_write={"number": number})
        shown = launch.output.read_text()
        if "is the one" not in shown:
            assert launch.exit_code == 0
            break
        assert completed(store)[first] == files
        if launch.exit_code != 0:
            assert "No space left on device" in shown
            assert "Traceback" not in shown
        assert launchers.run([*overrides, "rank=2"]).exit_code == 0
        full += 1
    assert full >= 4
    print(f"a disk that is full at {full} writes")


@pytest.mark.parametrize(
    ("fault", "more"),
    [
        ("folder_at_name", {}),
        *(("at_print", {"act": act}) for act in ("full", "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")),
    ],
)
def test_whatever_happens_at_a_print_or_a_name_the_run_ends_in_the_same_bits(
    launchers: Launchers, tiny: list[str], fault: str, more: dict[str, str], writes: Iterator[int]
) -> None:
    """A full disk at a print ends nothing. A signal, and a folder in a file's place, may end the run, with a record or
    none, and in a sentence; the same command goes on once the folder is gone."""
    overrides = [*tiny, "rank=1", "reference=false", "train.max_steps=2"]
    store, faults = store_of(overrides), 0
    expected = bits(launchers, overrides, store)
    for number in writes:
        shutil.rmtree(store)
        launch = launchers.run(overrides, **{fault: {"number": number} | more})
        shown = launch.output.read_text()
        if "is the one" not in shown:
            break
        faults += 1
        assert "Traceback" not in shown, shown
        assert launch.exit_code == 0 or more != {"act": "full"}, shown
        for folder in store.glob("*/*/in the way"):
            shutil.rmtree(folder.parent)
        for folder in store.glob("tiny-bert-*"):
            assert record.status_of(folder) in (None, "running", "killed", "failed", "completed"), shown
        assert bits(launchers, overrides, store) == expected, f"{fault} {more} at {number}"
    assert faults >= 2  # of 7 prints, every third
    print(f"{fault} {more}: {faults} faults in turn")


def test_launchers_that_start_together_train_each_run_once(launchers: Launchers, tiny: list[str]) -> None:
    ranks = ",".join(map(str, range(1, 11)))
    overrides = [*tiny, f"rank={ranks}", "seed=0,1,2,3", "reference=false", "train.max_steps=2", "-m"]
    started = [launchers.start(overrides) for _ in range(8)]
    assert [launch.wait() for launch in started] == [0] * 8
    trained = [number for launch in started for number in RESULT.findall(launch.output.read_text())]
    assert sorted(map(int, trained)) == list(range(1, 41))
    assert len(completed(store_of(overrides))) == 40


def test_a_launcher_waits_for_the_reference_that_another_trains(launchers: Launchers, tiny: list[str]) -> None:
    first = launchers.start([*tiny, "method=full", "train.epochs=12"])
    time.sleep(0.5)
    second = launchers.run([*tiny, "rank=2", "train.epochs=12"])
    assert (first.wait(), second.exit_code) == (0, 0)
    lora = load_runs(store_of(tiny)).set_index("method").loc["lora"]
    assert lora["reference"] in completed(store_of(tiny))
    trained = [RESULT.findall(launch.output.read_text()) for launch in (first, second)]
    assert [len(numbers) for numbers in trained] == [1, 1]
