"""`python -m experiments.equivalence <study>`: do the code that made a study and the present one give the same numbers?

A sample of the study's final runs is made twice on this machine: by the recorded commit, in a git worktree of its own,
and by the present code. If every weight agrees to the bit, and every other number to rounding, the two versions are
recorded as equivalent in `<study>_equivalence.json`, with the largest rounding, and the study can go on. Otherwise the
numbers that moved are named. Old records are never compared with new runs: bits differ between processors.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.command import RECORDS
from experiments.compare import content_of, differences
from experiments.study import Line, Plan, plan_of
from lorax_lab.errors import ConfigError, answer
from lorax_lab.record.output import guard
from lorax_lab.record.provenance import same_hardware
from lorax_lab.study.declaration import DamagedDeclaration, read_declaration
from lorax_lab.study.equivalence import proven, read_proofs, write_proofs
from lorax_lab.study.protocol import Cell

ROOT = Path(__file__).parents[1]
Sample = list[tuple[Cell, Line]]


def main(arguments: list[str] | None = None) -> int:
    """Compare the versions. Returns the exit code: 0 equivalent, 1 numbers moved, 2 a wrong input, 130 stopped."""
    parser = argparse.ArgumentParser(prog="python -m experiments.equivalence", description=__doc__)
    parser.add_argument("study", help="such as rank_sweep")
    most = "compare at most so many runs; the default is one of each version that the present code has for the study"
    parser.add_argument("--cells", type=int, metavar="N", help=most)
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records (experiments/records)")
    parser.add_argument("--runs", type=Path, help="keep the runs of both versions here (a temporary folder)")
    parser.add_argument("--dry-run", action="store_true", help="say which runs would be compared")
    options = parser.parse_args(arguments)
    return answer(lambda: _compare(options), "; the runs that were compared are recorded")


def _compare(options: argparse.Namespace) -> int:
    plan, lines = plan_of(options.study), options.records / f"{options.study}.jsonl"
    sample = choose(_recorded(lines), proven(lines), options.cells, plan.code)
    if not sample:
        print(f"{options.study}: the present code is the recorded one, or proven equivalent to it: it can go on")
        return 0
    for cell, line in sample:
        seconds = 2 * line["time"]["total_seconds"]
        print(f"{line['run_id']}: {cell.condition}, {cell.arm}, seed {cell.seed}; about {seconds / 60:.0f} minutes")
    if options.dry_run:
        return 0
    plan.prepare()
    with tempfile.TemporaryDirectory(prefix="equivalence-") as scratch:
        runs = (options.runs or Path(scratch)).absolute()
        return max(_prove(plan, cell, line, lines, runs) for cell, line in sample)


def _recorded(path: Path) -> Sample:
    """The completed final runs of a study, each with its cell, shortest first; its trials where it has no final run."""
    from lorax_lab.study.published import read_lines

    lines, _ = read_lines(path)
    if not lines:
        raise ConfigError(f"there are no records at {path}; type: python -m experiments.{path.stem}")
    try:
        declared = read_declaration(path.with_suffix(".json"))
    except DamagedDeclaration as error:
        raise ConfigError(f"{error}; restore it: git checkout -- {path.with_suffix('.json')}") from None
    cells = [(declared.cell_of(line), line) for line in lines if line["status"] == "completed"]
    known = [(cell, line) for cell, line in cells if cell]
    finals = [(cell, line) for cell, line in known if cell.stage == "final"] or known
    return sorted(finals, key=lambda pair: float(pair[1]["time"]["total_seconds"]))


def choose(finals: Sample, pairs: set[tuple[str, str]], most: int | None, code: Callable[[Cell], str]) -> Sample:
    """The runs to compare: the shortest run of each pair of recorded and present version that is not proven yet. Then,
    up to `most`, the shortest runs of other arms and conditions.

    Args:
        pairs: recorded and present versions that are proven.
        code: the present version of a run.

    Raises:
        ConfigError: `most` is less than 1.
    """
    if most is not None and most < 1:
        raise ConfigError(f"--cells {most} is not possible: 1 or more")
    versions = {line["run_id"]: (str(line["code"]), code(cell)) for cell, line in finals}
    unproven = [(c, line) for c, line in finals if (p := versions[line["run_id"]])[0] != p[1] and p not in pairs]
    first: dict[Any, tuple[Cell, Line]] = {}
    for cell, line in unproven:
        first.setdefault(versions[line["run_id"]], (cell, line))
    needed = list(first.values())
    taken = {(cell.condition, cell.arm) for cell, _ in needed}
    others: dict[Any, tuple[Cell, Line]] = {}
    for cell, line in unproven:
        if (cell.condition, cell.arm) not in taken:
            others.setdefault((cell.condition, cell.arm), (cell, line))
    return [*needed, *list(others.values())[: max((most or 0) - len(needed), 0)]][:most]


def _prove(plan: Plan, cell: Cell, line: Line, lines: Path, runs: Path) -> int:
    """Make one run under both versions, compare them, and record the outcome. Returns 0, or 1 if numbers moved."""
    commit = str(line["git"]["commit"])
    overrides = plan.overrides(cell)
    with worktree(commit) as old_root:
        old = _make(old_root, overrides, runs / "recorded" / line["run_id"])
    before = content_of(old)
    kernel = before["hardware"].get("kernel", "torch")  # a commit that states none knew no other
    new = _make(ROOT, [*overrides, f"train.kernel={kernel}"], runs / "present" / line["run_id"])
    after = content_of(new)
    if before["git"]["commit"] != commit or before["code"] != line["code"]:
        raise ConfigError(f"the worktree of {commit[:10]} did not run its own code; check PYTHONPATH and try again")
    if after["code"] != plan.code(cell):
        raise ConfigError(f"{new} was made by other code than the present one; name another folder by --runs")
    machines = same_hardware([before["hardware"], after["hardware"]])
    for part, differ in (
        ("hardware", machines[0] != machines[1]),
        ("versions", before["versions"] != after["versions"]),
    ):
        if differ:
            raise ConfigError(f"{old} and {new} differ in their {part}; name another folder by --runs, on one machine")
    if after["git"]["dirty"]:
        raise ConfigError("the present code is not committed, and a proof names a commit; commit first")
    moves = differences(old, new)
    proof = {
        "recorded_code": line["code"],
        "present_code": after["code"],
        "recorded_commit": commit,
        "present_commit": after["git"]["commit"],
        "present_dirty": after["git"]["dirty"],
        "run_id": line["run_id"],
        "numbers": moves.numbers,
        "moved": moves.moved,
        "rounding": moves.rounding,
        "hardware": after["hardware"],
        "versions": after["versions"],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    _write(lines, proof)
    equal = f"the others are equal to {moves.rounding:.0e} of their size" if moves.rounding else "the others to the bit"
    compared = f"{moves.numbers:,} numbers compared, {len(moves.moved)} places moved, {equal}"
    print(f"{line['run_id']}: {compared}", *moves.moved, sep="\n  ", flush=True)
    return int(bool(moves.moved))


def _write(lines: Path, proof: dict[str, Any]) -> None:
    key = ("recorded_code", "present_code", "run_id")
    kept = [other for other in read_proofs(lines) if any(other[k] != proof[k] for k in key)]
    write_proofs(lines, [*kept, proof])


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """A checkout of the commit in a folder of its own, for as long as it is needed.

    Raises:
        ConfigError: git cannot make one, for instance because this clone lacks the commit.
    """
    with tempfile.TemporaryDirectory(prefix="recorded-") as scratch:
        path = Path(scratch) / "checkout"
        git = ["git", "-C", str(ROOT), "worktree"]
        made = subprocess.run([*git, "add", "--detach", str(path), commit], capture_output=True, text=True)
        if made.returncode:
            reason = made.stderr.strip().splitlines()[-1]
            raise ConfigError(f"git cannot check out {commit[:10]} ({reason}); type: git fetch --unshallow")
        try:
            yield path
        finally:
            subprocess.run([*git, "remove", "--force", str(path)], capture_output=True, check=False)


def _make(root: Path, overrides: list[str], runs: Path) -> Path:
    """Train one run with the code in `root`, and give its folder. A run that is there already is not made again.

    Raises:
        ConfigError: it did not complete.
    """
    command = [sys.executable, "-m", "lorax_lab.run", *overrides, f"runs_dir={runs}", "tracking=disabled"]
    done = subprocess.run(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, check=False)
    folders = [path.parent for path in runs.glob("*/record.json")]
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode or len(folders) != 1 or content_of(folders[0])["status"] != "completed":
        raise ConfigError(f"the run did not complete under {root} (exit code {done.returncode}): {' '.join(overrides)}")
    return folders[0]


if __name__ == "__main__":
    guard()
    sys.exit(main())
