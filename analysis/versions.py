"""Runs of one group that unlike versions made, of the code or of a package: which they are, and how figures say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorax_lab.record.code import HALF, shared_half
from lorax_lab.record.record import Record

if TYPE_CHECKING:
    import pandas as pd

    from .groups import Group

COLUMN = "made by"
"""The column that says of each row by which versions its run was made. A table has it only if they are unlike."""
OWN_PACKAGE = "lorax_lab"
SOME = 3


@dataclass(frozen=True)
class Unlike:
    """Something whose version is not the same in all runs: what it is, how many there are, and each run's by its id."""

    what: str
    count: int
    of_run: dict[str, str]


def unlike(records: Mapping[str, Record]) -> list[Unlike]:
    """What differs among the versions that made these runs; nothing where all were made alike.

    A method may have code of its own, which differs from that of other methods. A record that is older than the hash of
    the code goes by its commit. A package that a run does not use does not count.
    """
    found = []
    codes = {run_id: _code(record) for run_id, record in records.items()}
    alike: dict[tuple[str, bool], set[str]] = {}
    for run_id, record in records.items():
        choice = record.method, bool(record.config.get("reference"))  # what chooses the code, in runs of one task
        alike.setdefault(choice, set()).add(codes[run_id])
    count = max([len({shared_half(code) for code in codes.values()}), *map(len, alike.values())])
    if count > 1:
        found.append(Unlike("code", count, {run_id: _short(code) for run_id, code in codes.items()}))
    for package in sorted({name for record in records.values() for name in record.versions} - {OWN_PACKAGE}):
        own = {run_id: str(r.versions[package]) for run_id, r in records.items() if package in r.versions}
        if len(set(own.values())) > 1:
            found.append(Unlike(package, len(set(own.values())), own))
    return found


def lines(group: Group) -> list[str]:
    """A line for each set of versions that made runs of the group; nothing where they were made alike."""
    found = unlike(group.records)
    made: dict[str, list[str]] = {}
    for run_id in group.runs["run_id"] if found else ():
        made.setdefault(_label(found, run_id), []).append(run_id)
    return [f"{label}: {_some(runs)}" for label, runs in made.items()]


def marked(group: Group, table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """A figure's table, with `COLUMN` if unlike versions made its runs, and what to stamp on the figure: nothing where
    they were made alike.

    Args:
        table: with the columns `arm` and `seed`, which name the run of each row.
    """
    names = zip(group.runs["arm"], group.runs["seed"], strict=True)
    by_name = dict(zip(names, map(str, group.runs["run_id"]), strict=True))
    rows = [by_name.get(key, "") for key in zip(table["arm"], table["seed"], strict=True)]  # a row may be of noise
    found = unlike({run_id: group.records[run_id] for run_id in dict.fromkeys(rows) if run_id})
    if not found:
        return table, ""
    counts = [f"{part.count} versions of {part.what}" for part in found]
    return table.assign(**{COLUMN: [_label(found, run_id) for run_id in rows]}), ", ".join(counts)


def _code(record: Record) -> str:
    return record.code or (f"commit {record.git.commit[:10]}" if record.git.commit else "unknown")


def _short(code: str) -> str:
    """The beginnings of both halves of a hash; anything else as it is."""
    return f"{code[:6]}-{code[HALF : HALF + 6]}" if len(code) == 2 * HALF else code


def _label(found: list[Unlike], run_id: str) -> str:
    return ", ".join(f"{part.what} {part.of_run[run_id]}" for part in found if run_id in part.of_run)


def _some(runs: list[str]) -> str:
    more = f" and {len(runs) - SOME} more" if len(runs) > SOME else ""
    return f"{len(runs)} run{'s' * (len(runs) > 1)}: {', '.join(runs[:SOME])}{more}"
