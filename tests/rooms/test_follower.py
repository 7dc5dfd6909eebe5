"""The process that shows the runs of a sweep: one window never hurts another, and none is waited for without end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from recorded import run_record

from lorax_lab.config import TrackingConfig
from lorax_lab.record.folder import SPECTRA, save_arrays
from lorax_lab.record.record import write_record
from lorax_lab.windows import follower, following, marks
from lorax_lab.windows.door import DOORS
from lorax_lab.windows.follower import Follower
from lorax_lab.windows.orders import FOLDER, Order, announce
from lorax_lab.windows.progress import written


def door(open_window: Any) -> Any:
    return SimpleNamespace(prepare=lambda runs_dir: None, resolve=lambda mode: mode, open_window=open_window)


def serve(runs_dir: Path, *folders: Path, patience: float = 5.0) -> None:
    """A follower with an order for each run, whose sweep has ended."""
    for folder in folders:
        announce(runs_dir, Order(folder, folder, "sweep-1", TrackingConfig("online", "p", None), "a-launch"))
    reading, writing = os.pipe()
    os.close(writing)
    try:
        Follower(runs_dir, "a-launch", patience).serve(reading)
    finally:
        os.close(reading)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    monkeypatch.setattr(follower, "_tell", messages.append)
    monkeypatch.setattr(follower, "LOOK", 0.02)
    return messages


@pytest.mark.parametrize("patience", [0.3, 60.0])
def test_a_window_ends_in_its_time_where_the_follower_was_killed(
    tmp_path: Path, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    place, run = tmp_path / "pid", tmp_path / "run"
    write_record(run, run_record())

    def hang(*words: Any) -> None:
        place.with_suffix(".part").write_text(str(os.getpid()), encoding="ascii")
        place.with_suffix(".part").rename(place)
        time.sleep(60)

    monkeypatch.setitem(sys.modules, "a_door", door(hang))
    monkeypatch.setitem(DOORS, "online", "a_door")
    killed = os.fork()
    if not killed:
        with suppress(BaseException):
            serve(tmp_path, run, patience=patience)
        os._exit(0)
    while not place.exists():
        time.sleep(0.02)
    os.kill(killed, signal.SIGKILL)
    os.waitpid(killed, 0)
    window = psutil.Process(int(place.read_text(encoding="ascii")))
    try:
        _, alive = psutil.wait_procs([window], timeout=10.0 if patience < 1 else 2.0)
        ended = not alive or window.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        ended = True
    assert ended == (patience < 1)
    if ended:
        assert marks.mark_of(run, "online") is None
        assert json.loads((run / marks.MARK).read_text())["why"] == "it took more than 0.3 s"
    if not ended:
        window.kill()


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (lambda: os._exit(7), "its process ended with status 7"),
        (lambda: os.kill(os.getpid(), 9), "its process ended with status -9"),
        (lambda: time.sleep(60), "it took more than 0.3 s"),
    ],
)
def test_a_window_that_fails_or_hangs_is_ended_and_hurts_no_other(
    fault: Any, why: str, said: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = (tmp_path / "runs" / name for name in ("good", "bad"))

    def open_window(start: Any, *_: Any) -> Any:
        if start.run_id == "bad":
            fault()
        (tmp_path / "opened").write_text(start.run_id)
        raise RuntimeError("this one says why")

    monkeypatch.setitem(sys.modules, "a_door", door(open_window))
    monkeypatch.setitem(DOORS, "online", "a_door")
    for folder in (bad, good):
        write_record(folder, run_record(folder.name))
    start = time.monotonic()
    serve(tmp_path / "runs", bad, good, patience=0.3)
    assert time.monotonic() - start < 30
    assert {"run": "bad", "why": why} in said
    assert (tmp_path / "opened").read_text() == "good"
    assert json.loads((good / marks.MARK).read_text())["why"] == "RuntimeError: this one says why"
    assert marks.mark_of(good) is None
    assert not (tmp_path / "runs" / FOLDER / "a-launch").exists()


def work(seconds: float) -> None:
    """Use a processor for so long."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.mark.parametrize("most", [1.1, 60.0])
