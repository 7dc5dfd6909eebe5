"""Commands that the pages and the program print: where they stand, and whether the program accepts them.

Nothing is trained or fetched here. Overrides are composed, and a command that argparse reads stops once it is parsed.
"""

from __future__ import annotations

import argparse
import io
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RUN_OPTIONS = {"-m": 0, "--multirun": 0, "--dry-run": 0, "--config": 1, "--config-dir": 1, "--cfg": 1}
"""Options of `lorax_lab.run` and how many values each has; `--help` and `--version` end the command."""
ENTRIES = {
    "run": "lorax_lab.run",
    "audit": "lorax_lab.audit",
    "card": "lorax_lab.card",
    "memory": "lorax_lab.memory",
    "serve": "lorax_lab.serve",
    "sync": "lorax_lab.windows",
    "dashboard": "lorax_lab.windows",
    "figures": "analysis",
}
"""The module behind each sub-command of `lorax-lab`."""


class Parsed(BaseException):
    """The command line was read, and nothing else runs. `rest` holds the words that no option took."""

    def __init__(self, rest: list[str]) -> None:
        super().__init__()
        self.rest = rest


def accept(text: str) -> None:
    """Pass where the program accepts a command, as far as that shows without running it.

    Raises:
        AssertionError: no way of checking covers the command, or it names something that is not there.
        ConfigError, SystemExit: the program refuses it.
    """
    words = shlex.split(text)
    for start, check in CHECKS.items():
        if words[: len(start.split())] == start.split():
            return check(words[len(start.split()) :])
    raise AssertionError(f"no way of checking covers: {text}")


def accept_overrides(words: list[str]) -> None:
    """Compose the first and the last run of a sweep; nothing is looked up on the network."""
    from lorax_lab.config.overrides import expand
    from lorax_lab.launch.compose import spell_out

    jobs = expand(spell_out(words))
    for job in (jobs[0], jobs[-1]):
        _compose(tuple(job))


@cache
def _compose(job: tuple[str, ...]) -> None:
    from lorax_lab.launch.compose import compose

    compose(list(job))


def _module(words: list[str]) -> None:
    module, *arguments = words
    assert (ROOT / f"{module.replace('.', '/')}.py").exists() or (ROOT / module.replace(".", "/")).is_dir(), module
    MODULES.get(module, lambda rest: _parse(module, rest))(arguments)


def _run(arguments: list[str]) -> None:
    if {"--help", "--version"} & set(arguments):
        assert len(arguments) == 1, arguments
        return
    overrides, options = [], []
    while arguments:
        word, *arguments = arguments
        if not word.startswith("-"):
            overrides.append(word)
            continue
        assert word in RUN_OPTIONS, f"lorax_lab.run has no option {word}"
        options.append(word)
        assert len(arguments) >= RUN_OPTIONS[word], f"{word} has no value"
        arguments = arguments[RUN_OPTIONS[word] :]
    if "--config-dir" in options:
        overrides = [word for word in overrides if not word.startswith("+experiment=")]
    several = any(re.search(r"=[^\[{'\"]*,", word) for word in overrides)
    assert not several or "-m" in options, f"a sweep needs -m: {overrides}"
    if "--config" not in options:
        accept_overrides(overrides)


def _memory(arguments: list[str]) -> None:
    from lorax_lab.memory.__main__ import steps

    if arguments[:1] in (["--help"], ["--tables"]):
        assert len(arguments) == (1 if arguments == ["--help"] else 2)
        return
    steps([word for word in arguments if word != "-m"])


def _analysis(arguments: list[str]) -> None:
    """As argparse reads it; and a name is that of a figure, a folder that of a command which draws folders."""
    from analysis import __main__ as analysis

    first, *rest = arguments or [""]
    folders = getattr(analysis, "COMMANDS", {})
    if "FOLDER" in rest:
        assert first in folders, f"python -m analysis {first} draws no folder"
    elif first and not first.startswith("-") and first not in ("study", "verdict", *folders):
        assert first in analysis.FIGURES, first
    _parse("analysis", arguments)


