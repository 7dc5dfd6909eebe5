"""What was measured of a study's runs afterwards: `<study>.<name>.rows`, plain values in JSON on each line.

The lines of a condition begin with a head, which names the runs that were measured and counts the rows that follow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorax_lab.errors import in_short
from lorax_lab.record.redact import redacted
from lorax_lab.record.sums import read_checked, write_summed

ENDING = ".rows"
CONDITION = "condition"
"""The key of each line that says of which condition its runs are."""
RUNS, ROWS = "runs", "rows"
"""The keys of a head besides."""


@dataclass
class Measured:
    """The rows of one condition.

    Attributes:
        runs: ids of the runs that were measured; None where the head is damaged.
        count: how many rows were written.
        rows: those that are intact.
    """

    runs: list[str] | None = None
    count: int | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether head and rows are all there."""
        return self.runs is not None and self.count == len(self.rows)


def path_of(study: Path, name: str) -> Path:
    """Where the rows of a name lie, beside a study's published lines."""
    return study.with_name(f"{study.stem}.{name}{ENDING}")


def names_of(study: Path) -> list[str]:
    """The names of the rows that lie beside a study's published lines."""
    paths = study.parent.glob(f"{study.stem}.*{ENDING}")
    return sorted(path.name.removeprefix(f"{study.stem}.").removesuffix(ENDING) for path in paths)


def read_rows(path: Path) -> tuple[dict[str, Measured], list[str]]:
    """What a file has of each condition, and what is wrong with it; both empty where there is no file."""
    from lorax_lab.study.row_shapes import check_row

    checked = read_checked(path)
    kind = path.name.removesuffix(ENDING).rpartition(".")[2]
    found, damages = dict[str, Measured](), list(checked.damages)
    for number, text in checked.lines.items():
        try:
            line = json.loads(text)
            if not isinstance(line, dict) or CONDITION not in line:
                raise ValueError(f"it names no {CONDITION}")
            is_head = line.keys() == {CONDITION, RUNS, ROWS}
            check_row(kind, text, is_head)
        except (ValueError, RecursionError) as error:
            damages.append(f"{path.name}, line {number}: {in_short(error)}")
            continue
        of = found.setdefault(str(line[CONDITION]), Measured())
        if is_head:
            of.runs, of.count = line[RUNS], line[ROWS]
        else:
            of.rows.append(line)
    for name, of in found.items():
        if not of.is_whole:
            damages.append(
                f"{path.name}: of {name} {len(of.rows)} of {of.count or 'an unknown number of'} rows are intact"
            )
    return found, damages


def write_rows(path: Path, conditions: Mapping[str, Measured]) -> None:
    """Write all conditions of a file; a condition that lost rows stays one that lost rows. The same content gives the
    same bytes."""
    lines: list[dict[str, Any]] = []
    for name, of in conditions.items():
        lines += [{CONDITION: name, RUNS: of.runs, ROWS: of.count}, *({CONDITION: name} | row for row in of.rows)]
    texts = (json.dumps(redacted(line), ensure_ascii=False, separators=(",", ":")) for line in lines)
    write_summed(path, "".join(f"{text}\n" for text in texts))
