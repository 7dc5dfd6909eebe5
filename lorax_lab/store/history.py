"""The commits that the repository's history has, to tell a published line's commit from one that there never was."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout's folder, where the package runs from one."""


def commits() -> frozenset[str] | None:
    """Every commit of the checkout's branches; None where there is no checkout of the lab, or only a part of its
    history."""
    top = _ask("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != ROOT.resolve() or _ask("rev-parse", "--is-shallow-repository") != "false":
        return None
    listed = _ask("rev-list", "--all", "HEAD")
    return None if listed is None else frozenset(listed.split())


def _ask(*arguments: str) -> str | None:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
