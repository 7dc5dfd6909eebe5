"""Who trains which run: a lock for each run id in `<runs_dir>/.leases/`.

The system holds the lock for a process and frees it when the process ends, however it ends. Launchers on several
machines need a shared file system that locks files between them, as NFS version 4 does; where it does not, both train
the run, to the same bits.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lorax_lab.record.files import write_json

FOLDER = ".leases"


@contextmanager
def lease(runs_dir: Path, run_id: str) -> Iterator[bool]:
    """Try to take the lease on a run for the block, which is told whether it has it.

    Raises:
        OSError: the folder cannot be written.
    """
    path = _owner(runs_dir, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        write_json(path, {"process": os.getpid(), "host": socket.gethostname(), "since": time.time()})
        yield True
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def holder(runs_dir: Path, run_id: str) -> str | None:
    """The process that trains a run, as `process 7 on node3 since 14:02`; None where there is none."""
    path = _owner(runs_dir, run_id)
    if not path.is_file():
        return None
    with suppress(OSError):  # a store that can only be read: the owner's own word counts
        lock = FileLock(path.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            pass
        else:
            lock.release()
            return None
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"process {owner['process']} on {owner['host']} since {time.ctime(owner['since'])}"
    except (OSError, ValueError):  # given back, or just being taken
        return "another process"


def _owner(runs_dir: Path, run_id: str) -> Path:
    return runs_dir / FOLDER / f"{run_id}.json"
