"""A run in its window, from its first step to its end, with a window that only notes what it is shown."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from recorded import run_record

from lorax_lab.config import TrackingConfig
from lorax_lab.record.folder import SPECTRA, files_of, save_arrays, save_history
from lorax_lab.record.record import Record, write_record
from lorax_lab.windows import follow as following
from lorax_lab.windows import marks
from lorax_lab.windows.door import DOORS, Axis, Start
from lorax_lab.windows.follow import PartlyShown, follow
from lorax_lab.windows.orders import Order
from lorax_lab.windows.progress import PROGRESS, Row, written
from lorax_lab.windows.window import SUMMARY_KEYS

ROW = {"module": "query", "shape": [2, 3], "effective_rank": 1.5, "null": {"effective_rank": 2}}
MATRICES: dict[str, Any] = {f"layer.{i}.query": ROW | {"layer": i} for i in range(2)}
CUTS = [
    {"part": part, "k": k, "module": None, "accuracy": (4 + k) / 10} for part in ("cut", "remainder") for k in (0, 1, 2)
]
HISTORY = [{"step": step, "train/loss": 1.0 / step} for step in (1, 2, 3)]


class Window:
    """Notes what it is shown; keeps it when it is closed, so that another may go on."""

    def __init__(self, start: Start, kept: dict[int, Any]) -> None:
        self.start, self.rows, self.shown = start, kept, {}
        self.url, self.next_step = "https://window", max(kept, default=-1) + 1
        self.code: int | None = None
        self.tagged: list[str] = []
        self.artifacts: list[tuple[str, str, list[str]]] = []

    def row(self, row: Row) -> None:
        assert row.step not in self.rows, "a step was shown twice"
        self.rows[row.step] = row

    def picture(self, name: str, picture: np.ndarray, row: Row) -> None:
        self.row(dataclasses.replace(row, values={name: 1.0}))

    def summary(self, values: dict[str, Any]) -> None:
        self.shown |= values

    def tags(self, tags: list[str]) -> None:
        self.tagged += tags

    def artifact(self, name: str, kind: str, files: list[Path]) -> None:
        self.artifacts.append((name, kind, [path.name for path in files]))

    def close(self, exit_code: int) -> None:
        self.code = exit_code


class Opened(list[Window]):
    """The windows that were opened, one after the other."""

    def prepare(self, runs_dir: Path) -> None:
        pass

    def resolve(self, mode: str) -> str:
        return mode

    def open_window(self, start: Start, axes: tuple[Axis, ...], resume: bool) -> Window:
        kept = self[-1].rows if self and resume else {}
        self.append(Window(start, kept))
        return self[-1]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    door = Opened()
    module = SimpleNamespace(prepare=door.prepare, resolve=door.resolve, open_window=door.open_window)
    monkeypatch.setitem(sys.modules, "a_door", module)
    monkeypatch.setitem(DOORS, "online", "a_door")
    monkeypatch.setattr(following, "LOOK", 0.01)
    monkeypatch.setattr(following, "GRACE", 0.05)
    return door


def order(folder: Path, **changes: Any) -> Order:
    tracking = TrackingConfig("online", "p", None, artifacts=changes.pop("artifacts", False))
    return dataclasses.replace(Order(folder, folder, "sweep-1", tracking, "a-launch"), **changes)


def record(folder: Path, status: str = "completed", **changes: Any) -> Record:
    summary = dict.fromkeys(SUMMARY_KEYS, 1.0) | {"captured.best": 0.7, "signal_share": 0.9}
    more = {"matrices": MATRICES, "summary": summary, "truncation": CUTS} if status == "completed" else {}
    made = run_record("a-run", status=status, **{"launch": "a-launch"} | more | changes)
    write_record(folder, made)
    return made


def complete(folder: Path, **changes: Any) -> None:
    save_history(folder, HISTORY)
    save_arrays(folder / SPECTRA, {name: {"sigma": np.array([2.0, 1.0])} for name in MATRICES})
    record(folder, **changes)


def in_background(order: Order) -> Callable[[], None]:
    """Follow in a thread; what is returned waits for the end."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            follow(order)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()

    def wait() -> None:
        thread.join(10)
        assert not thread.is_alive(), "the follower does not end"
        assert not raised, raised

    return wait


def until(ready: Callable[[], Any]) -> None:
    for _ in range(500):
        if ready():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen")


