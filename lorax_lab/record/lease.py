"""The lease on a run: of all processes, on one machine or several, only the one that has it works on the run."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LEASES = ".leases"
"""The folder of the store with the locks."""


@contextmanager
def lease(folder: Path) -> Iterator[bool]:
    """Try to take the lease on the run in a folder for the block, which is told whether it has it.

    The system frees the lock when the process ends, however it ends. Launchers on several machines need a shared file
    system that locks files, as NFS version 4 does; where it does not, both train the run, to the same bits.
    """
    path = _lock(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(path).acquire(blocking=False)
    except Timeout:
        yield False
        return
    with held:
        yield True


def is_leased(folder: Path) -> bool:
    """Whether a process has the lease on a run right now."""
    if _lock(folder).exists():
        with suppress(OSError), lease(folder) as mine:  # OSError: the store can only be read
            return not mine
    return False


def _lock(folder: Path) -> Path:
    return folder.parent / LEASES / f"{folder.name}.lock"
