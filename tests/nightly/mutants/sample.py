"""`python tests/mutants/sample.py [--count 300] [--seed 1]`: how many of a random sample of mutations the tests see.

mutmut makes every mutation that it knows of the modules that `[tool.mutmut]` in pyproject.toml names. Of these a sample
is drawn by its seed. Each mutation is made in a process of its own, which runs the tests that reach the mutated
function, the fastest first, until one fails; then, where a test file keeps what it made, the other tests of the same
files. Slow and network tests have no part, nor those that read the source instead of running it.

All is kept under build/mutants, by the hash of the code: the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import noted
import reached
from forks import ROOT, failed_test, forked, import_large, run_tests, spread

MOST_SECONDS = 60.0
"""Of tests that are run on one mutation, by the time they take on the code as it is."""
FIRST = 40
"""Tests that are run before the others are even collected."""
SEEN = ("killed", "timeout")


@dataclass(frozen=True)
class Outcome:
    """What became of a mutation: killed, timeout, survived, or `no tests` where none reaches its function."""

    name: str
    file: str
    status: str
    test: str
    seconds: float
    diff: str

    @property
    def room(self) -> str:
        """`spectra` of lorax_lab/spectra/null.py, `statistics` of what studies compute."""
        parts = Path(self.file).with_suffix("").parts
        return "statistics" if parts[0] == "analysis" else parts[1]


def main(words: Sequence[str]) -> int:
    """Draw, run, and print the table; returns 0 once every mutation of the sample has its outcome."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=300, help="mutations in the sample")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="what a mutation's name has to contain, such as lorax_lab.train")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "mutants")
    asked = parser.parse_args(words)
    project = prepared(asked.folder)
    import_large()
    reach = reaching(project, asked.workers)
    names = drawn([name for name in mutations(project) if asked.only in name], asked.count, asked.seed)
    results = project.parent / f"sample-{asked.seed}-{asked.count}{asked.only and '-' + asked.only}.json"
    outcomes = run_all(project, names, reach, results, asked.workers)
    print(table(outcomes))
    print(f"survivors with their changes are in {results}")
    return 0


