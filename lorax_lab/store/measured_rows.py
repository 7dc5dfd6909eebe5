"""What was measured of a study's runs afterwards: `<study>.<name>.rows`, a row of plain values in JSON on each line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lorax_lab.errors import in_short
from lorax_lab.store.redact import redacted
from lorax_lab.store.sums import read_checked, write_summed

ENDING = ".rows"
CONDITION = "condition"
"""The key of each row that says of which condition its runs are."""


def path_of(study: Path, name: str) -> Path:
    """Where the rows of a name lie, beside a study's published lines."""
    return study.with_name(f"{study.stem}.{name}{ENDING}")


def names_of(study: Path) -> list[str]:
    """The names of the rows that lie beside a study's published lines."""
    paths = study.parent.glob(f"{study.stem}.*{ENDING}")
    return sorted(path.name.removeprefix(f"{study.stem}.").removesuffix(ENDING) for path in paths)


def read_rows(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The intact rows of a file, and what is wrong with each of the others; both empty where there is no file."""
    checked = read_checked(path)
    rows, damages = [], list(checked.damages)
    for number, text in checked.lines.items():
        try:
            row = json.loads(text)
            if not isinstance(row, dict) or CONDITION not in row:
                raise ValueError(f"it names no {CONDITION}")
        except (ValueError, RecursionError) as error:
            damages.append(f"{path.name}, line {number}: {in_short(error)}")
        else:
            rows.append(row)
    return rows, damages


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write all rows of a file; the same rows give the same bytes."""
    texts = (json.dumps(redacted(row), ensure_ascii=False, separators=(",", ":")) for row in rows)
    write_summed(path, "".join(f"{text}\n" for text in texts))
