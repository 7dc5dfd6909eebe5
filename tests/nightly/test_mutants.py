"""The list of mutations fits the code, and its runner tells what is caught from what is not."""

from __future__ import annotations

import ast
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "mutants" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


survivors, forks, noted, reached = map(loaded, ("survivors", "forks", "noted", "reached"))
known, sample = loaded("known"), loaded("sample")


@pytest.mark.parametrize("mutation", survivors.SURVIVORS, ids=lambda mutation: mutation.what)
def test_a_mutation_has_its_place_and_its_tests(mutation: Any) -> None:
    text = (ROOT / mutation.file).read_text()
    assert text.count(mutation.old) == 1
    changed = ast.parse(text.replace(mutation.old, mutation.new))
    assert ast.dump(changed) != ast.dump(ast.parse(text))
    assert mutation.tests
    for test in mutation.tests.split():
        path, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}" in (ROOT / path).read_text()


def test_each_mutation_is_listed_once() -> None:
    listed = [(mutation.file, mutation.old, mutation.new) for mutation in survivors.SURVIVORS]
    assert len(set(listed)) == len(listed) >= 60
    assert len({mutation.what for mutation in survivors.SURVIVORS}) == len(listed)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one file with one test, in the place of this one."""
    (tmp_path / "lorax_lab").mkdir()
    (tmp_path / "lorax_lab" / "number.py").write_text("ONE = 1\nTWO = 2\n")
    (tmp_path / "test_number.py").write_text(
        "from lorax_lab.number import ONE\n\n\ndef test_one() -> None:\n    assert ONE == 1\n"
    )
    monkeypatch.setattr(known, "run_tests", one_test)
    return tmp_path


def one_test(tests: list[str], copy: Path, *options: str) -> int:
    """What pytest answers to the one test, for a child that has the real package in memory."""
    scope: dict[str, Any] = {}
    exec((copy / "lorax_lab" / "number.py").read_text(), scope)
    return int(scope["ONE"] != 1)


SEEN = survivors.Mutation("seen", "lorax_lab/number.py", "ONE = 1", "ONE = 3", "test_number.py")


@pytest.mark.parametrize(
    ("mutation", "outcome"),
    [
        (SEEN, "caught"),
        (replace(SEEN, old="TWO = 2", new="TWO = 3"), "SURVIVED"),
        (replace(SEEN, old="FOUR"), "ERROR"),
        (replace(SEEN, file="", old=""), "caught"),
    ],
)
def test_the_runner_tells_what_is_caught(project: Path, mutation: Any, outcome: str) -> None:
    before = (project / "lorax_lab" / "number.py").read_text()
    assert known._verdict(mutation, project, 1).outcome == outcome
    assert (project / "lorax_lab" / "number.py").read_text() == before


def test_a_test_that_always_fails_catches_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "run_tests", lambda *_: 1)
    assert known._verdict(known._unchanged([SEEN], 1)[0], project, 1).outcome == "ERROR"


def test_tests_that_do_not_end_have_seen_the_mutation(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "LIMIT", 0.2)
    monkeypatch.setattr(known, "run_tests", lambda *_: __import__("time").sleep(60))
    assert known._verdict(SEEN, project, 1).outcome == "caught"
    assert known._verdict(known._unchanged([SEEN], 1)[0], project, 1).outcome == "ERROR"


def outcome(status: str, file: str = "lorax_lab/train.py") -> Any:
    return sample.Outcome("a name", file, status, "", 1.0, "")


def test_a_timeout_counts_as_seen_and_a_function_without_tests_as_not_seen() -> None:
    rows = [outcome("killed")] * 6 + [outcome("timeout"), outcome("survived"), outcome("no tests")]
    *_, all_rooms = sample.table([*rows, outcome("killed", "analysis/study/statistics.py")]).splitlines()
    assert all_rooms.split() == ["all", "10", "7", "1", "1", "1", "80.0%", "49.0%", "to", "94.3%"]
    assert [line.split()[0] for line in sample.table(rows).splitlines()] == ["room", "train", "all"]


def test_a_sample_follows_from_its_seed_and_begins_with_a_smaller_one() -> None:
    names = [str(number) for number in range(1000)]
    assert sample.drawn(names, 30, 1) == sample.drawn(names, 30, 1) != sample.drawn(names, 30, 2)
    assert sample.drawn(names, 30, 1) == sample.drawn(names, 100, 1)[:30]
    assert len(set(sample.drawn(names, 2000, 1))) == 1000


def test_the_fastest_tests_that_reach_a_function_come_first_and_then_their_neighbours() -> None:
    seconds = {"a::slow": 9.0, "a::fast": 0.1, "b::fast": 0.2, "a::other": 0.05, "c::other": 0.01, "b::endless": 90.0}
    fixtures: dict[str, dict[str, float]] = {name: {} for name in seconds}
    fixtures |= {"a::fast": {"made": 5.0}, "a::slow": {"made": 5.0}}
    reach = reached.Reach(seconds, fixtures, {"f": {"a::slow", "a::fast", "b::fast", "b::endless"}})
    chosen, total = reach.chosen("f", 20.0)
    assert chosen == ["b::fast", "a::fast", "a::slow", "a::other"]
    assert total == pytest.approx(0.2 + 5 + 0.1 + 9 + 0.05)
    assert reach.chosen("g", 20.0) == ([], 0)
    assert reach.chosen("f", 0.0)[0] == ["b::fast"]


def test_what_a_fixture_runs_counts_for_each_test_that_uses_it(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest, noted\n\n"
        "@pytest.fixture(scope='module')\ndef made():\n    noted.PASSED.add('m.x_make')\n\n"
        "def test_one(made):\n    noted.PASSED.add('m.x_one')\n\n"
        "def test_two(made):\n    pass\n\n"
        "def test_three():\n    assert False\n"
    )
    notes = reached.Notes()
    code = forks.forked(lambda: seen(tmp_path, notes), tmp_path / "output.txt", 60)
    assert code == 0, (tmp_path / "output.txt").read_text()
    reach = reached.Reach.read([tmp_path / "notes.json"])
    assert set(reach.seconds) == {"test_it.py::test_one", "test_it.py::test_two"}
    assert reach.tests == {"m.x_make": set(reach.seconds), "m.x_one": {"test_it.py::test_one"}}
    assert all(list(made) == ["test_it.py::made"] for made in reach.fixtures.values())


def seen(folder: Path, notes: Any) -> int:
    forks.run_tests(["test_it.py"], folder, "-c", "/dev/null", plugins=[notes])
    notes.write(folder / "notes.json")
    return 0
