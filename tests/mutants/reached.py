"""Which tests run which functions: the tests of one file at a time, on the code that mutmut has prepared.

mutmut puts a switch before each function that it mutates. `noted` has them note who passes. What a fixture runs counts
for each test that uses it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import noted
import pytest


class Notes:
    """A plugin of pytest that keeps, for each test, the functions that it ran, its seconds and its outcome."""

    def __init__(self) -> None:
        self.by_test: dict[str, set[str]] = {}
        self.by_fixture: dict[int, set[str]] = defaultdict(set)
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[Any]:
        before = set(noted.PASSED)
        noted.PASSED.clear()
        try:
            return (yield)
        finally:
            self.by_fixture[id(fixturedef)] |= noted.PASSED | noted.of_processes()
            noted.PASSED.update(before)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        noted.PASSED.clear()
        try:
            return (yield)
        finally:
            used = getattr(item, "_fixtureinfo", None)
            definitions = [d for found in used.name2fixturedefs.values() for d in found] if used else []
            self.by_test[item.nodeid] = noted.PASSED.union(
                noted.of_processes(), *(self.by_fixture[id(d)] for d in definitions)
            )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed or report.skipped:
            self.failed.add(report.nodeid)

    def write(self, path: Path) -> None:
        """The notes as JSON; a test that failed or was skipped is among `failed` alone."""
        tests = {
            name: {"seconds": round(self.seconds[name], 3), "functions": sorted(functions)}
            for name, functions in self.by_test.items()
            if name not in self.failed and "__mutmut_" not in name  # an example in the docstring of a mutated copy
        }
        path.write_text(json.dumps({"tests": tests, "failed": sorted(self.failed)}))


def read(paths: Sequence[Path]) -> tuple[dict[str, float], dict[str, set[str]]]:
    """(seconds of each test, tests of each function) from what `Notes` wrote for several files."""
    seconds: dict[str, float] = {}
    tests: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        for name, facts in json.loads(path.read_text())["tests"].items():
            seconds[name] = facts["seconds"]
            for function in facts["functions"]:
                tests[function].add(name)
    return seconds, tests
