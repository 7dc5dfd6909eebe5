"""Who trains which run: one lease per run id. Its owner renews it by heartbeats; a dead owner's lease is taken over.

`<runs_dir>/.leases/<run_id>.json` names the owner. The file's modification time is the owner's last heartbeat. Every
change of a lease happens under a lock of that folder. An owner is dead when its last heartbeat is `DEAD` seconds away
by the clock of the file system: in the past, or in the future, as after a clock was wrong. An owner on this machine is
dead as well when its process is gone. One that was only suspended finds out when it wakes: it asks (`Lease.check`)
before each checkpoint, result and record takes its place.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from lorax_lab.launch.processes import STATE, field_of, here, start_of
from lorax_lab.record.files import write_json

FOLDER = ".leases"
BEAT = 5.0
"""Seconds between heartbeats."""
DEAD = 60.0
"""Seconds without a heartbeat after which an owner counts as dead."""
LOCK_WAIT = 30.0
LARGEST = 10_000
"""Bytes of a lease that are read."""


class LeaseLost(RuntimeError):
    """Another launcher took the run over, since it saw no heartbeat for long. The other's result counts."""


@dataclass(frozen=True)
class Owner:
    """A process: its place (machine, boot, process namespace), number, start, and a token that no other has."""

    place: str
    host: str
    pid: int
    started: str
    token: str
    since: float = 0.0
    """When it took the lease, in seconds since 1970; 0 where the lease does not say."""

    def __str__(self) -> str:
        host = "".join(sign if sign.isprintable() else "?" for sign in self.host[:64])
        return f"process {self.pid} on {host}" if self.pid else host


class Lease:
    """A lease that is held. As a context manager it sends heartbeats, and is given back when the block ends."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path, self.owner = path, owner
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(OSError, TimeoutError), _lock(self.path.parent):
            if self._is_mine(_read(self.path)):
                self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """Call it right before a file of the run takes its place.

        Raises:
            LeaseLost: the lease is another's by now.
        """
        owner = _read(self.path)
        if not self._is_mine(owner):
            raise LeaseLost(f"{self.path.stem} was taken over by {owner or 'another launcher'}; its result counts")

    def _is_mine(self, owner: Owner | None) -> bool:
        """By the token alone: other parts of the file may be hidden, as a host's name that is also a password."""
        return owner is not None and owner.token == self.owner.token

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with suppress(OSError):
                if self._is_mine(_read(self.path)):
                    os.utime(self.path)


def acquire(runs_dir: Path, run_id: str) -> Lease | Owner:
    """The lease on a run, or the living owner that has it.

    Raises:
        OSError: the folder cannot be written. TimeoutError: its lock is held for longer than `LOCK_WAIT`.
    """
    path = runs_dir / FOLDER / f"{run_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path.parent) as lock:
        holder = _read(path)
        if holder is not None and _alive(holder, path, lock):
            return holder
        if path.is_dir() and not path.is_symlink():
            path.rename(path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}"))
        mine = Owner(*here(), uuid.uuid4().hex, time.time())
        write_json(path, asdict(mine))
        return Lease(path, mine)


def holder(runs_dir: Path, run_id: str) -> Owner | None:
    """The living owner of a run, if there is one."""
    path = runs_dir / FOLDER / f"{run_id}.json"
    owner = _read(path)
    if owner is None:
        return None
    try:
        with _lock(path.parent) as lock:
            return owner if _alive(owner, path, lock) else None
    except (OSError, TimeoutError):  # a store that can only be read
        return owner if _alive(owner, path, None) else None


def last_beat(runs_dir: Path, run_id: str) -> float:
    """When a lease's heart beat last, in seconds since 1970; 0 where there is none."""
    try:
        return (runs_dir / FOLDER / f"{run_id}.json").stat().st_mtime
    except OSError:
        return 0.0


def _lock(folder: Path) -> _Locked:
    return _Locked(folder / "lock")


class _Locked:
    """The folder's lock, freed by the system when its holder dies; gives the lock's path."""

    def __init__(self, path: Path) -> None:
        from filelock import FileLock

        self.path, self.lock = path, FileLock(path, timeout=LOCK_WAIT)

    def __enter__(self) -> Path:
        self.lock.acquire()
        return self.path

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def _alive(owner: Owner, path: Path, clock: Path | None) -> bool:
    """Whether an owner lives. `clock` is a file of the same file system that can be touched; None for our own clock."""
    place, *_ = here()
    if owner.place == place and start_of(owner.pid) != owner.started:
        return False
    with suppress(FileNotFoundError):
        if clock:
            os.utime(clock)
        now = clock.stat().st_mtime if clock else time.time()
        beat = path.stat().st_mtime
        return abs(now - beat) < DEAD or (owner.place == place and _beats_again(owner.pid, path, beat))
    return False


def _beats_again(pid: int, path: Path, beat: float) -> bool:
    """Whether the heart of a process of this machine goes on: all stop where the machine sleeps, and go on when it
    wakes. A process that is suspended by itself is not waited for."""
    end = time.monotonic() + 2 * BEAT
    while field_of(pid, STATE) not in ("", "T", "t") and time.monotonic() < end:
        if path.stat().st_mtime != beat:
            return True
        time.sleep(BEAT / 20)
    return False


def _read(path: Path) -> Owner | None:
    """The owner that a lease names; None where there is no lease, or none that a launcher wrote."""
    if not path.is_file():
        return None
    try:
        owner = Owner(**json.loads(path.read_bytes()[:LARGEST]))
    except PermissionError:  # another person's: its heart can be seen to beat all the same
        return Owner("", "a process of another person", 0, "", "")
    except (FileNotFoundError, ValueError, TypeError, RecursionError):
        return None
    texts = (owner.place, owner.host, owner.started, owner.token)
    good = all(isinstance(text, str) for text in texts) and type(owner.pid) is int and isinstance(owner.since, float)
    return owner if good else None