def test_a_window_that_works_gets_more_time_up_to_an_end(
    most: float, said: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_window(*_: Any) -> Any:
        work(1.3)
        raise RuntimeError("it was let work")

    monkeypatch.setattr(follower, "MOST", most)
    monkeypatch.setitem(sys.modules, "a_door", door(open_window))
    monkeypatch.setitem(DOORS, "online", "a_door")
    write_record(tmp_path / "runs" / "a-run", run_record("a-run"))
    serve(tmp_path / "runs", tmp_path / "runs" / "a-run", patience=1.0)
    mark = json.loads((tmp_path / "runs" / "a-run" / marks.MARK).read_text())
    assert mark["why"] == ("it took more than 1 s" if most < 2 else "RuntimeError: it was let work")


def test_what_draws_is_imported_once_and_not_for_a_run_alone(
    said: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    monkeypatch.setattr("lorax_lab.windows.pictures.prepare", lambda: drawn.append(1))
    monkeypatch.setitem(sys.modules, "a_door", door(lambda *_: 1 / 0))
    monkeypatch.setitem(DOORS, "online", "a_door")
    folders = [tmp_path / "runs" / name for name in ("a", "b", "c")]
    for folder in folders:
        write_record(folder, run_record(folder.name))
    serve(tmp_path / "runs", folders[0])
    assert drawn == []
    serve(tmp_path / "runs", *folders)
    assert drawn == [1]


@pytest.mark.parametrize("mode", ["offline", "trackio"])
def test_a_follower_alone_with_loras_does_without_torch(mode: str, tmp_path: Path) -> None:
    """Its import takes two seconds of a processor, while the run trains."""
    matrices = {"a": {"module": "query", "layer": 0, "shape": [6, 4], "effective_rank": 1.5}}
    write_record(tmp_path / "a-run", run_record("a-run", matrices=matrices))
    save_arrays(tmp_path / "a-run" / SPECTRA, {"a": {"sigma": np.array([2.0, 1.0])}})
    script = f"""if True:
        import sys
        from pathlib import Path
        from lorax_lab.windows import follower, pictures, window
        from lorax_lab.windows.door import door_of
        from lorax_lab.record.folder import load_spectra
        from lorax_lab.record.record import read_record
        folder = Path({str(tmp_path / "a-run")!r})
        door_of({mode!r}).prepare(folder.parent)
        record, spectra = read_record(folder), load_spectra(folder)
        assert window.curves(record, spectra) and pictures.pictures(record, spectra)
        assert "torch" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_follower_has_low_priority_in_its_session_and_as_a_session(tmp_path: Path) -> None:
    script = "import os; from lorax_lab.record import follower; follower._step_back(); print(os.nice(0)); "
    script += "from pathlib import Path; p = Path('/proc/self/autogroup'); print(p.read_text() if p.exists() else '')"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=True)
    nice, session = done.stdout.split("\n", 1)
    assert int(nice) >= follower.NICE
    assert session.strip() == "" or session.strip().endswith(f"nice {follower.NICE}")


def test_a_window_of_a_run_that_was_killed_is_not_waited_for_without_end(
    said: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "a-run"
    write_record(folder, run_record("a-run", status="running"))
    with written(folder, "sweep-1"):
        pass
    monkeypatch.setattr("lorax_lab.windows.progress.start_of", lambda pid: "")  # its process is gone
    monkeypatch.setitem(sys.modules, "a_door", door(lambda *_: time.sleep(60)))
    monkeypatch.setitem(DOORS, "online", "a_door")
    serve(tmp_path / "runs", folder, patience=0.3)
    assert said == [{"run": "a-run", "why": "it took more than 0.3 s"}]


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"folder": "a"}', '"text"'])
def test_an_order_that_cannot_be_read_is_said(content: str, said: list[dict[str, Any]], tmp_path: Path) -> None:
    orders = tmp_path / "runs" / FOLDER / "a-launch"
    orders.mkdir(parents=True)
    (orders / "a-run.json").write_text(content)
    serve(tmp_path / "runs")
    (message,) = said
    assert message["run"] == "a-run"
    assert message["why"].startswith("its order cannot be read: ")
    assert not orders.exists()


def test_where_nothing_is_shown_there_is_no_follower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following.subprocess, "Popen", None)  # whoever calls it fails
    with following.following(tmp_path, "a-launch", {tmp_path / "a-run": "disabled"}, print):
        pass
    announce(tmp_path, Order(tmp_path, tmp_path, "g", TrackingConfig("disabled", "p", None), "a-launch"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_end_of_a_sweep_waits_no_longer_than_it_says(
    interrupted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hanging").write_text("#!/bin/sh\nexec sleep 20\n")
    (tmp_path / "hanging").chmod(0o755)
    monkeypatch.setattr(following.sys, "executable", str(tmp_path / "hanging"))
    monkeypatch.setattr(following, "WAIT", 0.4)
    monkeypatch.setattr(following, "QUIET", 0.1)
    lines: list[str] = []
    start = time.monotonic()
    try:
        with following.following(tmp_path, "a-launch", {tmp_path / "a-run": "online"}, lines.append):
            if interrupted:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert interrupted
    assert time.monotonic() - start < 5
    assert lines[-1].startswith("W&B is told of the last runs in the background; what it misses: python -m")
    assert len(lines) == (1 if interrupted else 2)


def follow_with(script: str, runs: Path, monkeypatch: pytest.MonkeyPatch, during: float = 0.0) -> list[str]:
    """What a sweep of the runs `whole` and `cut` says, whose follower is a script and which announces `ordered` too."""
    (runs.parent / "a-follower").write_text(f"#!/bin/sh\n{script}\n")
    (runs.parent / "a-follower").chmod(0o755)
    monkeypatch.setattr(following.sys, "executable", str(runs.parent / "a-follower"))
    monkeypatch.setattr(following, "QUIET", 0.1)
    for name in ("whole", "cut"):
        write_record(runs / name, run_record(name))
    (runs / "whole" / marks.MARK).write_text('{"mode": "online"}')
    (runs / "cut" / marks.MARK).write_text('{"mode": "online", "live": true}')
    tracking, lines = TrackingConfig("online", "p", None), []  # type: ignore[var-annotated]
    modes = {runs / name: "online" for name in ("whole", "cut", "ordered", "not begun")}
    with following.following(runs, "a-launch", modes, lines.append):
        announce(runs, Order(runs / "ordered", runs / "ordered", "sweep-1", tracking, "a-launch"))
        time.sleep(during)
    assert not (runs / FOLDER / "a-launch").exists()
    return lines


FAULT = 'echo \'{"fault": "OSError: gone"}\'; exit 1'


@pytest.mark.parametrize(
    ("script", "end"), [("kill -9 $$", "status -9"), (FAULT, "OSError: gone"), ("exit 0", "status 0")]
)
def test_what_a_follower_that_is_gone_did_not_show_is_named(
    script: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = f"later: python -m lorax_lab.windows.tracking sync {tmp_path / 'runs'}"
    *_, last = follow_with(f"cat > /dev/null; {script}", tmp_path / "runs", monkeypatch)
    lacks = "W&B lacks cut, ordered, in whole or in part"
    assert last == f"{lacks}: the process that shows them ended with {end}; {later}"


def test_a_follower_that_is_gone_is_said_while_the_sweep_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, at_the_end = follow_with("kill -9 $$", tmp_path / "runs", monkeypatch, during=1.0)
    assert at_once.startswith("the process that shows runs in W&B ended with status -9; the runs go on")
    assert at_the_end.startswith("W&B lacks cut, ordered, ")


def test_a_follower_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[dict[str, Any]] = []
    monkeypatch.setattr(follower, "_tell", messages.append)
    monkeypatch.setattr(follower, "_step_back", lambda: None)
    monkeypatch.setattr(follower.signal, "signal", lambda *_: None)
    monkeypatch.setattr(Follower, "serve", lambda self, owner: 1 / 0)
    assert follower.main([str(tmp_path), "a-launch"]) == 1
    assert messages == [{"fault": "ZeroDivisionError: division by zero"}]
