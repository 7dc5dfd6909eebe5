"""The commits that the repository's history has, to tell a published line's commit from one that there never was."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout's folder, where the package runs from one."""

TIME = "%Y-%m-%dT%H:%M:%SZ"


def commits() -> dict[str, str] | None:
    """When each commit of the checkout's branches was made, as `2026-11-27T10:00:00Z`; None where there is no checkout
    of the lab, or only a part of its history."""
    top = _ask("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != ROOT.resolve() or _ask("rev-parse", "--is-shallow-repository") != "false":
        return None
    listed = _ask("log", "--all", "--format=%H %ct", "HEAD")
    if listed is None:
        return None
    pairs = (line.split() for line in listed.splitlines())
    return {commit: f"{datetime.fromtimestamp(int(seconds), UTC):{TIME}}" for commit, seconds in pairs}


def _ask(*arguments: str) -> str | None:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
