"""What is fastest on this machine: tried once, kept in the cache folder, never guessed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

DECIDING = ("machine", "system", "processor", "instruction_set", "blas", "processors", "threads")
"""What a machine is for a choice, beside torch's version."""
LARGEST = 10_000
"""Bytes; a larger file is none of ours."""


def chosen(what: str, options: tuple[str, ...], decide: Callable[[], tuple[str, float | None]]) -> str:
    """One of the options: the answer of an earlier trial on this machine, with this torch and this many threads, where
    one is kept; otherwise what `decide` answers, which is kept.

    Args:
        what: a word for the choice, such as `kernel`.
        decide: tries, and gives an option and the ratio of times that it follows from.
    """
    from lorax_lab.data.assets import cache_folder
    from lorax_lab.record.files import write_json

    machine = _machine()
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / f"{what}s" / f"{digest[:16]}.json"
    if kept := _kept(path, machine, what, options):
        return kept
    option, ratio = decide()
    if kept := _kept(path, machine, what, options):  # another process was first
        return kept
    with suppress(OSError):
        write_json(path, {"machine": machine, what: option, "ratio": ratio})
    return option


def _machine() -> dict[str, Any]:
    import torch

    from lorax_lab.record.provenance import hardware

    facts = hardware()
    return {key: facts[key] for key in DECIDING} | {"torch": torch.__version__}


def _kept(path: Path, machine: dict[str, Any], what: str, options: tuple[str, ...]) -> str | None:
    """The option in a file of an earlier trial on this machine; None where there is none that says so."""
    from lorax_lab.record.sums import read_bytes

    try:
        content = json.loads(read_bytes(path, LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("machine") != machine:
        return None
    option = content.get(what)
    return next((name for name in options if name == option), None)
