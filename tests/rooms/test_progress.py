"""`progress.jsonl`: what a run does, line by line, whatever happens to the lines."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from lorax_lab.windows import progress
from lorax_lab.windows.progress import PROGRESS, Reader, Row, with_history, written


def read(folder: Path) -> Reader:
    reader = Reader(folder / PROGRESS)
    reader.read()
    return reader


def clock(monkeypatch: pytest.MonkeyPatch, *times: float) -> None:
    left = iter(times)
    monkeypatch.setattr(progress, "time", lambda: next(left))


def test_a_row_can_be_read_at_once_with_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, 100.0, 101.5, 103.0)
    reader = Reader(tmp_path / PROGRESS)
    with written(tmp_path, "sweep-1") as row:
        row(1, {"step": 1, "train/loss": 0.5})
        reader.read()
        assert reader.rows == [Row(1, 101.5, 1.5, {"train/loss": 0.5})]
        row(2, {"step": 2, "train/loss": float("nan")})
        reader.read()
    assert reader.rows[1:] == [Row(2, 103.0, 3.0, {"train/loss": None})]
    assert reader.began == 100.0
    assert reader.begin is not None
    assert reader.begin.group == "sweep-1"
    assert reader.lives()  # this process


def test_of_a_step_that_is_made_again_the_last_row_counts_and_pauses_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, 100.0, 101.0, 102.0, 103.0, 1000.0, 1002.0, 1003.0)
    with written(tmp_path, "g") as row:
        for step in (1, 2, 3):
            row(step, {"train/loss": 1.0 / step})
    with written(tmp_path, "g") as row:  # from a checkpoint after the second step
        row(3, {"train/loss": 1.0 / 3})
        row(4, {"train/loss": 1.0 / 4})
    reader = read(tmp_path)
    assert [(row.step, row.at, row.runtime) for row in reader.rows] == [
        (1, 101.0, 1.0), (2, 102.0, 2.0), (3, 1002.0, 5.0), (4, 1003.0, 6.0),
    ]  # fmt: skip
    assert not reader.changed
    assert reader.began == 100.0


@pytest.mark.parametrize("first", [1, 3])
def test_time_does_not_run_back_where_a_window_showed_steps_that_are_made_again_faster(
    first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, fast = [100.0 + 2.0 * step for step in range(5)], [1000.0 + 0.1 * step for step in range(8 - first)]
    clock(monkeypatch, *slow, *fast)
    reader = Reader(tmp_path / PROGRESS)
    with written(tmp_path, "g") as row:
        for step in (1, 2, 3, 4):
            row(step, {"train/loss": 1.0 / step})
    reader.read()
    shown = list(reader.rows)
    with written(tmp_path, "g") as row:
        for step in range(first, 7):
            row(step, {"train/loss": 1.0 / step})
    reader.read()
    assert not reader.changed
    shown += reader.rows[len(shown) :]
    assert [row.step for row in shown] == [1, 2, 3, 4, 5, 6]
    for times in ([row.runtime for row in shown], [row.runtime for row in reader.rows]):
        assert times == sorted(times)  # type: ignore[type-var]


@pytest.mark.parametrize("loss", [0.5, 0.75])
def test_an_attempt_from_the_start_takes_the_rows_place_and_not_the_time(
    loss: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, 100.0, 101.0, 102.0, 1000.0, 1001.0)
    with written(tmp_path, "g") as row:
        row(1, {"train/loss": 0.5})
        row(2, {"train/loss": 0.25})
    with written(tmp_path, "g") as row:
        row(1, {"train/loss": loss})
    reader = read(tmp_path)
    assert [(row.step, row.runtime) for row in reader.rows] == [(1, 3.0)]
    assert reader.changed == (loss != 0.5)
    assert reader.began == 100.0


@pytest.mark.parametrize(
    "torn", [b'{"step": 2, "at": 5', b"\xff\xfe", b"[]", b'{"step": "x", "at": 1}', b"null", b"{}"]
)
def test_a_line_that_is_no_row_is_left_out(torn: bytes, tmp_path: Path) -> None:
    with written(tmp_path, "g") as row:
        row(1, {"train/loss": 0.5})
    with (tmp_path / PROGRESS).open("ab") as file:
        file.write(torn)  # a process was killed while it wrote
    with written(tmp_path, "g") as row:
        row(2, {"train/loss": 0.25})
    assert [row.step for row in read(tmp_path).rows] == [1, 2]


def test_half_a_line_waits_for_the_other_half(tmp_path: Path) -> None:
    with written(tmp_path, "g"):
        pass
    reader, line = read(tmp_path), json.dumps({"step": 1, "at": 7.0, "train/loss": 0.5}).encode() + b"\n"
    with (tmp_path / PROGRESS).open("ab", buffering=0) as file:
        file.write(line[:20])
        reader.read()
        assert reader.rows == []
        file.write(line[20:])
    reader.read()
    assert [row.step for row in reader.rows] == [1]


def test_a_disk_that_takes_nothing_stops_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with written(tmp_path, "g") as row:
            row(1, {"train/loss": 0.5})
    (tmp_path / "file").write_text("")
    with written(tmp_path / "file" / "run", "g") as row:
        row(1, {"train/loss": 0.5})
    assert read(tmp_path).rows == []


def test_a_process_that_is_gone_does_not_live(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from lorax_lab.windows.progress import written\n"
    code += f"with written(Path({str(tmp_path)!r}), 'g') as row: row(1, {{}}); import os; os.kill(os.getpid(), 9)"
    import sys

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    reader = read(tmp_path)
    assert [row.step for row in reader.rows] == [1]
    assert not reader.lives()


def test_a_process_elsewhere_lives_while_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(progress, "this_place", lambda: "another machine")
        with written(tmp_path, "g"):
            pass
    assert read(tmp_path).lives()
    os.utime(tmp_path / PROGRESS, (0, 0))
    assert not read(tmp_path).lives()


def test_no_line_names_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "here", lambda: ("name-of-this-host boot pid", "name-of-this-host", 1, "1"))
    with written(tmp_path, "g"):
        pass
    assert "name-of-this-host" not in (tmp_path / PROGRESS).read_text()


def test_the_values_of_the_record_count_and_the_times_of_the_rows() -> None:
    rows = [Row(1, 10.0, 1.0, {"train/loss": 9.0})]
    history: list[dict[str, float | None]] = [{"step": 1, "train/loss": 0.5}, {"step": 2, "train/loss": 0.25}]
    assert with_history(rows, history, 99.0) == [
        Row(1, 10.0, 1.0, {"train/loss": 0.5}),
        Row(2, 99.0, None, {"train/loss": 0.25}),
    ]
