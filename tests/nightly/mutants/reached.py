"""Which tests run which functions: the tests of one file at a time, on the code that mutmut has prepared.

mutmut puts a switch before each function that it mutates. `noted` has them note who passes. What a fixture runs counts
for each test that uses it.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import noted
import pytest


class Notes:
    """A plugin of pytest that keeps, for each test, the functions that it ran, its seconds and its outcome."""

    def __init__(self) -> None:
        self.tests: dict[str, dict[str, Any]] = {}
        self.fixtures: dict[str, tuple[float, set[str]]] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[Any]:
        before, begun = set(noted.PASSED), time.perf_counter()
        noted.PASSED.clear()
        try:
            return (yield)
        finally:
            seconds, functions = self.fixtures.get(_key(fixturedef), (0.0, set()))
            functions |= noted.PASSED | noted.of_processes()
            self.fixtures[_key(fixturedef)] = max(seconds, time.perf_counter() - begun), functions
            noted.PASSED.update(before)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        noted.PASSED.clear()
        self.tests[item.nodeid] = {"seconds": 0.0}
        try:
            return (yield)
        finally:
            used = getattr(item, "_fixtureinfo", None)
            keys = {_key(d) for found in used.name2fixturedefs.values() for d in found} if used else set()
            made = {key: self.fixtures[key] for key in sorted(keys & self.fixtures.keys())}
            self.tests[item.nodeid] |= {
                "fixtures": {key: round(seconds, 3) for key, (seconds, _) in made.items()},
                "functions": sorted(noted.PASSED.union(noted.of_processes(), *(names for _, names in made.values()))),
            }

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.tests[report.nodeid]["seconds"] = round(report.duration, 3)
        if report.failed or report.skipped:
            self.failed.add(report.nodeid)

    def write(self, path: Path) -> None:
        """The notes as JSON; a test that failed or was skipped is among `failed` alone."""
        tests = {
            name: facts
            for name, facts in self.tests.items()
            if name not in self.failed and "__mutmut_" not in name  # an example in the docstring of a mutated copy
        }
        path.write_text(json.dumps({"tests": tests, "failed": sorted(self.failed)}))


def _key(fixture: Any) -> str:
    return f"{fixture.baseid}::{fixture.argname}"


@dataclass
class Reach:
    """What the tests reach.

    Attributes:
        seconds: of each test, without its fixtures.
        fixtures: of each test, with the seconds that making each takes.
        tests: that reach each function.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    fixtures: dict[str, dict[str, float]] = field(default_factory=dict)
    tests: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Reach:
        """From what `Notes` wrote for several files."""
        reach = cls()
        for path in paths:
            for name, facts in json.loads(path.read_text())["tests"].items():
                reach.seconds[name], reach.fixtures[name] = facts["seconds"], facts["fixtures"]
                for function in facts["functions"]:
                    reach.tests[function].add(name)
        return reach

    def alone(self, test: str) -> float:
        """Seconds of one test and all its fixtures."""
        return self.seconds[test] + sum(self.fixtures[test].values())

    def chosen(self, function: str, most_seconds: float) -> tuple[list[str], float]:
        """(tests, their seconds): the tests that reach a function, the fastest first, then the others of their files,
        which may use what those keep. Up to so many seconds, but at least one test; a fixture is counted once."""
        direct = sorted(self.tests.get(function, ()), key=self.alone)
        files = {name.partition("::")[0] for name in direct}
        others = [n for n in self.seconds if n.partition("::")[0] in files and n not in self.tests[function]]
        chosen, total, made = [], 0.0, set[str]()
        for name in [*direct, *sorted(others, key=self.alone)]:
            new = self.fixtures[name].keys() - made
            needs = self.seconds[name] + sum(self.fixtures[name][key] for key in new)
            if total + needs <= most_seconds or not chosen:
                chosen.append(name)
                total, made = total + needs, made | new
        return chosen, total
