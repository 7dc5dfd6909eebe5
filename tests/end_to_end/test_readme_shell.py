"""The commands and snippets of README.md and docs/ run as printed, from a fresh shell with the environment activated.

A command runs on a tiny model and table where it would fetch or train real ones. A long one runs its `--dry-run` or
`--help`. `SHELL` says so for each command, and a command that it does not cover is a failure.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import ROOT
from test_readme import EVERY, PAGES, README, blocks, commands, name

pytestmark = pytest.mark.slow
ACTIVATE = Path(sys.prefix) / "bin" / "activate"
RUN = "python -m lorax_lab.run "
CHOSEN = ("model=", "task=", "task.", "tracking=", "train.device=", "method.target_modules=")
"""Overrides for which the tiny ones stand in."""


class Place:
    """A folder that stands for the checkout: `.venv` in it, the tiny model and table, and what commands leave."""

    def __init__(self, folder: Path, small_run: list[str]) -> None:
        self.folder = folder
        self.small = [word for word in small_run if not word.startswith("runs_dir=")]
        (folder / ".venv").symlink_to(sys.prefix)
        torch.save({"q.lora_A": torch.randn(2, 8), "q.lora_B": torch.randn(8, 2)}, folder / "lora.bin")
        self.model = next(word for word in small_run if word.startswith("model=")).removeprefix("model=")

    def shell(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a line in a new shell that knows nothing but the activated environment."""
        kept = {key: os.environ[key] for key in ("OMP_NUM_THREADS", "LD_LIBRARY_PATH") if key in os.environ}
        fresh = kept | {"HOME": str(self.folder), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
        command = ["bash", "--noprofile", "--norc", "-c", f"source .venv/bin/activate && {text}"]
        return subprocess.run(command, cwd=self.folder, env=fresh, capture_output=True, text=True, timeout=500)

    def tiny(self, text: str, *more: str) -> str:
        """The same run on the tiny model and table."""
        words = [word for word in shlex.split(text) if not word.startswith(CHOSEN)]
        return shlex.join([*words, *self.small, *more])

    def run_folder(self, part: str) -> str:
        return str(next(self.folder.glob(f"runs/*{part}*/record.json")).parent.relative_to(self.folder))

    def audit(self, text: str) -> str:
        full, lora = self.run_folder("-full-"), self.run_folder("-lora-")
        text = text.replace("runs/minilm-movie_reviews-full-s0-*", "runs/*-full-s0-*").replace(" minilm ", " BASE ")
        return text.replace("BASE", self.model).replace("TUNED", full).replace("ADAPTER", lora)


def _same(place: Place, text: str) -> str:
    return text


def _ending(words: str) -> Callable[[Place, str], str]:
    return lambda place, text: f"{text} {words}"


def _help(place: Place, text: str) -> str:
    program = re.match(
        r"python -m analysis (audit|step|serving|cards)|python -m [\w.]+( sync)?|lorax-lab \w+|wandb leet", text
    )
    assert program
    return f"{program[0]} --help"


def _named(place: Place, text: str) -> str:
    return f"{text} -n -C {ROOT}"


def _again(place: Place, text: str) -> str:
    return text.replace("runs/RUN", place.run_folder("-full-"))


def _file(place: Place, text: str) -> str:
    experiment = place.folder / "my" / "experiment"
    experiment.mkdir(parents=True, exist_ok=True)
    (sweep,) = blocks(ROOT / "docs" / "sweeps.md", "yaml")
    (experiment / "ranks.yaml").write_text(sweep, encoding="utf-8")
    return f"{text} --dry-run"


def _dry(place: Place, text: str) -> str:
    return place.tiny(text, "--dry-run")


SHELL: list[tuple[str, Callable[[Place, str], str]]] = [
    (r"source \.venv/bin/activate", _same),
    (r"make (run|test|figures|lint|bench|(test-)?(all|faults|mutants))( \w+=\d+)*", _named),
    (r"python -m pip install .*", _ending("--dry-run --no-deps --no-build-isolation --no-index --help")),
    (r"python -m pytest -m faults --full", _ending(f"--collect-only --rootdir {ROOT} {ROOT}/tests")),
    (r"wandb leet runs/wandb", _help),
    (rf"{RUN}(--help|--version|--cfg job)", _same),
    (rf"{RUN}--config runs/RUN/config\.yaml", _again),
    (rf"{RUN}--config-dir my \+experiment=ranks -m", _file),
    (rf"{RUN}task=(tweets|glue/mrpc|org/name).*", lambda place, text: _help(place, text)),  # hub, or other labels
    (rf"{RUN}rank=4,8,16 -m", lambda place, text: place.tiny(text)),
    (rf"{RUN}.*--dry-run", lambda place, text: place.tiny(text)),
    (rf"{RUN}.*", _dry),
    (r"python -m lorax_lab\.store\.tracking sync runs", _ending("--mode offline")),
    (r"python -m lorax_lab\.store\.tracking sync runs --mode trackio", _same),
    (r"python -m lorax_lab\.dashboard --local", _help),  # it serves until it is ended
    (r"python -m lorax_lab\.dashboard.*", _ending(f"--pages {ROOT}/docs/study")),
    (r"python -m lorax_lab\.audit .*", lambda place, text: place.audit(text) + " --out AUDIT_{}"),
    (
        r"python -m lorax_lab\.card (runs/RUN|lora\.bin) .*",
        lambda place, text: f"{_again(place, text)} --out CARD_{{}}",
    ),
    (r"python -m lorax_lab\.card .*", _help),  # adapters and bases of the user's own
    (r"python -m lorax_lab\.memory --tables FOLDER", _help),  # minutes
    (r"python -m lorax_lab\.memory .*", _same),
    (r"python -m lorax_lab\.serve.*", _help),  # six real tasks
    (r"lorax-lab sync runs", _help),
    (r"lorax-lab -sc install=bash|eval .*", _same),
    (r"lorax-lab \w+ --help", _same),
    (r"python -m (analysis|lorax_lab\.\w+|experiments\.\w+) --help", _same),
    (r"python -m analysis (audit|step|serving|cards) \w+", _help),
    (r"python -m analysis (study|verdict)", _ending("--out STUDY --verdict VERDICT.md")),
    (r"python -m analysis\b.*", _same),
    (r"python -m experiments\.(equivalence rank_sweep|constants STUDY)", _help),
    (r"python -m experiments\.(vit|whisper)_base .*", _help),  # tests/rooms/test_bases.py trains both
    (r"python -m experiments\.\w+ (--dry-run|--help)", _same),
    (r"python -m experiments\.\w+.*", _ending("--dry-run")),
    (r"python -m benchmarks.*", _help),
]
"""How each command is run, by the first pattern that it matches."""


def how(command: str) -> Callable[[Place, str], str]:
    for pattern, change in SHELL:
        if re.fullmatch(pattern, command):
            return change
    raise AssertionError(f"SHELL does not say how this is run: {command}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, table_file: Path) -> Place:
    """Where the default sweep has run, on the tiny model and table."""
    if not ACTIVATE.exists():
        pytest.skip("the tests do not run in an environment that can be activated")
    small = [f"model={model_folder}", "task=local", f"task.path={table_file}", "task.text=sentence", "task.label=label"]
    small += ["task.train_examples=96", "task.validation_examples=64", "task.test_examples=64"]
    place = Place(tmp_path_factory.mktemp("checkout"), [*small, "train.device=cpu"])
    done = place.shell(place.tiny(f"{RUN}rank=4,8,16 -m tracking=offline"))
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.mark.parametrize("command", EVERY)
def test_every_command_runs_from_a_fresh_shell(command: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Sweeps that are only listed are read by the fast tests as well; of these each is run with --full."""
    if how(command) is _dry and command not in commands(README) and not request.config.getoption("--full"):
        pytest.skip("with --full")
    place = request.getfixturevalue("place")
    text = how(command)(place, command).replace("AUDIT_{}", shlex.quote(str(tmp_path / "audit")))
    text = text.replace("CARD_{}", shlex.quote(str(tmp_path / "card")))
    done = place.shell(text)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def test_without_the_environment_nothing_is_found(place: Place) -> None:
    """The activation is what makes the commands work, so the pages must ask for it."""
    done = subprocess.run(["/usr/bin/python3", "-S", "-c", "import rich"], capture_output=True, check=False)
    assert done.returncode != 0


@pytest.mark.parametrize(
    ("page", "snippet"), [(name(path), snippet) for path in PAGES for snippet in blocks(path, "python")]
)
def test_every_snippet_runs(page: str, snippet: str, place: Place) -> None:
    text = snippet.replace('"minilm"', repr(place.model)).replace('"minilm-*', '"*')
    done = place.shell(f"python -W error::FutureWarning -c {shlex.quote(text)}")
    assert done.returncode == 0, done.stderr
