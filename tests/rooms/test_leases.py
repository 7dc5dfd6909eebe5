"""One launcher per run: leases exclude, beat, are given back, and taken over from the dead only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import pytest
from recorded import run_record

from lorax_lab.launch import attempts, leases, processes, waiting
from lorax_lab.launch.compose import compose
from lorax_lab.launch.leases import Lease, LeaseLost, Owner, acquire, holder
from lorax_lab.launch.plan import Run
from lorax_lab.record.record import Record, status_of, write_record


def owner_of(folder: Path, run_id: str = "run") -> Owner:
    return Owner(**json.loads((folder / ".leases" / f"{run_id}.json").read_text()))


def rewrite(folder: Path, **changes: object) -> Owner:
    changed = replace(owner_of(folder), **changes)  # type: ignore[arg-type]
    (folder / ".leases" / "run.json").write_text(json.dumps(asdict(changed)))
    return changed


def age(folder: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(folder / ".leases" / "run.json", (then, then))


def taken(folder: Path, run_id: str = "run") -> Lease:
    lease = acquire(folder, run_id)
    assert isinstance(lease, Lease)
    return lease


def test_a_lease_excludes_all_others_until_it_is_given_back(tmp_path: Path) -> None:
    with taken(tmp_path) as lease:
        other = acquire(tmp_path, "run")
        assert isinstance(other, Owner)
        assert (other.pid, str(other)) == (os.getpid(), f"process {os.getpid()} on {other.host}")
        assert holder(tmp_path, "run") == lease.owner
        assert isinstance(acquire(tmp_path, "another run"), Lease)
        lease.check()
    assert holder(tmp_path, "run") is None
    with taken(tmp_path):
        pass


def test_the_lease_of_a_dead_process_is_taken_over_at_once(tmp_path: Path) -> None:
    code = "from pathlib import Path; "
    code += f"from lorax_lab.launch.leases import acquire; acquire(Path({str(tmp_path)!r}), 'run')"
    subprocess.run([sys.executable, "-c", code], check=True)
    dead = owner_of(tmp_path)
    assert holder(tmp_path, "run") is None
    assert taken(tmp_path).owner.pid != dead.pid


def test_a_process_number_used_again_is_not_its_owner(tmp_path: Path) -> None:
    taken(tmp_path)
    rewrite(tmp_path, started="1")
    taken(tmp_path)


def test_an_owner_elsewhere_lives_as_long_as_its_heart_beats(tmp_path: Path) -> None:
    taken(tmp_path)
    elsewhere = rewrite(tmp_path, place="another machine", pid=1)
    age(tmp_path, leases.DEAD / 2)
    assert acquire(tmp_path, "run") == holder(tmp_path, "run") == elsewhere
    age(tmp_path, leases.DEAD + 5)
    assert holder(tmp_path, "run") is None
    taken(tmp_path)


@pytest.mark.parametrize("seconds", [leases.DEAD + 5, -leases.DEAD - 5, -1e9])
def test_a_lease_without_a_heartbeat_or_from_the_future_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.01)
    for place in ({}, {"place": "another machine"}):  # here the process lives, and yet its heart does not beat
        taken(tmp_path)
        rewrite(tmp_path, **place)
        age(tmp_path, 0)
        assert isinstance(acquire(tmp_path, "run"), Owner)
        age(tmp_path, seconds)
        assert holder(tmp_path, "run") is None
        taken(tmp_path)
        (tmp_path / ".leases" / "run.json").unlink()


def test_a_heart_that_goes_on_when_the_machine_wakes_keeps_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.2)
    with taken(tmp_path) as lease:
        age(tmp_path, leases.DEAD + 5)
        assert acquire(tmp_path, "run") == lease.owner


def test_a_suspended_process_loses_its_lease_and_finds_out(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lorax_lab.launch.leases import LeaseLost, acquire\n"
        f"with acquire(Path({str(tmp_path)!r}), 'run') as lease:\n"
        "    print('has it', flush=True); sys.stdin.readline()\n"
        "    try: lease.check()\n"
        "    except LeaseLost: print('lost', flush=True)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "has it\n"
        process.send_signal(signal.SIGSTOP)
        assert isinstance(acquire(tmp_path, "run"), Owner)
        age(tmp_path, leases.DEAD + 5)
        mine = taken(tmp_path)
        process.send_signal(signal.SIGCONT)
        assert process.communicate("\n")[0] == "lost\n"
    assert holder(tmp_path, "run") == mine.owner


def test_who_wakes_after_another_has_finished_its_run_leaves_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path)

    def suspended_meanwhile(*_: object, **__: object) -> Record:
        rewrite(tmp_path, token="another")
        write_record(run.folder, run_record("run", config=asdict(run.config)))
        return run_record("run", status="running", config=asdict(run.config))

    monkeypatch.setattr(attempts, "new_record", suspended_meanwhile)
    assert attempts.attempt(run, attempts.Attempt("run", "group", "launch")) == attempts.ELSEWHERE
    assert status_of(run.folder) == "completed"


def test_what_stands_in_the_place_of_a_lease_is_nobodys(tmp_path: Path) -> None:
    path = tmp_path / ".leases" / "run.json"
    path.parent.mkdir()
    for make in (
        lambda: path.mkdir(),
        lambda: (path.mkdir(), (path / "file").write_text("")),
        lambda: os.mkfifo(path),
        lambda: path.symlink_to(tmp_path / "nowhere"),
        lambda: path.symlink_to(path),
        lambda: path.write_text("[" * 100_000),
        lambda: path.write_bytes(b"\xff\xfe"),
        lambda: path.write_text('{"place": [], "host": 1, "pid": "x", "started": {}, "token": null}'),
    ):
        make()
        assert holder(tmp_path, "run") is None
        taken(tmp_path)
        path.unlink()


def test_a_lease_that_may_not_be_read_lives_by_its_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    taken(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", forbidden)
        assert str(acquire(tmp_path, "run")) == "a process of another person"
        age(tmp_path, leases.DEAD + 5)
        assert isinstance(acquire(tmp_path, "run"), Lease)


def a_run(folder: Path) -> Run:
    config = compose([f"runs_dir={folder}", "rank=2"])
    return Run(config, "run")


def test_a_waiting_launcher_says_for_whom_since_when_and_until_when_on_a_scale_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now[0])
    owner, run, waits = taken(tmp_path).owner, a_run(tmp_path), waiting.Waiting()
    clock = time.strftime("%H:%M:%S", time.localtime(owner.since))
    first = waits.line(run, owner)
    assert first == (
        f"waiting for run, which process {os.getpid()} on {owner.host} trains since {clock}; "
        f"until it is recorded, or {owner} shows no sign of life for 60 s"
    )
    said = []
    for _ in range(3 * 3600):
        now[0] += 1
        if line := waits.line(run, owner):
            said.append((now[0] - 1000, line))
    assert [when for when, _ in said] == [60, 120, 240, 480, 960, 1920, 3840, 7440]
    assert f"still waiting for run after 60 s: {owner} showed a sign of life at " in said[0][1]
    assert "after 2.1 h" in said[-1][1]
    other = replace(owner, token="another")
    assert str(waits.line(run, other)).startswith("waiting for run, which ")


def test_until_when_follows_from_the_runs_that_are_recorded(tmp_path: Path) -> None:
    owner, run = taken(tmp_path).owner, a_run(tmp_path)
    time_of = replace(run_record().completed.time, total_seconds=7200.0)
    write_record(tmp_path / "other", run_record("other", config=asdict(run.config), method="lora", time=time_of))
    expected = datetime.fromtimestamp(owner.since + 7200)
    line = str(waiting.Waiting().line(run, owner))
    assert f"until about {expected:%H:%M:%S}: until" in line or f"until about {expected:%Y-%m-%d %H:%M:%S}: " in line


def test_a_lease_of_an_older_version_does_not_say_since_when(tmp_path: Path) -> None:
    taken(tmp_path)
    path = tmp_path / ".leases" / "run.json"
    content = json.loads(path.read_text())
    del content["since"]
    path.write_text(json.dumps(content))
    owner = acquire(tmp_path, "run")
    assert isinstance(owner, Owner)
    assert " since " not in str(waiting.Waiting().line(a_run(tmp_path), owner))


def test_a_lease_elsewhere_dies_after_a_minute_and_beats_many_times_in_it(tmp_path: Path) -> None:
    assert leases.DEAD == 60
    assert leases.BEAT <= leases.DEAD / 10
    taken(tmp_path)
    rewrite(tmp_path, place="another machine", pid=1)
    for seconds, dead in ((30, False), (90, True)):
        age(tmp_path, seconds)
        assert (holder(tmp_path, "run") is None) == dead


def test_a_lease_given_back_while_it_is_looked_at_is_nobodys(tmp_path: Path) -> None:
    taken(tmp_path)
    owner = rewrite(tmp_path, place="another machine", pid=1)
    path = tmp_path / ".leases" / "run.json"
    path.unlink()
    assert not leases._alive(owner, path, path.parent / "lock")


def test_a_zombie_has_no_lease(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    try:
        deadline = time.time() + 30
        while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.time() < deadline
            time.sleep(0.01)
        taken(tmp_path)
        began = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
        rewrite(tmp_path, pid=child.pid, started=began)
        assert holder(tmp_path, "run") is None
    finally:
        child.wait()


def test_the_heart_does_not_beat_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.01)
    beats = threading.Event()
    read = leases._read

    def counted(path: Path) -> Owner | None:
        beats.set()
        return read(path)

    with taken(tmp_path):
        rewrite(tmp_path, token="another")
        age(tmp_path, 1000)
        monkeypatch.setattr(leases, "_read", counted)
        for _ in range(3):
            beats.clear()
            assert beats.wait(10)
        assert time.time() - (tmp_path / ".leases" / "run.json").stat().st_mtime > 500


def test_the_heart_beats_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.01)
    path = tmp_path / ".leases" / "run.json"
    with taken(tmp_path):
        age(tmp_path, 1000)
        deadline = time.time() + 10
        while time.time() - path.stat().st_mtime > 500:
            assert time.time() < deadline
            time.sleep(0.01)
    assert not path.exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]


def test_who_lost_its_lease_finds_out_and_leaves_it_to_the_other(tmp_path: Path) -> None:
    with taken(tmp_path) as lease:
        thief = rewrite(tmp_path, token="another")
        with pytest.raises(LeaseLost, match=r"run was taken over by process \d+ on .*; its result counts"):
            lease.check()
    assert owner_of(tmp_path) == thief


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_lease_that_cannot_be_read_is_nobodys(tmp_path: Path, content: str) -> None:
    taken(tmp_path)
    (tmp_path / ".leases" / "run.json").write_text(content)
    assert holder(tmp_path, "run") is None
    taken(tmp_path)


def test_of_many_at_once_one_gets_it(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lorax_lab.launch.leases import Lease, acquire\n"
        f"time.sleep(max(0, {time.time() + 2} - time.time()))\n"
        f"got = isinstance(acquire(Path({str(tmp_path)!r}), 'run'), Lease)\n"
        "print('got' if got else 'not', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    start: Callable[[], subprocess.Popen[str]] = lambda: subprocess.Popen([sys.executable, "-c", code], **pipes)  # type: ignore[call-overload] # noqa: E731
    processes = [start() for _ in range(6)]
    answers = [process.stdout.readline().strip() for process in processes if process.stdout]
    for process in processes:
        process.communicate()
    assert sorted(answers) == ["got", *["not"] * 5]


def test_a_hosts_name_that_is_also_a_password_loses_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.platform, "node", lambda: "labmachine01")
    monkeypatch.setenv("LAB_KEY", "labmachine01")
    lease = leases.acquire(tmp_path, "run")
    assert isinstance(lease, leases.Lease)
    assert "labmachine01" not in lease.path.read_text()
    with lease:
        lease.check()
    assert not lease.path.exists()


def test_a_lease_writes_no_line_of_its_own_on_the_screen() -> None:
    said = str(Owner("there", "evil\x1b[2Jhost\nerror: all lost", 1, "x", "t"))
    assert said.isprintable()
