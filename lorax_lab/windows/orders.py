"""Orders to show a run in its window: a file each, which whoever tries the run leaves for the sweep's follower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorax_lab.config import TrackingConfig
from lorax_lab.record.files import write_json
from lorax_lab.windows.door import DOORS

FOLDER = ".tracking"


@dataclass(frozen=True)
class Order:
    """Which run is shown, and how.

    Args:
        folder: of the run.
        place: where its attempt leaves its files; the same, but for a forced run.
        group: the name under which the window shows the sweep.
        launch: identifies the sweep; the run of another one is not followed. None follows any.
        resume: go on with what the window has, where the run's mark says that it was opened. A forced run begins anew.
    """

    folder: Path
    place: Path
    group: str
    tracking: TrackingConfig
    launch: str | None = None
    resume: bool = True

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"folder": str(self.folder), "place": str(self.place)}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Order:
        """The order that `plain` made."""
        paths = {name: Path(plain[name]) for name in ("folder", "place")}
        return cls(**plain | paths | {"tracking": TrackingConfig(**plain["tracking"])})


def announce(runs_dir: Path, order: Order) -> str:
    """Leave an order with the follower of a sweep.

    Returns:
        Why it could not be written, as on a full disk; empty where it was, or where nothing is to be shown.
    """
    if order.tracking.mode not in DOORS or order.launch is None:
        return ""
    try:
        write_json(runs_dir / FOLDER / order.launch / f"{order.folder.name}.json", order.plain())
    except OSError as error:
        return f"it could not be announced: {error}"
    return ""


@contextmanager
def claimed(folder: Path, seconds: float) -> Iterator[None]:
    """Nobody else shows this run in a window during the block.

    Raises:
        TimeoutError: somebody else does, for `seconds` by now.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder.parent / "wandb" / f"{folder.name}.lock", timeout=seconds)
    lock_path = Path(lock.lock_file)
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout:
        raise TimeoutError("another process shows it") from None
    try:
        yield
    finally:
        lock.release()
