"""Where lines come from: the declaration that their runs followed, the commit, the first edition of the studies.

A new line has the hash of the declaration that was there when it was recorded. The lines of the first edition are older
than that. So that no later line passes for one of them, `first_edition.json` has the hashes of their contents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from lorax_lab.study.continuity import KEY, broken_promises, followed, lost
from lorax_lab.study.declaration import Declaration
from lorax_lab.study.published import Line, checksum

from .copies import reason_alike
from .markdown import some
from .records import Records

FIRST_EDITION = Path(__file__).with_name("first_edition.json")
LETTERS = 16
"""Hexadecimal digits that are kept of a line's SHA-256."""
TIME = "%Y-%m-%dT%H:%M:%SZ"


def faults(records: Records) -> Iterator[str]:
    """Declarations that break what was declared before, and lines that followed none of them."""
    versions = records.declared.versions
    for before, now in pairwise(versions):
        broken = [*broken_promises(before, now), *lost(before, now)]
        yield from (f"the declaration of {now.written} breaks an earlier one: {what}" for what in broken)
    times = [declared.written for declared in versions]
    if times != sorted(times):
        yield f"the declarations are not in the order of their times: {', '.join(times)}"
    known = {declared.sha256: declared for declared in versions}
    texts: dict[str, list[str]] = {}
    for line in records.lines:
        for text in _of_line(records, line, known):
            texts.setdefault(text, []).append(line["run_id"])
    yield from (f"{text}: {some(runs)}" for text, runs in texts.items())


def notes(records: Records) -> list[str]:
    """What could not be checked, or is unusual and no breach."""
    said = []
    if older := sum(KEY not in line for line in records.lines):
        said.append(
            f"{older} of {len(records.lines)} lines are older than the hash of what was declared. They are those that "
            "were published first, to the letter, and so is their declaration; that it was written before the first "
            "trial, and from which trials the rates were chosen, only the repository's history says."
        )
    if records.commits is None:
        said.append("The repository's history is not here, so the lines' commits were not looked up.")
    for condition in records.conditions:
        finals = [line for line in records.of(condition, "final") if "correct" in line]
        counts: dict[str, list[Line]] = {}
        for line in finals:
            counts.setdefault(line["correct"], []).append(line)
        for lines in counts.values():
            if len(lines) > 1 and (reason := reason_alike(lines, finals)):
                seeds = ", ".join(f"{records.arm_of(line)} seed {line['seed']}" for line in lines)
                said.append(f"{condition}: {seeds} have identical answers: {reason}.")
    return said


def _of_line(records: Records, line: Line, known: dict[str, Declaration]) -> Iterator[str]:
    versions = records.declared.versions
    if not _is_time(line["written"]):
        yield "the time of the record is none"
    elif KEY not in line:
        if not is_pinned(line, versions[0]):
            yield (
                "lines without the hash of a declaration, which are none of those that were published before there "
                "were hashes"
            )
    elif (declared := known.get(line[KEY])) is None:
        yield "runs that followed another declaration than the one that is here (margin, plan, prediction)"
    elif line["written"] < declared.written:
        yield "runs that are older than the declaration that they followed"
    elif versions[followed(versions, line)].sha256 != line[KEY]:
        yield "runs with the hash of an earlier declaration than the one of their time"
    elif declared is not records.declared and declared.cell_of(line) is None:
        yield "runs that the declaration that they followed did not have"
    if records.commits is not None:
        if (made := records.commits.get(line["git"]["commit"])) is None:
            yield "runs of a commit that is not in the repository's history"
        elif line["written"] < made:
            yield "runs that are older than their commit"


def is_pinned(line: Line, declared: Declaration) -> bool:
    """Whether a line is one that was published under this declaration before lines had its hash."""
    return checksum(line)[:LETTERS] in _first_edition().get(declared.sha256, ())


@lru_cache(maxsize=1)
def _first_edition() -> dict[str, frozenset[str]]:
    """Hashes of the first edition's lines by that of their declaration."""
    found = json.loads(FIRST_EDITION.read_text(encoding="utf-8"))
    return {study["declaration"]: frozenset(study["lines"]) for study in found.values()}


def _is_time(text: str) -> bool:
    try:
        return datetime.strptime(text, TIME).strftime(TIME) == text
    except ValueError:
        return False
