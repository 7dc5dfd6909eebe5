"""The version of the code: only what may change a number moves it, and other methods do not count."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lorax_lab.store import code
from lorax_lab.store.code import PACKAGE, code_sha256, shared_half

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
    """In every room that computes: of each number in a definition that the run reaches, one more."""
    before = version(package)
    reached = code._Reached(package, frozenset(code._strings(LORA)))
    reached.follow([code.ROOT])
    symbols = [s for s in reached.texts if s[0] == room or s[0].startswith(f"{room}.")]
    changed = 0
    for module in dict.fromkeys(module for module, _ in symbols):
        path = code._path(package, module)
        text, names = path.read_text(), {name for of, name in symbols if of == module}
        tree = code._Bare().visit(ast.parse(text))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name in names and (numbers := numbers_in(node)):
                numbers[0].value += 1
                path.write_text(ast.unparse(tree))
                assert version(package) != before, (module, node.name)
                numbers[0].value -= 1
                changed += 1
                break
        path.write_text(text)
    assert changed


def numbers_in(node: ast.AST) -> list[ast.Constant]:
    return [part for part in ast.walk(node) if isinstance(part, ast.Constant) and type(part.value) in (int, float)]


def test_a_methods_own_file_counts_for_its_runs_alone(package: Path) -> None:
    lora, full = version(package), version(package, FULL)
    assert shared_half(lora) == shared_half(full)
    assert lora != full
    own = own_modules(package, LORA) - own_modules(package, FULL)
    (path, *_) = [code._path(package, module) for module in sorted(own) if module.startswith("methods.lora")]
    path.write_text(path.read_text().replace("torch.", "torch . sub.", 1))
    assert version(package) != lora
    assert shared_half(version(package)) == shared_half(lora)
    assert version(package, FULL) == full


def own_modules(package: Path, config: dict[str, object]) -> set[str]:
    reached = code._Reached(package, frozenset(code._strings(config)))
    reached.follow([code.ROOT])
    shared = set(reached.texts)
    for (module, _), entries in dict(reached.entries).items():
        reached.follow(reached.targets(module, entries))
    return {module for module, name in reached.texts.keys() - shared}


def test_every_room_that_computes_is_followed() -> None:
    reached = code._Reached(PACKAGE, frozenset(code._strings(LORA)))
    reached.follow([code.ROOT])
    modules = {module for module, _ in reached.texts}
    for room in code.ROOMS:
        assert any(module == room or module.startswith(f"{room}.") for module in modules), room