def test_steps_are_shown_while_the_run_trains(opened: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "a-run"
    record(folder, "running")
    with written(folder, "sweep-1") as row:
        wait = in_background(order(folder))
        row(1, {"train/loss": 1.0})
        until(lambda: opened and 1 in opened[0].rows)
        assert opened[0].shown["status"] == "running"
        assert opened[0].code is None
        assert marks.mark_of(folder) is None
        assert marks.url_of(folder) == "https://window"
        row(2, {"train/loss": 0.5})
        until(lambda: 2 in opened[0].rows)
        complete(folder)
    wait()
    (window,) = opened
    assert [window.rows[step].values for step in (1, 2, 3)] == [{"train/loss": 1.0 / step} for step in (1, 2, 3)]
    assert (window.code, window.shown["status"], window.shown["status/why"]) == (0, "completed", "")
    assert marks.mark_of(folder) == "online"


def test_a_completed_run_shows_the_answer(opened: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "a-run"
    complete(folder)
    follow(order(folder))
    (window,) = opened
    rows = [window.rows[step].values for step in sorted(window.rows)]
    assert sorted(window.rows) == list(range(1, len(rows) + 1))
    assert rows[3:6] == [
        {
            "truncation/k": k,
            "truncation/cut": (4 + k) / 10,
            "truncation/remainder": (4 + k) / 10,
            "truncation/whole": 0.6,
        }
        for k in (0, 1, 2)
    ]
    assert [row["spectrum/index"] for row in rows[6:8]] == [1, 2]
    assert [row["spectrum/sigma/query"] for row in rows[6:8]] == [2.0, 1.0]
    noise = np.array([row["spectrum/null/query"] for row in rows[6:8]])
    assert np.linalg.norm(noise) == pytest.approx(5**0.5)  # that of the update
    assert rows[8:-2] == [{"answer/rank": 4, "answer/score": 0.5}]
    assert [list(row) for row in rows[-2:]] == [["spectrum/singular_values"], ["spectrum/effective_rank_map"]]
    shown = window.shown
    assert (shown["noise_share"], shown["noise_share/query"], shown["captured/best"]) == (0.75, 0.75, 0.7)
    assert (shown["truncation/smallest_k"], shown["spectrum/signal_share"]) == (2, 0.9)


@pytest.mark.parametrize("damage", ["metrics.jsonl cut", "metrics.jsonl changed", "spectra.npz gone"])
def test_a_window_has_the_end_of_a_run_whose_other_files_are_damaged(
    damage: str, opened: Opened, tmp_path: Path
) -> None:
    folder = tmp_path / "a-run"
    complete(folder)
    record(folder, files=files_of(folder))
    name, what = damage.split()
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    if what != "gone":
        (folder / name).write_bytes(whole[:-9] if what == "cut" else whole.replace(b"0.5", b"0.6"))
    with pytest.raises(PartlyShown, match="its end is shown, but not all of its curves and pictures: .*" + name):
        follow(order(folder))
    (window,) = opened
    assert (window.code, window.shown["status"], window.shown["score"]) == (0, "completed", 0.5)
    mark = json.loads((folder / marks.MARK).read_text())
    assert mark["live"]
    assert mark["why"].startswith("PartlyShown: its end is shown")
    (folder / name).write_bytes(whole)
    follow(order(folder))
    assert opened[-1].shown["status"] == "completed"
    assert marks.mark_of(folder) == "online"


@pytest.mark.parametrize(("status", "code"), [("diverged", 65), ("failed", 66), ("oom", 67), ("killed", 137)])
def test_every_end_is_shown_with_its_reason(status: str, code: int, opened: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "a-run"
    record(folder, "running")
    with written(folder, "sweep-1") as row:
        wait = in_background(order(folder))
        row(1, {"train/loss": 1.0})
        until(lambda: opened and opened[0].rows)
        record(folder, status, reason="the reason, in /home/me/place/data.csv")
    wait()
    (window,) = opened
    assert (window.code, window.shown["status"], window.tagged) == (code, status, [status])
    assert window.shown["status/why"] == "the reason, in data.csv"
    assert list(window.rows) == [1]
    assert marks.mark_of(folder) == "online"


def test_a_run_whose_process_is_gone_was_killed(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a-run"
    record(folder, "running")
    with written(folder, "sweep-1") as row:
        row(1, {"train/loss": 1.0})
    monkeypatch.setattr("lorax_lab.windows.progress.start_of", lambda pid: "")
    follow(order(folder))
    assert (opened[0].code, opened[0].shown["status"]) == (137, "killed")
    assert "its process is gone" in opened[0].shown["status/why"]
    assert list(opened[0].rows) == [1]


def test_the_sweep_may_still_say_why_a_process_is_gone(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a-run"
    record(folder, "running")
    with written(folder, "sweep-1"):
        pass
    monkeypatch.setattr(following, "GRACE", 10.0)
    monkeypatch.setattr("lorax_lab.windows.progress.start_of", lambda pid: "")
    wait = in_background(order(folder))
    until(lambda: opened)
    record(folder, "oom", reason="the system ran out of memory")
    wait()
    assert (opened[0].code, opened[0].shown["status/why"]) == (67, "the system ran out of memory")


def test_a_resumed_run_goes_on_without_a_seam(opened: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "a-run"
    record(folder, "running")
    with written(folder, "sweep-1") as row:
        row(1, {"train/loss": 1.0})
        row(2, {"train/loss": 0.5})
    record(folder, "killed", reason="interrupted")
    follow(order(folder))
    record(folder, "running")
    with written(folder, "sweep-1") as row:
        wait = in_background(order(folder, resume=True))
        row(2, {"train/loss": 0.5})  # its checkpoint was after the first step
        row(3, {"train/loss": 1 / 3})
        complete(folder)
    wait()
    first, second = opened
    assert second.rows is first.rows
    assert [second.rows[step].values["train/loss"] for step in (1, 2, 3)] == [1.0, 0.5, 1 / 3]
    assert second.shown["status"] == "completed"


def test_a_run_that_has_to_begin_again_does_so_in_its_window(opened: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "a-run"
    record(folder, "running")
    with written(folder, "sweep-1") as row:
        row(1, {"train/loss": 9.0})
        row(2, {"train/loss": 9.0})
    record(folder, "killed")
    follow(order(folder))
    record(folder, "running")
    with written(folder, "sweep-1") as row:
        wait = in_background(order(folder, resume=True))
        until(lambda: len(opened) == 2)
        for step in (1, 2, 3):  # no checkpoint could be used
            row(step, {"train/loss": 1.0 / step})
        complete(folder)
    wait()
    assert [opened[-1].rows[step].values["train/loss"] for step in (1, 2, 3)] == [1.0, 0.5, 1 / 3]


@pytest.mark.parametrize("before", ["nothing", "a mark of a window that did not open", "a mark of another window"])
def test_another_run_of_the_same_name_begins_anew(before: str, opened: Opened, tmp_path: Path) -> None:
    """As after `force=true` without a window, or where the folder was removed: the window has the earlier run."""
    folder = tmp_path / "a-run"
    complete(folder)
    follow(order(folder))
    (folder / marks.MARK).unlink()
    if before == "a mark of a window that did not open":
        marks.fail(folder, "online", "sweep-1", "no network")
    elif before != "nothing":
        start = dataclasses.replace(opened[0].start, mode="offline")
        marks.end(folder, start, None, "")
    follow(order(folder, resume=True))
    assert opened[1].rows is not opened[0].rows
    assert opened[1].rows[1].values == opened[0].rows[1].values


def test_a_comparison_that_is_made_later_repeats_no_step(opened: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "a-run"
    complete(folder, summary=dict.fromkeys(SUMMARY_KEYS, 1.0))
    follow(order(folder))
    assert "captured/best" not in opened[0].shown
    complete(folder, reference="another")
    assert marks.mark_of(folder) is None  # another record than the one that was shown
    follow(order(folder, resume=True))
    assert opened[1].shown["captured/best"] == 0.7
    assert opened[1].rows is opened[0].rows
    assert marks.mark_of(folder) == "online"


def test_the_difference_from_the_reference_is_shown(opened: Opened, tmp_path: Path) -> None:
    metrics = {"test/accuracy": 0.75, "validation/accuracy": 0.5}
    write_record(tmp_path / "full", run_record("full", metrics=metrics))
    complete(tmp_path / "a-run", reference="full")
    follow(order(tmp_path / "a-run"))
    shown = opened[0].shown
    assert (shown["reference"], shown["reference/score"]) == ("full", 0.75)
    assert shown["difference/score"] == shown["difference/test/accuracy"] == -0.25


def test_a_run_that_another_sweep_took_over_is_left_to_it(opened: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "a-run"
    record(folder, "running", launch="another")
    follow(order(folder))
    assert opened[0].code is None
    assert marks.mark_of(folder) is None


def test_a_forced_run_is_followed_to_its_place(opened: Opened, tmp_path: Path) -> None:
    folder, place = tmp_path / "a-run", tmp_path / ".forced" / "a-run"
    complete(folder)
    record(place, "running")
    with written(place, "sweep-1") as row:
        wait = in_background(order(folder, place=place))
        row(1, {"train/loss": 1.0})
        until(lambda: opened and opened[0].rows)
        complete(place)
        import shutil

        shutil.rmtree(folder)
        place.rename(folder)
    wait()
    assert opened[0].shown["status"] == "completed"
    assert marks.mark_of(folder) == "online"


def test_weights_are_kept_there_only_where_they_are_asked_for(opened: Opened, tmp_path: Path) -> None:
    from lorax_lab.record.result import File

    files = {name: File(1, "0") for name in ("adapter_model.safetensors", "adapter_config.json")}
    for number, asked in enumerate((False, True)):
        complete(tmp_path / "a-run")
        complete(tmp_path / "a-run", files=files_of(tmp_path / "a-run") | files)
        (tmp_path / "a-run" / PROGRESS).unlink(missing_ok=True)
        follow(order(tmp_path / "a-run", artifacts=asked))
        wanted = [("a-run", "adapter", ["adapter_config.json", "adapter_model.safetensors"])] if asked else []
        assert opened[number].artifacts == wanted


def test_a_window_that_takes_no_weights_is_closed_all_the_same(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space there")

    monkeypatch.setattr(Window, "artifact", full)
    complete(tmp_path / "a-run")
    with pytest.raises(OSError, match="no space there"):
        follow(order(tmp_path / "a-run", artifacts=True))
    assert (opened[0].code, opened[0].shown["status"]) == (0, "completed")
    assert marks.mark_of(tmp_path / "a-run") is None  # `sync` tries again
