"""One launcher per run: leases exclude, beat, are given back, and taken over from the dead only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from lorax_lab.launch import leases
from lorax_lab.launch.leases import Lease, LeaseLost, Owner, acquire, holder


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
