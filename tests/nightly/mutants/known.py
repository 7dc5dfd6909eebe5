"""`python tests/mutants/known.py [TEXT …] [--workers N]`: make the mutations of `survivors`; each must be caught.

A mutation is caught when one of its tests fails. Each worker has a copy of the project. It imports the large libraries
once, and forks for each mutation; the child imports the mutated code and runs the tests. First the tests run on the
code as it is, since a test that always fails catches nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forks import ROOT, failed_test, forked, import_large, run_tests, spread
from survivors import SURVIVORS, Mutation

PARTS = ("lorax_lab", "analysis", "experiments", "tests", "conf", "docs", "pyproject.toml", "README.md", "LICENSE")
"""What the tests read of the project."""
LIMIT = 240.0
"""Seconds after which a mutation's tests are ended. Tests that do not end have seen the mutation."""
CAUGHT, MISSED, UNCHANGED = "caught", "SURVIVED", "no change"


@dataclass(frozen=True)
class Verdict:
    """What became of one mutation: `caught`, `SURVIVED`, or why neither can be said."""

    what: str
    outcome: str
    seconds: float
    line: str


def main(words: Sequence[str]) -> int:
    """Run the mutations whose description has one of the texts, or all; returns how many were not caught."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", nargs="*")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(words)
    chosen = [m for m in SURVIVORS if not asked.texts or any(text in m.what for text in asked.texts)]
    begun = time.monotonic()
    wrong = verdict_of_all(chosen, asked.workers)
    caught = len(chosen) - len([verdict for verdict in wrong if verdict.what != UNCHANGED])
    print(f"{caught} of {len(chosen)} caught in {time.monotonic() - begun:.0f} s")
    return min(len(wrong), 99)


def verdict_of_all(chosen: Sequence[Mutation], workers: int) -> list[Verdict]:
    """Run the mutations, printing a line for each; returns those that were not caught."""
    import_large()
    jobs = list(enumerate([*_unchanged(chosen, workers), *chosen]))
    wrong = []
    for verdict in spread(jobs, lambda job, copy: _verdict(job[1], copy, job[0]), workers, _copied):
        print(f"{verdict.outcome:<9}{verdict.what} ({verdict.seconds:.0f} s): {verdict.line}", flush=True)
        wrong += [] if verdict.outcome == CAUGHT else [verdict]
    return wrong


def _unchanged(chosen: Sequence[Mutation], workers: int) -> list[Mutation]:
    """The tests of all mutations on the code as it is, shared among the workers by their files."""
    tests = sorted({test for mutation in chosen for test in mutation.tests.split()})
    files = sorted({test.partition("::")[0] for test in tests})
    shares = [[t for t in tests if files.index(t.partition("::")[0]) % workers == i] for i in range(workers)]
    return [Mutation(UNCHANGED, "", "", "", " ".join(share)) for share in shares if share]


@contextmanager
def _copied() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / part, copy / part)
        yield copy


def _verdict(job: Mutation, copy: Path, number: int) -> Verdict:
    begun, output = time.monotonic(), copy / "output.txt"
    with _mutated(job, copy, number) as places:
        if places != 1:
            return Verdict(
                job.what, "ERROR", 0.0, f"{job.file} has what is to be changed {places} times: mend the list"
            )
        code = forked(lambda: run_tests(job.tests.split(), copy, "-x"), output, LIMIT if job.file else 10 * LIMIT)
    line = "" if code is None else failed_test(output)[:160]
    outcome = {None: CAUGHT, 1: CAUGHT, 0: MISSED}.get(code, f"ERROR {code}")
    if not job.file:
        outcome = CAUGHT if code == 0 else "ERROR"
    return Verdict(job.what, outcome, time.monotonic() - begun, line or f"no end within {LIMIT:g} s")


@contextmanager
def _mutated(job: Mutation, copy: Path, number: int) -> Iterator[int]:
    """The copy with the mutation in it; gives how many places it fits."""
    if not job.file:
        yield 1
        return
    path = copy / job.file
    text, facts = path.read_text(), path.stat()
    places = text.count(job.old)
    try:
        if places == 1:
            path.write_text(text.replace(job.old, job.new))
            # a time of its own, so that no compiled file of another mutation is taken for this one's
            os.utime(path, (facts.st_atime, facts.st_mtime + 1 + number))
        yield places
    finally:
        path.write_text(text)
        os.utime(path, (facts.st_atime, facts.st_mtime))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
