"""Who trains which run: one lease per run id. Its owner renews it by heartbeats; a dead owner's lease is taken over.

`<runs_dir>/.leases/<run_id>.json` names the owner. The file's modification time is the owner's last heartbeat. Every
change of a lease happens under a lock of that folder. An owner on this machine is dead when its process is gone. An
owner on another machine is dead when its last heartbeat is older than `DEAD`, by the clock of the file system.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from lorax_lab.store.files import write_text

FOLDER = ".leases"
BEAT = 5.0
"""Seconds between heartbeats."""
DEAD = 60.0
"""Seconds without a heartbeat after which an owner on another machine counts as dead."""
LOCK_WAIT = 30.0


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

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


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
            if _read(self.path) == self.owner:
                self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """Call it before a result is written.

        Raises:
            LeaseLost: the lease is another's by now.
        """
        owner = _read(self.path)
        if owner != self.owner:
            raise LeaseLost(f"{self.path.stem} was taken over by {owner or 'another launcher'}; its result counts")

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with suppress(OSError):
                if _read(self.path) == self.owner:
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
        mine = Owner(*_here(), uuid.uuid4().hex)
        write_text(path, json.dumps(asdict(mine)) + "\n")
        return Lease(path, mine)


def holder(runs_dir: Path, run_id: str) -> Owner | None:
    """The living owner of a run, if there is one."""
    path = runs_dir / FOLDER / f"{run_id}.json"
    owner = _read(path)
    if owner is None:
        return None
    with _lock(path.parent) as lock:
        return owner if _alive(owner, path, lock) else None


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


def _alive(owner: Owner, path: Path, clock: Path) -> bool:
    place, *_ = _here()
    if owner.place == place:
        return _start_of(owner.pid) == owner.started
    with suppress(FileNotFoundError):
        os.utime(clock)
        return clock.stat().st_mtime - path.stat().st_mtime < DEAD
    return False


def _read(path: Path) -> Owner | None:
    """The owner that a lease names; None where there is no lease, or it cannot be read."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _here() -> tuple[str, str, int, str]:
    """(place, host, pid, start) of this process. On a system that does not say, every process has a place of its own,
    so that only heartbeats count."""
    host, pid = platform.node(), os.getpid()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{host} {boot} {os.readlink('/proc/self/ns/pid')}", host, pid, _start_of(pid)
    except OSError:
        return f"{host} {pid} {_BEGAN}", host, pid, ""


_BEGAN = time.time_ns()


def _start_of(pid: int) -> str:
    """When a process started, in the system's ticks; empty where there is no such process, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
