"""README.md and docs/: every link leads somewhere, every command is one that the program takes, and those of the first
screen run as printed, on a tiny model, from a fresh shell."""

import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from here import expand

from lorax_lab.launch.compose import compose, spell_out

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", *DOCS, ROOT / "benchmarks" / "README.md"]
WRITTEN = [ROOT / "analysis" / "VERDICT.md", *sorted((ROOT / "docs" / "study").glob("*/VERDICT.md"))]
"""The pages that commands write."""
LONGEST_PAGE, LONGEST, OFTEN, MEAN = 130, 30, 25, 15
"""Lines of README.md; words of a page's longest sentence, of 95 in 100, and in the mean."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language; commands have none."""
    text = path.read_text(encoding="utf-8")
    return [body for kind, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if kind == language]


def commands(path: Path) -> list[str]:
    """Each command of the page's blocks."""
    lines = [line for block in blocks(path, "") for line in block.splitlines()]
    return [line for line in lines if line.startswith(("python ", "make ", "lorax-lab "))]


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sentences(text: str) -> list[list[str]]:
    """The words of each sentence, without intervals; not of code, tables, headings, pictures, or what was declared."""
    text = re.sub(r"^```.*?^```$|<details>.*?</details>|^[|!#].*?$", "", text, flags=re.M | re.S)
    text = re.sub(r"\]\([^)]*\)|\[[−\-+.\d, ]+\]", "", text)
    parts = re.split(r"(?<=[.?!:])\**\s+|\n\s*\n|^\s*- ", text, flags=re.M)
    return [words for part in parts if (words := part.split())]


@pytest.mark.parametrize("path", [*PAGES, ROOT / "LOG.md", *WRITTEN], ids=name)
def test_sentences_are_short(path: Path) -> None:
    of_page = sentences(path.read_text(encoding="utf-8"))
    lengths = sorted(map(len, of_page))
    assert lengths[-1] <= LONGEST, " ".join(max(of_page, key=len))
    assert lengths[int(0.95 * len(lengths))] <= OFTEN
    assert sum(lengths) / len(lengths) <= MEAN


@pytest.mark.parametrize("path", [*PAGES, *WRITTEN], ids=name)
def test_links_and_pictures_exist(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            file, _, anchor = target.partition("#")
            there = path.parent / file if file else path
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


def test_every_page_is_found_from_the_readme_or_the_index() -> None:
    pages = README.read_text(encoding="utf-8") + (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert not [path.name for path in DOCS if path.name != "README.md" and f"{path.name})" not in pages]


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LONGEST_PAGE


def test_the_house_page_names_every_room() -> None:
    tree = blocks(ROOT / "docs" / "house.md", "text")[0]
    rooms = {entry.name for entry in (ROOT / "lorax_lab").iterdir() if entry.suffix == ".py" or (entry.is_dir())}
    named = {line.split()[0].rstrip("/") for line in tree.splitlines()}
    assert rooms - named <= {"__init__.py", "__pycache__", "conf"}
    assert named <= {path.name for folder in (ROOT, ROOT / "lorax_lab", ROOT / "analysis") for path in folder.iterdir()}


@pytest.mark.parametrize("command", dict.fromkeys(command for path in PAGES for command in commands(path)))
def test_every_command_is_one_that_the_program_takes(command: str) -> None:
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        assert {word for word in words[1:] if "=" not in word} <= set(targets)
    elif words[:3] == ["python", "-m", "lorax_lab.run"]:
        overrides = [
            word
            for word in words[3:]
            if "=" in word and not word.startswith(("-", "experiment=", "hydra/sweeper=")) and "interval(" not in word
        ]
        for job in {tuple(job) for job in expand(spell_out(overrides))} if "--config" not in words else ():
            compose(list(job))
    else:
        assert words[0] == "python", words
        assert importlib.util.find_spec(words[2]) or words[1] != "-m", words


@pytest.mark.parametrize(
    ("page", "snippet"), [(name(path), snippet) for path in PAGES for snippet in blocks(path, "python")]
)
def test_every_name_that_a_snippet_imports_exists(page: str, snippet: str) -> None:
    for node in ast.walk(ast.parse(snippet)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]


@pytest.mark.slow
def test_the_first_screen_runs_from_a_fresh_shell(tmp_path: Path, small_run: list[str]) -> None:
    """The sweep of `make run` and what the README types after it, on the tiny model and table."""
    activate = Path(sys.prefix) / "bin" / "activate"
    if not activate.exists():
        pytest.skip("the tests do not run in an environment that can be activated")
    tiny = [word for word in small_run if not word.startswith(("runs_dir=", "tracking="))]
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def shell(line: str) -> str:
        script = ["bash", "--noprofile", "--norc", "-c", f"source {shlex.quote(str(activate))} && {line}"]
        done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    sweep, figures, *_ = re.findall(r"^\t\$\(PYTHON\) (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert f"python {sweep}" in README.read_text(encoding="utf-8")
    shell(f"python {sweep} {shlex.join(tiny)} tracking=offline")
    again = shell(f"python {sweep} {shlex.join(tiny)} tracking=offline")
    assert "4 of 4 already recorded" in again
    typed = [line for line in commands(README) if re.match(r"python -m (analysis|lorax_lab\.windows sync)\b", line)]
    for line in [f"python {figures}", *typed]:
        shell(line if "sync" not in line else f"{line} --mode offline")
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert list((tmp_path / "figures").glob("*.png"))
    assert list((tmp_path / "runs" / "wandb").iterdir())
