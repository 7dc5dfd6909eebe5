"""`python -m lorax_lab.doctor` says whether each run of a store is whole, what is left over, and what a folder costs.

With `--mend` what is left over is removed, and a run that is damaged is set aside in `.damaged/`, so that the command
that made it trains it again. What a process works on is left alone, and so is a run of another version.
"""

import argparse
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from rich.table import Table
from rich.text import Text

from lorax_lab.console import console, say
from lorax_lab.errors import ConfigError, answer
from lorax_lab.record.checkpoints import FOLDER as CHECKPOINTS
from lorax_lab.record.files import SCRATCH, remove_scratch
from lorax_lab.record.folder import check_file
from lorax_lab.record.lease import is_leased, lease
from lorax_lab.record.record import DamagedRecord, OtherVersion, Record, read_record, status_of
from lorax_lab.record.redact import guard

DAMAGED = ".damaged"
"""The store's folder of runs that were set aside."""


@dataclass(frozen=True)
class Examined:
    """A folder of a store: its bytes, its status, what is `damaged` in it, and what is `left_over`; empty: nothing."""

    folder: Path
    size: int
    status: str
    damaged: str = ""
    left_over: str = ""


def examine(folder: Path) -> Examined:
    """What is to be said of one folder of a store."""
    size = size_of(folder)
    if folder.name.startswith("."):
        return Examined(folder, size, "of the store")
    if is_leased(folder):
        return Examined(folder, size, "in progress")
    scratch = any(SCRATCH.fullmatch(path.name) for path in folder.glob(".*"))
    try:
        record = read_record(folder)
        damaged = _damage(folder, record)
    except FileNotFoundError:
        return Examined(folder, size, "no run")
    except OtherVersion:
        return Examined(folder, size, "of another version")
    except DamagedRecord as error:
        return Examined(folder, size, "damaged", str(error))
    has_checkpoints = record.status == "completed" and (folder / CHECKPOINTS).exists()
    left_over = [*["checkpoints"] * has_checkpoints, *["temporary files"] * scratch]
    status = "interrupted" if record.status == "running" else record.status
    return Examined(folder, size, "damaged" if damaged else status, damaged, ", ".join(left_over))


def _damage(folder: Path, record: Record) -> str:
    if record.run_id != folder.name:
        return f"it is a copy of {record.run_id}"
    for name in record.result.files if record.result else ():
        try:
            check_file(folder, name)
        except FileNotFoundError:
            return f"{name} is gone"
        except DamagedRecord as error:
            return str(error)
    return ""


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder; what is removed meanwhile has none."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size if not path.is_dir() else 0
    return total


def mend(examined: Examined) -> bool:
    """Set a damaged run aside, or remove what is left over; returns whether nobody worked on the run."""
    folder = examined.folder
    with lease(folder) as mine:
        if mine and examined.damaged:
            places = (folder.parent / DAMAGED / f"{folder.name}.{n}" for n in count())
            place = next(path for path in places if not path.exists())
            place.parent.mkdir(exist_ok=True)
            os.replace(folder, place)
        elif mine:
            remove_scratch(folder)
            if status_of(folder) == "completed":  # any other run goes on from its checkpoints
                shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return mine


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 all is whole or mended, 1 something is not, 2 a wrong input, 130 stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m lorax_lab.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs", type=Path, nargs="?", default=Path("runs"), help="the store, where the records are (runs)"
    )
    parser.add_argument("--mend", action="store_true", help="remove what is left over, and set damaged runs aside")
    options = parser.parse_args(arguments)
    return answer(lambda: _main(options.runs, options.mend))


def _main(store: Path, mends: bool) -> int:
    if not store.is_dir():
        raise ConfigError(f"{store} is no folder; name the one with the records, such as runs")
    folders = [path for path in sorted(store.iterdir()) if path.is_dir()]
    table, left = Table(title=f"{len(folders)} folders in {store}", title_justify="left"), 0
    for heading in ("folder", "MiB", "status", "what is wrong"):
        table.add_column(heading, justify="right" if heading == "MiB" else "left", overflow="fold")
    examined = sorted(map(examine, folders), key=lambda one: -one.size)
    for one in examined:
        wrong = one.damaged or (f"left over: {one.left_over}" if one.left_over else "")
        mended = bool(wrong) and mends and mend(one)
        left += bool(wrong) and not mended
        wrong += (f"; set aside in {DAMAGED}" if one.damaged else "; removed") if mended else ""
        table.add_row(*map(Text, (one.folder.name, f"{one.size / 2**20:,.1f}", one.status, wrong)))
    console.print(table)
    total = sum(one.size for one in examined) / 2**20
    say(f"{total:,.1f} MiB in all; " + (f"{left} to mend: type --mend too" if left else "all is whole"))
    return 1 if left else 0


if __name__ == "__main__":
    guard()
    sys.exit(main())