def _parse(module: str, arguments: list[str]) -> None:
    """Run a module up to where argparse has read its arguments."""
    with pytest.MonkeyPatch.context() as patch, _parsing_only(), redirect_stdout(io.StringIO()):
        patch.setattr(sys, "argv", [module, *arguments])
        for loaded in (module, f"{module}.__main__"):
            patch.delitem(sys.modules, loaded, raising=False)
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except Parsed as parsed:
            rest = parsed.rest
        except SystemExit as end:
            if "--help" in arguments and not end.code:
                return
            raise AssertionError(f"python -m {module} {shlex.join(arguments)} is refused") from end
        else:
            raise AssertionError(f"python -m {module} ended without reading its arguments")
    assert all(re.fullmatch(r"[\w/.]+=.+", word) for word in rest), rest


@contextmanager
def _parsing_only() -> Iterator[None]:
    """Raise `Parsed` when the outermost parser is done."""
    depth = 0

    def stopping(original: Callable[..., Any]) -> Callable[..., Any]:
        def parse(*arguments: Any, **options: Any) -> Any:
            nonlocal depth
            depth += 1
            try:
                result = original(*arguments, **options)
            finally:
                depth -= 1
            if depth == 0:
                raise Parsed(result[1] if isinstance(result, tuple) else [])
            return result

        return parse

    parser = argparse.ArgumentParser
    with pytest.MonkeyPatch.context() as patch:
        for name in ("parse_args", "parse_known_args", "parse_intermixed_args", "parse_known_intermixed_args"):
            patch.setattr(parser, name, stopping(getattr(parser, name)))
        yield


def _make(targets: list[str]) -> None:
    """Each target is in the Makefile, and the commands of its recipe are accepted too."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in targets:
        recipe = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
        assert recipe, f"the Makefile has no target {target}"
        for line in recipe[1].splitlines():
            if line.startswith("\t$(PYTHON) "):
                accept(line.replace("\t$(PYTHON)", "python"))
            elif line.startswith("\t$(MAKE) "):
                _make([word for word in line.split()[1:] if word[0].isalpha()])


def _activate(words: list[str]) -> None:
    assert words == [".venv/bin/activate"]
    assert "VENV ?= .venv\n" in (ROOT / "Makefile").read_text(encoding="utf-8")


def _pip(words: list[str]) -> None:
    *options, package = words
    if words == ["lorax_lab"]:
        return
    of_us = not options and package.startswith("lorax_lab[")
    assert of_us or options in (["--editable"], ["-e"]), options
    extra = re.fullmatch(r"(?:\.|lorax_lab)\[(\w+)\]", package)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extra, package
    assert extra[1] in project["optional-dependencies"]


def _pytest(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    known = {marker.partition(":")[0] for marker in project["tool"]["pytest"]["ini_options"]["markers"]}
    options = re.findall(r'addoption\("(--[\w-]+)"', (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    arguments = [word for word in words if word not in options]
    assert not arguments or arguments[0] == "-m", words
    markers = set(re.findall(r"\w+", " ".join(arguments[1:]))) - {"not", "and", "or"}
    assert markers <= known, markers - known


def _file(words: list[str]) -> None:
    assert len(words) == 1
    assert (ROOT / words[0]).is_file(), words


def _ours(words: list[str]) -> None:
    if words in (["-sc", "install=bash"], ["--shell-completion", "install=bash"]):
        return
    assert words, "lorax-lab needs a sub-command"
    assert words[0] in ENTRIES, words
    _module([ENTRIES[words[0]], *(words if words[0] == "sync" else words[1:])])


def _eval(words: list[str]) -> None:
    inside = re.fullmatch(r"\$\((.*)\)", " ".join(words))
    assert inside, words
    accept(inside[1])


def _wandb(words: list[str]) -> None:
    assert words == ["leet", "runs/wandb"], words


MODULES = {"lorax_lab.run": _run, "lorax_lab.memory": _memory, "analysis": _analysis}
"""Entries of which argparse does not read everything."""
CHECKS: dict[str, Callable[[list[str]], None]] = {
    "python -m pip install": _pip,
    "python -m pytest": _pytest,
    "python -m ruff": lambda words: None,
    "python -m mypy": lambda words: None,
    "python -m": _module,
    "python": _file,
    "pip install": _pip,
    "lorax-lab": _ours,
    "eval": _eval,
    "make": _make,
    "source": _activate,
    "wandb": _wandb,
}
"""How a command is checked, by its first words."""
