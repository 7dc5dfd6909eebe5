"""Versions of the code that were shown to give the same numbers, in `<study>_equivalence.json` beside a study's lines.

`python -m experiments.equivalence <study>` measured each entry: it made runs of the study under both versions on one
machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lorax_lab.errors import in_short
from lorax_lab.record.redact import redacted
from lorax_lab.record.sums import read_checked, write_summed

KEYS: dict[str, Any] = {
    "recorded_code": str,
    "present_code": str,
    "numbers": int,
    "present_dirty": (bool, type(None)),
    "moved": list,
}
"""What every comparison says."""


def equivalence_path(lines: Path) -> Path:
    """Where the proofs of a study are, given its `<study>.jsonl`."""
    return lines.with_name(f"{lines.stem}_equivalence.json")


def read_proofs(lines: Path) -> list[dict[str, Any]]:
    """Every recorded comparison of two versions, newest last; none where there is no file, or a damaged one."""
    return checked_proofs(lines)[0]


def checked_proofs(lines: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """As `read_proofs`, and what is wrong with the file. Of a damaged file no comparison counts."""
    path = equivalence_path(lines)
    checked = read_checked(path)
    if checked.damages or not checked.lines:
        return [], checked.damages
    try:
        proofs = [dict(proof) for proof in json.loads(checked.text)]
        if any(not isinstance(proof[key], kind) for proof in proofs for key, kind in KEYS.items()):
            raise TypeError("a comparison has a value of another kind")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return [], [f"{path.name}: it is no list of comparisons: {in_short(error)}"]
    return proofs, []


def write_proofs(lines: Path, proofs: list[dict[str, Any]]) -> None:
    """Write a study's comparisons, with their checksums."""
    write_summed(equivalence_path(lines), json.dumps(redacted(proofs), indent=1) + "\n")


def proven(lines: Path) -> set[tuple[str, str]]:
    """Pairs (recorded code, later code) that gave the same numbers in every run that was compared. A
    comparison of nothing, or of code that was not committed, proves nothing."""
    proofs = [p for p in read_proofs(lines) if p["numbers"] > 0 and not p["present_dirty"]]
    moved = {(p["recorded_code"], p["present_code"]) for p in proofs if p["moved"]}
    return {(p["recorded_code"], p["present_code"]) for p in proofs} - moved


def components(nodes: Iterable[str], joined: Callable[[str, str], bool]) -> list[set[str]]:
    """The nodes in sets: each node is joined to another node of its set.

    >>> [sorted(nodes) for nodes in components("abc", lambda x, y: x + y == "ab")]
    [['a', 'b'], ['c']]
    """
    sets: list[set[str]] = []
    for node in nodes:
        touching = [s for s in sets if any(joined(node, other) or joined(other, node) for other in s)]
        sets = [s for s in sets if s not in touching] + [{node}.union(*touching)]
    return sorted(sets, key=min)
