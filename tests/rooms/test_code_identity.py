"""The version of the code: only what may change a number moves it, and other methods do not count."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lorax_lab.record import code
from lorax_lab.record.code import PACKAGE, code_sha256, shared_half

LORA = {"method": {"name": "lora"}, "task": {"source": "sarcasm", "kind": "classification"}}
FULL = LORA | {"method": {"name": "full"}}
Change = Callable[[Path], None]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the library's sources, free to be changed."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "lorax_lab", ignore=shutil.ignore_patterns("__pycache__")))


def version(package: Path, config: dict[str, object] = LORA) -> str:
    code._hashes.cache_clear()
    code._source.cache_clear()
    code._is_module.cache_clear()
    return code_sha256(config, package)


def edit(name: str, old: str, new: str) -> Change:
    def change(package: Path) -> None:
        path = package / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def comment(package: Path) -> None:
    for path in package.rglob("*.py"):
        path.write_text(path.read_text() + "\n# a remark\n")


def reformat(package: Path) -> None:
    """Python's own formatting: no comments, other line breaks, other quotes."""
    for path in package.rglob("*.py"):
        path.write_text(ast.unparse(ast.parse(path.read_text())))


def docstrings(package: Path) -> None:
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
                node.body[0] = ast.Expr(ast.Constant("Another text."))
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)))


def messages(package: Path) -> None:
    """What every raised error says."""
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                node.exc.args = [ast.Constant("Another message.")]
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)))


def another_method(package: Path) -> None:
    """A new method with a file, its line in the lookup, and code of its own."""
    (package / "methods" / "dora.py").write_text("METHOD = attach = updates = export = 3\n")
    path = package / "methods" / "__init__.py"
    tree = ast.parse(path.read_text())
    (lookup,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and "METHODS" in ast.unparse(node).split("=")[0]
    ]
    assert isinstance(lookup, ast.Dict)
    lookup.keys.append(ast.Constant("dora"))
    lookup.values.append(ast.parse("dora.METHOD", mode="eval").body)
    tree.body.insert(1, ast.parse("from lorax_lab.methods import dora").body[0])
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)))


def unused(package: Path) -> None:
    path = package / "train.py"
    path.write_text(path.read_text() + "\n\ndef nobody_calls_this():\n    return 1\n")


def elsewhere(package: Path) -> None:
    for room in ("launch", "store", "console.py", "serve", "audit"):
        for path in [package / room] if room.endswith(".py") else (package / room).rglob("*.py"):
            path.write_text(path.read_text() + "\n\nNUMBER = 3\n")


NEUTRAL = [comment, reformat, docstrings, messages, another_method, unused, elsewhere]


@pytest.mark.parametrize("change", NEUTRAL, ids=lambda change: change.__name__)
def test_what_changes_no_number_leaves_the_version(change: Change, package: Path) -> None:
    before = version(package), version(package, FULL)
    change(package)
    assert (version(package), version(package, FULL)) == before


@pytest.mark.parametrize("room", ["data", "measure", "methods", "models", "spectra", "tasks", "train"])
def test_a_changed_number_moves_the_version(room: str, package: Path) -> None:
    """In every module that computes: one more in the first definition with a number that the run reaches."""
    before = version(package)
    shared, own = reached_symbols(package, LORA)
    symbols = [s for s in shared | own if s[0] == room or s[0].startswith(f"{room}.")]
    changed = 0
    for module in dict.fromkeys(module for module, _ in symbols):
        path = code._path(package, module)
        text, names = path.read_text(), {name for of, name in symbols if of == module}
        tree = ast.parse(text)
        for node in tree.body:
            if (
                isinstance(node, ast.FunctionDef | ast.ClassDef)
                and node.name in names
                and (numbers := numbers_in(node))
            ):
                numbers[0].value += 1
                path.write_text(ast.unparse(tree))
                assert version(package) != before, (module, node.name)
                numbers[0].value -= 1
                changed += 1
                break
        path.write_text(text)
    assert changed


def numbers_in(node: ast.AST) -> list[ast.Constant]:
    """Numbers that are no part of what an error says."""
    if isinstance(node, ast.Raise):
        return []
    own = [node] if isinstance(node, ast.Constant) and type(node.value) in (int, float) else []
    return [*own, *(number for part in ast.iter_child_nodes(node) for number in numbers_in(part))]


def test_a_methods_own_file_counts_for_its_runs_alone(package: Path) -> None:
    lora, full = version(package), version(package, FULL)
    assert shared_half(lora) == shared_half(full)
    assert lora != full
    own = {module for module, _ in reached_symbols(package, LORA)[1] - reached_symbols(package, FULL)[1]}
    (path, *_) = [code._path(package, module) for module in sorted(own) if module.startswith("methods.lora")]
    path.write_text(path.read_text().replace("torch.", "torch . sub.", 1))
    assert version(package) != lora
    assert shared_half(version(package)) == shared_half(lora)
    assert version(package, FULL) == full


def test_the_bridge_to_peft_counts_for_its_runs_alone(package: Path) -> None:
    dora = LORA | {"method": {"name": "peft/dora"}}
    before = {name: version(package, config) for name, config in (("lora", LORA), ("full", FULL), ("dora", dora))}
    assert len({shared_half(code) for code in before.values()}) == 1
    assert len(set(before.values())) == 3
    edit("methods/peft_factors.py", "merged.merge()", "merged.merge(True)")(package)
    assert version(package, dora) != before["dora"]
    assert (version(package), version(package, FULL)) == (before["lora"], before["full"])


def reached_symbols(package: Path, config: dict[str, object]) -> tuple[set[code.Symbol], set[code.Symbol]]:
    """What runs of every method reach, and what this one's choices add."""
    reached = code._Reached(package, frozenset(code._choices(config)))
    reached.follow([code.ROOT])
    shared = set(reached.texts)
    for (module, _), entries in dict(reached.entries).items():
        reached.follow(reached.targets(module, entries))
    return shared, reached.texts.keys() - shared


def test_every_room_that_computes_is_followed() -> None:
    modules = {module for module, _ in reached_symbols(PACKAGE, LORA)[0]}
    for room in code.ROOMS:
        assert any(module == room or module.startswith(f"{room}.") for module in modules), room


def test_a_run_that_is_compared_with_the_reference_counts_its_file(package: Path) -> None:
    alone, compared = LORA | {"reference": False}, LORA | {"reference": True}
    before = version(package, alone), version(package, compared)
    edit("methods/full.py", "- weight.double()", "- 2 * weight.double()")(package)
    assert (version(package, alone) == before[0], version(package, compared) == before[1]) == (True, False)


def test_only_the_settings_that_index_a_lookup_choose_its_entry(package: Path) -> None:
    for text in ("texts", "f1", "minilm", "full"):
        task = LORA["task"] | {"text": text, "metric": text}  # type: ignore[operator]
        assert version(package, LORA | {"model": text, "task": task}) == version(package)


def test_the_pins_of_fetched_files_do_not_count(package: Path) -> None:
    before = version(package)
    (package / "data" / "assets.py").write_text((package / "data" / "assets.py").read_text() + "\nNEW = 1\n")
    assert version(package) == before
