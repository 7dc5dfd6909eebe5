"""The version of the code that a run's numbers depend on: a hash of the definitions that the run can reach.

The sources are read, not run. From `execute` every name is followed into the rooms that compute: data, tasks, models,
methods, train, spectra, measure. Of `METHODS`, `KINDS` and `SOURCES` only the entries that the run uses are followed:
another method's file does not count. If an object is built, its whole class counts; if a module is passed on, the
whole module counts. Comments, docstrings, formatting, type-checking imports and the texts of raised errors are left
out.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
ROOMS = (
    "comparison", "data", "execute", "findings", "measure", "memory.ledger", "methods", "models", "spectra", "streams",
    "tasks", "train",
)  # fmt: skip
"""The rooms and modules whose definitions decide a record's numbers; the others plan, store, show and predict."""
FETCHED = ("data.assets", "data.archives")
"""What fetches files by their hashes: the hashes of model and data stand for it."""
INDEXED_BY = {"methods.METHODS": "method.name", "tasks.KINDS": "task.kind", "data.SOURCES": "task.source"}
"""The lookups of which a run uses one entry, and the setting that names it. Any other lookup counts as a whole."""
REFERENCE = "the reference"
"""Stands for the key of the method that the others are compared with."""
ROOT = ("execute", "execute")
HALF = 32
"""Hex digits of each half of the hash."""

Symbol = tuple[str, str]
"""A module inside the package and a name at its top; the name `*` is its statements that define nothing."""


def code_sha256(config: Mapping[str, Any], package: Path = PACKAGE) -> str:
    """The version of the code that a run of this configuration depends on, 64 hex digits.

    The first half covers the code that runs of every method, kind and source reach. The second half covers the code
    that this configuration adds. Two records with the same first half were made by the same shared code. Two records
    with the same hash were made by the same code.

    Args:
        config: as a record or a published line has it.
        package: the folder of the sources.
    """
    return _hashes(frozenset(_choices(config)), package)


def shared_half(code: str) -> str:
    """The part of a version that runs of every method, kind and source have in common."""
    return code[:HALF]


@lru_cache(maxsize=256)
def _hashes(choices: frozenset[tuple[str, str]], package: Path) -> str:
    reached = _Reached(package, choices)
    reached.follow([ROOT])
    shared = dict(reached.texts)
    while reached.entries:
        waiting, reached.entries = reached.entries, {}
        for (module, name), entries in waiting.items():
            reached.texts[module, f"{name}[]"] = _plain(entries)
            reached.follow(reached.targets(module, entries))
    own = {symbol: text for symbol, text in reached.texts.items() if symbol not in shared}
    return _digest(shared)[:HALF] + _digest(own)[:HALF]


