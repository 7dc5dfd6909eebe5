"""README.md and docs/: short, linked, in short sentences, and every command and snippet in them is accepted.

That the commands also run as printed, from a fresh shell, is shown by `test_readme_shell.py`.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
from commands import ROOT, accept

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS, ROOT / "benchmarks" / "README.md"]
LONGEST, MEAN = 130, 20
"""Lines of README.md; words of a page's mean sentence."""
NAV = "[lorax_lab](../README.md) · "


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language; commands have none."""
    text = path.read_text(encoding="utf-8")
    return [body for kind, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if kind == language]


def commands(path: Path) -> list[str]:
    """Each command of the page's blocks, without the lines of comments."""
    lines = [line for block in blocks(path, "") for line in block.splitlines()]
    return [line for line in lines if line.strip() and not line.startswith("#")]


def inline(path: Path) -> list[str]:
    """The commands that stand in a sentence; one that is only named is checked by its --help."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    spans = (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text))
    found = [span for span in spans if re.match(r"python -m |python tests|make |lorax-lab ", span)]
    named = re.compile(r"python -m [\w.]+|lorax-lab \w+")
    return [f"{c} --help" if named.fullmatch(c) else c for c in found if not re.search(r"…|\bNAME\b", c)]


EVERY = list(dict.fromkeys(command for path in PAGES for command in [*commands(path), *inline(path)]))


def prose(text: str) -> list[str]:
    """The sentences of a page, without code, tables, headings and the targets of links; a code span is one word."""
    text = re.sub(r"^```.*?^```$", "", text.partition("<!-- results -->")[0], flags=re.M | re.S)
    text = re.sub(r"^(\||#|!\[|\[lorax_lab\]).*$", "", text, flags=re.M)
    text = re.sub(r"`[^`]*`", "Code", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("*", "")
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:-|\d+\.) )", text)
    sentences = [s for p in paragraphs for s in re.split(r"(?<=[.!?:])\s+(?=[A-Z\"(])", " ".join(p.split()))]
    return [s for s in sentences if len(s.split()) > 1]


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# ---- the pages


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_sentences_are_short(path: Path) -> None:
    lengths = [len(sentence.split()) for sentence in prose(path.read_text(encoding="utf-8"))]
    assert sum(lengths) / len(lengths) < MEAN


def test_sentences_are_counted() -> None:
    text = "# Two\n\nOne two three. Four `a b c` [six](x/y.md).\n\n| no | no |\n\n- seven eight\n  nine\n"
    assert [len(sentence.split()) for sentence in prose(text)] == [3, 3, 4]


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_and_pictures_exist(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        there = path.parent / file if file else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("path", DOCS, ids=name)
def test_every_page_is_found_from_every_page(path: Path) -> None:
    """README.md and the index name it, and its first line leads back to both."""
    assert path.read_text(encoding="utf-8").startswith(NAV)
    if path.name != "README.md":
        assert f"({path.name})" in (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
        assert f"(docs/{path.name})" in README.read_text(encoding="utf-8")


def test_the_house_page_names_every_room() -> None:
    tree = blocks(ROOT / "docs" / "house.md", "text")[0]
    paths, parent = set(), ""
    for line in tree.splitlines():
        indent, entry = re.match(r"( *)(\S+)", line).groups()  # type: ignore[union-attr]
        parent = parent if indent else entry
        paths.add(parent + entry if indent else entry)
    assert not [path for path in paths if not (ROOT / path).exists()]
    library = [
        path for path in (ROOT / "lorax_lab").iterdir() if not path.name.startswith("__") and path.name != "conf"
    ]
    rooms = {f"lorax_lab/{path.name}{'/' if path.is_dir() else ''}" for path in library}
    assert rooms - paths == set()


def test_the_tests_that_the_reliability_page_names_exist() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    starts = re.findall(r"`(test_\w+)…?`", text)
    assert starts
    assert not [start for start in starts if f"def {start}" not in code]
    assert not [path for path in re.findall(r"`(\w+/[\w/]+\.py)`", text) if not (ROOT / path).is_file()]


# ---- the commands


@pytest.mark.parametrize("command", EVERY)
def test_every_command_is_accepted(command: str) -> None:
    accept(command)


@pytest.mark.parametrize("command", EVERY)
def test_every_command_means_the_same_in_every_shell(command: str) -> None:
    """zsh, the shell of macOS, passes a comment on as arguments, and refuses brackets that match no file."""
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", command)
    assert not set("#[]{}?") & set(bare)
    assert shlex.split(command)


WRONG = """
python -m lorax_lab.run rnak=8
python -m lorax_lab.run rank=4,8
make tset
python -m lorax_lab.audit --tpo 3 a b
python -m analysis --rusn runs
python -m lorax_lab.nothing
python -m analysis memory FOLDER
rm -r runs
python -m lorax_lab.memory modle=llama-2-7b
lorax-lab trian
python -m experiments.rank_sweep --bugdet
"""


@pytest.mark.parametrize("command", WRONG.strip().splitlines())
def test_a_wrong_command_is_refused(command: str) -> None:
    with pytest.raises((AssertionError, ValueError, SystemExit)):
        accept(command)


# ---- the snippets


@pytest.mark.parametrize(
    ("page", "snippet"), [(name(path), snippet) for path in PAGES for snippet in blocks(path, "python")]
)
def test_every_name_that_a_snippet_imports_exists(page: str, snippet: str) -> None:
    for node in ast.walk(ast.parse(snippet)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
