"""Which tests run which functions: the tests of one file at a time, on the code that mutmut has prepared.

mutmut puts a switch before each function that it mutates. Here the switches note who passes. What a fixture runs counts
for each test that uses it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

PASSED: set[str] = set()
"""Functions that were called since the set was emptied, as mutmut names them."""


def note_calls() -> None:
    """From here on, the switches of modules that are imported note each call in `PASSED`."""
    from mutmut.mutation import trampoline

    inner = trampoline.wrap_in_trampoline

    def noting(mutants: dict[str, Callable[..., Any]], is_classmethod: bool = False) -> Callable[..., Any]:
        def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
            switch = inner(mutants, is_classmethod)(function)
            name = f"{function.__module__}.{function.__name__.removesuffix('__mutmut_orig')}"

            @wraps(switch)
            def call(*args: Any, **kwargs: Any) -> Any:
                key = name if "__mutmut_" not in name else name.partition("__mutmut_")[0]
                PASSED.add(key)
                return switch(*args, **kwargs)

            return call

        return wrap

    trampoline.wrap_in_trampoline = noting  # type: ignore[assignment]


class Notes:
    """A plugin of pytest that keeps, for each test, the functions that it ran, its seconds and its outcome."""

    def __init__(self) -> None:
        self.by_test: dict[str, set[str]] = {}
        self.by_fixture: dict[int, set[str]] = defaultdict(set)
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[Any]:
        before = set(PASSED)
        PASSED.clear()
        try:
            return (yield)
        finally:
            self.by_fixture[id(fixturedef)] |= PASSED
            PASSED.update(before)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        PASSED.clear()
        try:
            return (yield)
        finally:
            used = getattr(item, "_fixtureinfo", None)
            definitions = [d for found in used.name2fixturedefs.values() for d in found] if used else []
            self.by_test[item.nodeid] = PASSED.union(*(self.by_fixture[id(d)] for d in definitions))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed or report.skipped:
            self.failed.add(report.nodeid)

    def write(self, path: Path) -> None:
        """The notes as JSON; a test that failed or was skipped is among `failed` alone."""
        tests = {
            name: {"seconds": round(self.seconds[name], 3), "functions": sorted(functions)}
            for name, functions in self.by_test.items()
            if name not in self.failed
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