def _digest(texts: Mapping[Symbol, str]) -> str:
    lines = "".join(f"{module}:{name}:{text}\n" for (module, name), text in sorted(texts.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _choices(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The lookups of `INDEXED_BY`, each with the key that the configuration names; a run that is compared with the
    reference uses that method's entry too."""
    for lookup, setting in INDEXED_BY.items():
        section, _, key = setting.partition(".")
        yield lookup, str(config[section][key])
    if config.get("reference") and config.get("measure") != "trial":
        yield "methods.METHODS", REFERENCE


@dataclass
class _Reached:
    """The definitions that were reached: their texts, and the entries of lookups that the choices pick."""

    package: Path
    choices: frozenset[tuple[str, str]]
    texts: dict[Symbol, str] = field(default_factory=dict)
    entries: dict[Symbol, list[ast.expr]] = field(default_factory=dict)

    def follow(self, symbols: list[Symbol]) -> None:
        """Reach these, and all that they use."""
        waiting = list(symbols)
        while waiting:
            module, name = waiting.pop()
            if (module, name) in self.texts:
                continue
            waiting.append((module, "*"))
            source = _source(self.package, module)
            nodes = source.statements if name == "*" else source.definitions[name]
            if chosen := self._chosen(module, name, nodes):
                self.texts[module, name] = "lookup"
                self.entries[module, name] = chosen
            else:
                self.texts[module, name] = _text(tuple(nodes)) + self._bindings(module, nodes)
                waiting += self.targets(module, nodes)

    def targets(self, module: str, nodes: list[Any]) -> list[Symbol]:
        """The symbols in the rooms that count which these nodes use."""
        return [symbol for node in nodes for symbol in self._uses(module, node)]

    def _uses(self, module: str, node: ast.AST) -> Iterator[Symbol]:
        bindings = _source(self.package, module).imports | _imports(node)
        seen: set[int] = set()
        for part in _names(node):
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in bindings:
                target = bindings[part.value.id]
                if _is_module(self.package, target):
                    seen.add(id(part.value))
                    yield from self._resolve(f"{target}.{part.attr}")
            elif isinstance(part, ast.Name) and id(part) not in seen:
                if part.id in bindings:
                    yield from self._resolve(bindings[part.id])
                elif part.id in _source(self.package, module).definitions:
                    yield module, part.id

    def _resolve(self, target: str) -> Iterator[Symbol]:
        """The symbol that a dotted name inside the package stands for; every one of a module that is named whole."""
        if _is_module(self.package, target):
            if _counts(target):
                yield from ((target, name) for name in _source(self.package, target).definitions)
            return
        module, _, name = target.rpartition(".")
        if not _is_module(self.package, module):
            return
        source = _source(self.package, module)
        if name in source.imports and name not in source.definitions:
            yield from self._resolve(source.imports[name])
        elif _counts(module) and name in source.definitions:
            yield module, name

    def _bindings(self, module: str, nodes: list[Any]) -> str:
        """What the imported names in these nodes stand for."""
        names = {part.id for node in nodes for part in _names(node) if isinstance(part, ast.Name)}
        source = _source(self.package, module)
        known = source.foreign | source.imports
        for node in nodes:
            known |= _foreign(node) | _imports(node)
        return ",".join(f"{name}={known[name]}" for name in sorted(names & known.keys()))

    def _chosen(self, module: str, name: str, nodes: list[Any]) -> list[ast.expr]:
        """The entries that the run uses of a lookup; nothing where it is none of `INDEXED_BY`."""
        keys = {key for lookup, key in self.choices if lookup == f"{module}.{name}"}
        value = getattr(nodes[0], "value", None) if nodes else None
        if not keys or not isinstance(value, ast.Dict):
            return []
        names = [getattr(key, "value", None) for key in value.keys]
        elsewhere = keys - {
            *names,
            REFERENCE,
        }  # the entries of a room's own lookup, `**peft_bridge.METHODS`, have no names
        return [
            entry
            for name, entry in zip(names, value.values, strict=True)
            if name in keys or (name is None and elsewhere) or (REFERENCE in keys and self._is_reference(module, entry))
        ]

    def _is_reference(self, module: str, entry: ast.expr) -> bool:
        """Whether a method's entry is defined with `is_reference=True`."""
        for home, name in self.targets(module, [entry]):
            for node in _source(self.package, home).definitions[name]:
                keywords = [part for part in ast.walk(node) if isinstance(part, ast.keyword)]
                if any(word.arg == "is_reference" and getattr(word.value, "value", False) for word in keywords):
                    return True
        return False


@dataclass(frozen=True)
class _Source:
    """A module: its definitions by name, other statements, and what its imported names stand for."""

    definitions: dict[str, list[ast.stmt]]
    statements: list[ast.stmt]
    imports: dict[str, str]
    """A module of this package, by its name relative to it."""
    foreign: dict[str, str]


@lru_cache(maxsize=1024)
def _source(package: Path, module: str) -> _Source:
    return _parsed(_path(package, module).read_text(encoding="utf-8"))


@lru_cache(maxsize=1024)
def _parsed(text: str) -> _Source:
    tree = _Bare().visit(ast.parse(text))
    definitions: dict[str, list[ast.stmt]] = {}
    statements, imports, foreign = list[ast.stmt](), dict[str, str](), dict[str, str]()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= _imports(node)
            foreign |= _foreign(node)
        elif names := _defined(node):
            for name in names:
                definitions.setdefault(name, []).append(node)
        else:
            statements.append(node)
    return _Source(definitions, statements, imports, foreign)


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]


def _path(package: Path, module: str) -> Path:
    path = package.joinpath(*module.split(".")) if module else package
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@lru_cache(maxsize=4096)
def _is_module(package: Path, module: str) -> bool:
    return bool(module) and _path(package, module).is_file()


def _counts(module: str) -> bool:
    return module not in FETCHED and any(module == room or module.startswith(f"{room}.") for room in ROOMS)


@lru_cache(maxsize=8192)
def _names(node: ast.AST) -> tuple[ast.AST, ...]:
    """The parts of a syntax tree that name something, the outer ones first."""
    return tuple(p for p in ast.walk(node) if isinstance(p, ast.Name | ast.Attribute | ast.Import | ast.ImportFrom))


def _bound(node: ast.AST) -> Iterator[tuple[str, str]]:
    for part in _names(node):
        if isinstance(part, ast.ImportFrom) and part.module and not part.level:
            yield from ((alias.asname or alias.name, f"{part.module}.{alias.name}") for alias in part.names)
        elif isinstance(part, ast.Import):
            for alias in part.names:
                first = alias.name.split(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (first, first)


def _imports(node: ast.AST) -> dict[str, str]:
    """Local names of this package's modules and symbols, each with its dotted name inside the package."""
    own = f"{PACKAGE.name}."
    return {name: target.removeprefix(own) for name, target in _bound(node) if target.startswith(own)}


def _foreign(node: ast.AST) -> dict[str, str]:
    return {name: target for name, target in _bound(node) if not target.startswith(f"{PACKAGE.name}.")}


class _Bare(ast.NodeTransformer):
    """Drops what changes no number: docstrings, type-checking imports, what errors say."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        checking = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if checking else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            return ast.Raise(node.exc.func, None)
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return ast.Assert(node.test, None)


@lru_cache(maxsize=4096)
def _text(nodes: tuple[ast.stmt, ...]) -> str:
    return _plain(list(nodes))


def _plain(node: Any) -> str:
    """A syntax tree as text that all versions of Python give alike: no positions, nothing empty, no imports."""
    if isinstance(node, list):
        return "[" + ",".join(_plain(part) for part in node if not isinstance(part, ast.Import | ast.ImportFrom)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(key, value) for key, value in ast.iter_fields(node) if value not in (None, []) and key != "ctx"]
    return f"{type(node).__name__}({','.join(f'{key}={_plain(value)}' for key, value in fields)})"