def prepared(folder: Path) -> Path:
    """A copy of the project, in which mutmut has made all mutations; made once for each state of the code."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    files = [name for name in listed if name and (ROOT / name).is_file()]
    content = hashlib.sha256()
    for name in sorted(files):
        if name.startswith(("lorax_lab/", "analysis/", "tests/", "conf/", "pyproject")):
            content.update(name.encode() + (ROOT / name).read_bytes())
    project = folder / content.hexdigest()[:12] / "project"
    if not (project / "mutants" / "made").exists():
        shutil.rmtree(project, ignore_errors=True)
        for name in files:
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, project / name)
        print(f"making all mutations in {project}", flush=True)
        output = project.parent / "making.txt"
        if forked(lambda: _make(project), output, 1800):
            sys.exit(f"mutmut failed; see {output}")
    return project


def _make(project: Path) -> int:
    os.chdir(project)
    from mutmut import __main__ as mutmut

    mutmut.set_mutant_under_test("mutant_generation")
    Path("mutants").mkdir(exist_ok=True)
    mutmut.copy_src_dir()
    mutmut.copy_also_copy_files()
    mutmut.create_mutants(1)
    Path("mutants/made").touch()
    return 0


def mutations(project: Path) -> list[str]:
    """The name of every mutation, sorted."""
    metas = (project / "mutants").rglob("*.py.meta")
    return sorted(name for meta in metas for name in json.loads(meta.read_text())["exit_code_by_key"])


def drawn(names: Sequence[str], count: int, seed: int) -> list[str]:
    """A sample without repetition, in random order: its beginning is a sample too."""
    return random.Random(seed).sample(list(names), min(count, len(names)))


def reaching(project: Path, workers: int) -> reached.Reach:
    """What each test reaches, measured once, one test file after another."""
    settings = _settings(project)
    folder = project.parent / "reached"
    folder.mkdir(exist_ok=True)
    left_out = [option.partition("=")[2] for option in settings["pytest_add_cli_args_test_selection"] if "=" in option]
    paths = sorted(path.relative_to(project) for path in (project / "tests").glob("test_*.py"))
    paths = [path for path in paths if str(path) not in left_out] + [Path("lorax_lab")]
    begun = time.monotonic()

    def measure(path: Path, _: object) -> Path:
        notes, output = folder / f"{path.stem}.json", folder / f"{path.stem}.txt"
        options = settings["pytest_add_cli_args"]
        if (
            not notes.exists()
            and forked(lambda: _note(project / "mutants", path, options, notes), output, 3600) is None
        ):
            notes.write_text('{"tests": {}, "failed": []}')
        return path

    for number, path in enumerate(spread(paths, measure, workers), 1):
        print(f"[{number}/{len(paths)}] who reaches what: {path} {time.monotonic() - begun:.0f} s", flush=True)
    notes = [folder / f"{path.stem}.json" for path in paths]
    failed = [name for path in notes for name in json.loads(path.read_text())["failed"]]
    print(f"{len(failed)} tests fail or are skipped without any mutation, and have no part")
    return reached.Reach.read(notes)


def _settings(project: Path) -> dict[str, Any]:
    import tomllib

    settings: dict[str, Any] = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["mutmut"]
    return settings


def _note(mutants: Path, path: Path, options: Sequence[str], to: Path) -> int:
    from mutmut.mutation import trampoline

    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"MUTANT_UNDER_TEST": "", noted.FOLDER: folder}
        trampoline.set_mutant_under_test("")
        noted.note_calls()
        notes = reached.Notes()
        run_tests([str(path)], mutants, *options, plugins=[notes], paths=[Path(__file__).parent / "processes"])
        notes.write(to)
    return 0


def run_all(project: Path, names: Sequence[str], reach: reached.Reach, to: Path, workers: int) -> list[Outcome]:
    """The outcome of each mutation; those that the file has already are not made again."""
    done = {row["name"]: Outcome(**row) for row in (json.loads(to.read_text()) if to.exists() else [])}
    left, begun = [name for name in names if name not in done], time.monotonic()

    def run(name: str, _: object) -> Outcome:
        return _run(project, name, reach, project.parent / f"output-{os.getpid()}.txt")

    for number, outcome in enumerate(spread(left, run, workers), 1):
        done[outcome.name] = outcome
        part = to.with_suffix(".part")
        part.write_text(json.dumps([asdict(done[name]) for name in names if name in done], indent=1))
        part.replace(to)
        counts = Counter(other.status for other in done.values())
        rest = (time.monotonic() - begun) / number * (len(left) - number) / 60
        say = " · ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        print(f"[{len(done)}/{len(names)}] {outcome.status} {outcome.name} · {say} · {rest:.0f} min left", flush=True)
    return [done[name] for name in names]


def _run(project: Path, name: str, reach: reached.Reach, output: Path) -> Outcome:
    file, diff = _diff(project, name)
    tests, needs = reach.chosen(name.partition("__mutmut_")[0], MOST_SECONDS)
    begun = time.monotonic()
    if not tests:
        return Outcome(name, file, "no tests", "", 0.0, diff)
    code = forked(lambda: _test(project / "mutants", name, tests), output, 20 * needs + 200, int(3 * needs + 60))
    status = "timeout" if code is None else "survived" if code == 0 else "killed"
    test = failed_test(output)[:300] if status == "killed" else ""
    output.unlink(missing_ok=True)
    return Outcome(name, file, status, test, round(time.monotonic() - begun, 1), diff)


def _test(mutants: Path, name: str, tests: Sequence[str]) -> int:
    from mutmut.mutation import trampoline

    trampoline.set_mutant_under_test(name)
    for some in (tests[:FIRST], tests[FIRST:]):
        if some and (code := run_tests(some, mutants, "-x")):
            return code
    return 0


def _diff(project: Path, name: str) -> tuple[str, str]:
    """(file, change) of a mutation."""
    os.chdir(project)  # where mutmut looks for its settings when it is imported
    from mutmut.__main__ import find_mutant, get_diff_for_mutant

    return str(find_mutant(name).path), get_diff_for_mutant(name)


def wilson(hits: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927).

    >>> [round(end, 3) for end in wilson(8, 10)]
    [0.49, 0.943]
    """
    if not count:
        return 0.0, 1.0
    share, spread = hits / count, z * z / count
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def table(outcomes: Iterable[Outcome]) -> str:
    """A line for each room and one for all: mutations, their outcomes, the score and its interval."""
    outcomes = list(outcomes)
    lines = [
        f"{'room':<12}{'mutations':>10}{'killed':>8}{'timeout':>8}{'survived':>9}{'no tests':>9}{'score':>7}  95 %"
    ]
    for room in [*sorted({outcome.room for outcome in outcomes}), "all"]:
        counts = Counter(outcome.status for outcome in outcomes if room in (outcome.room, "all"))
        hits, count = sum(counts[status] for status in SEEN), counts.total()
        low, high = wilson(hits, count)
        cells = f"{counts['killed']:>8}{counts['timeout']:>8}{counts['survived']:>9}{counts['no tests']:>9}"
        lines.append(f"{room:<12}{count:>10}{cells}{hits / max(count, 1):>7.1%}  {low:.1%} to {high:.1%}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
