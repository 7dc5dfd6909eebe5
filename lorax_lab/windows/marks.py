"""`<run>/wandb.json`, and `trackio.json`: how much of a run its window has.

While the run is followed the mark says where it can be seen; once the window has all of the run, it names the record
that was shown. A record that changed since, as by a later comparison, is shown again by `sync`.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from lorax_lab.record.files import sha256_of, write_json
from lorax_lab.record.record import RECORD
from lorax_lab.windows.door import TRACKIO, Start

MARK = "wandb.json"
OF_TRACKIO = "trackio.json"


def file_of(mode: str) -> str:
    """The mark's file for the windows of a mode: a run may be shown in W&B and in Trackio."""
    return OF_TRACKIO if mode == TRACKIO else MARK


def mark_of(folder: Path, mode: str = "online") -> str | None:
    """The mode in which a window has all of a run's record: `online` or `offline` of W&B, `trackio` of Trackio; None
    where it has not. A mark of an older version, which named no record, stands for any.

    Args:
        mode: of the windows that are asked about.
    """
    mark = _read(folder, file_of(mode))
    shown = mark.get("record_sha256")
    if mark.get("mode") is None or mark.get("live"):  # it was begun, and never ended
        return None
    if shown is not None:
        try:
            if sha256_of(folder / RECORD) != shown:
                return None
        except OSError:
            return None
    return str(mark["mode"])


def was_opened(folder: Path, mode: str) -> bool:
    """Whether this very run, by its mark, is in a window of the mode, be it in part. One of the same name that was
    there before is another run.

    Args:
        mode: as the door resolved it.
    """
    return bool(_read(folder, file_of(mode)).get("mode") == mode)


def group_of(folder: Path) -> str | None:
    """The name under which a window shows the run's sweep; None where the mark does not say."""
    group = (_read(folder, MARK) or _read(folder, OF_TRACKIO)).get("group")
    return None if group is None else str(group)


def url_of(folder: Path) -> str | None:
    """Where a run can be seen; None where that is nowhere, or not known."""
    url = _read(folder, MARK).get("url")
    return str(url) if url else None


def begin(folder: Path, start: Start, url: str | None) -> None:
    """Mark a run as one whose window is open."""
    _write(folder, file_of(start.mode), _plain(start, url) | {"live": True})


def end(folder: Path, start: Start, url: str | None, record_sha256: str) -> None:
    """Mark a run as shown whole, up to the record with this hash."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    _write(folder, file_of(start.mode), _plain(start, url) | {"record_sha256": record_sha256, "when": when})


def fail(folder: Path, mode: str, group: str, why: str) -> None:
    """Mark a run as one that its window lacks, and why."""
    name = file_of(mode)
    kept = {key: value for key, value in _read(folder, name).items() if key in ("mode", "project", "url")}
    _write(folder, name, kept | {"group": group, "live": True, "why": why})


def _plain(start: Start, url: str | None) -> dict[str, Any]:
    mark = {"mode": start.mode, "project": start.project, "group": start.group, "url": url}
    return {key: value for key, value in mark.items() if value is not None}


def _write(folder: Path, name: str, mark: dict[str, Any]) -> None:
    """Nothing is lost where it cannot be written, or the folder moved: `sync` shows the run again."""
    with suppress(OSError):
        if folder.is_dir():
            write_json(folder / name, mark)


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        mark = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return mark if isinstance(mark, dict) else {}
