"""Trackio: keeps a run in `<runs_dir>/trackio`, for the page that `python -m lorax_lab.dashboard --local` serves.

Rows go to Trackio's storage, not through its `init` and `log`: these give a row the time at which it is logged, and
their threads ask the hub who is logged in. What Trackio has not, `docs/dashboard.md` says.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.config.defaults import flat
from lorax_lab.windows.door import Axis, Start

if TYPE_CHECKING:
    import numpy as np

    from lorax_lab.windows.progress import Row

FOLDER = "trackio"


def prepare(runs_dir: Path) -> None:
    """Import Trackio, which settles at that moment where its files go."""
    os.environ |= {"TRACKIO_DIR": str((runs_dir / FOLDER).resolve()), "HF_HUB_OFFLINE": "1"}
    import trackio  # noqa: F401


def resolve(mode: str) -> str:
    """The mode itself: there is nothing to log in to."""
    return mode


def open_window(start: Start, axes: tuple[Axis, ...], resume: bool) -> TrackioWindow:
    """Open a run's window. Trackio has no axes of keys: its page offers every key as one.

    Raises:
        ImportError: it is not installed. ValueError: it refuses the project's name.
    """
    prepare(start.runs_dir)
    return TrackioWindow(start, resume)


class TrackioWindow:
    """A run's window in Trackio; see `door.Window`.

    Trackio has no summary and no tags. Numbers of a summary are a row at the last step, texts and tags settings.
    """

    url: str | None = None

    def __init__(self, start: Start, resume: bool) -> None:
        from trackio import SQLiteStorage

        SQLiteStorage.validate_project_name(start.project)
        self.storage, self.start = SQLiteStorage, start
        if not resume:
            self.storage.delete_run(start.project, start.run_id, start.run_id)
        last = self.storage.get_max_step_for_run(start.project, start.run_id, start.run_id)
        self.next_step = 0 if last is None else last + 1
        self._step, self._at = max(self.next_step - 1, 0), start.began
        self._config = flat(start.config) | {"tags": start.tags}
        self._config |= {"_Group": start.group, "_Created": _time(start.began), "_Username": None}
        self._numbers: dict[str, float] = {}
        self._told = False

    def row(self, row: Row) -> None:
        """Keep a row with its own time."""
        self._keep(
            {key: float("nan") if value is None else value for key, value in row.values.items()}, row.step, row.at
        )

    def picture(self, name: str, picture: np.ndarray, row: Row) -> None:
        """Keep a picture as a file beside the storage."""
        from trackio import Image

        image = Image(picture)
        image._save(self.start.project, self.start.run_id, row.step)
        self._keep({name: image._to_dict()}, row.step, row.at)

    def summary(self, values: dict[str, Any]) -> None:
        """Keep them for the end."""
        numbers = {key: value for key, value in values.items() if _is_number(value) and not key.startswith("_")}
        self._numbers |= numbers
        texts = {key: value for key, value in values.items() if key not in numbers and not key.startswith("_")}
        self._config |= {f"summary.{key}": value for key, value in texts.items()}

    def tags(self, tags: list[str]) -> None:
        """Add them to the setting `tags`."""
        self._config["tags"] = list(dict.fromkeys([*self._config["tags"], *tags]))

    def artifact(self, name: str, kind: str, files: list[Path]) -> None:
        """Nothing: the page is served by the machine that has the files."""

    def close(self, exit_code: int) -> None:
        """Write what belongs to the whole run."""
        self._told = False
        self._keep(dict(self._numbers), self._step, self._at)

    def _keep(self, values: dict[str, Any], step: int, at: float | None) -> None:
        """One row; the same one again is not kept twice."""
        self._step, self._at = step, at or self._at
        content = hashlib.sha256(repr((self.start.run_id, step, sorted(values))).encode()).hexdigest()[:32]
        self.storage.bulk_log(
            self.start.project,
            self.start.run_id,
            [values],
            steps=[step],
            timestamps=[_time(self._at)],
            log_ids=[content],
            config=None if self._told else self._config,
            run_id=self.start.run_id,
        )
        self._told = True


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
