"""Versions of the code that were shown to give the same bits, in `<study>_equivalence.json` beside a study's lines.

`python -m experiments.equivalence <study>` measured each entry: it made runs of the study under both versions on one
machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def equivalence_path(lines: Path) -> Path:
    """Where the proofs of a study are, given its `<study>.jsonl`."""
    return lines.with_name(f"{lines.stem}_equivalence.json")


def read_proofs(lines: Path) -> list[dict[str, Any]]:
    """Every recorded comparison of two versions, newest last; none where there is no file."""
    path = equivalence_path(lines)
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []


def proven(lines: Path) -> set[tuple[str, str]]:
    """Pairs (recorded code, later code) that gave the same bits in every number of every run that was compared. A
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
