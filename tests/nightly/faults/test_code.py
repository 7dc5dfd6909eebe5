"""A killed run that changed code resumes begins anew and says so: in a clean checkout, in a dirty one, and in none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults
ROOT, HERE = Path(__file__).parents[3], Path(__file__).parent
TRAIN, RATE = "lorax_lab/train.py", 'settings["lr"] = rate'


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def committed(folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")


def dirty(folder: Path) -> None:
    committed(folder)
    (folder / TRAIN).write_text((folder / TRAIN).read_text() + "\n# a remark\n")


def edited(folder: Path) -> None:
    path = folder / TRAIN
    text = path.read_text()
    assert text.count(RATE) == 1
    path.write_text(text.replace(RATE, 'settings["lr"] = 3 * rate'))


def edited_and_committed(folder: Path) -> None:
    edited(folder)
    git(folder, "commit", "-qam", "second")


def lab(folder: Path, *overrides: str, kill: bool = False) -> subprocess.CompletedProcess[str]:
    """`python -m lorax_lab.run` of the copy, which is killed after its third step."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "HYDRA"))}
    path = f"{folder}{os.pathsep}{HERE}"
    kept |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    start = "import sys, runpy; sys.argv[0] = 'lorax_lab.run'\n"
    fault = "import faults; faults.kill_at_step(3)\n" if kill else ""
    run = f"{start}{fault}runpy.run_module('lorax_lab.run', run_name='__main__')"
    command = [sys.executable, "-c", run, *overrides]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=kept, timeout=300, start_new_session=True
    )


@pytest.mark.parametrize(
    ("prepare", "change", "refused"),
    [
        (committed, edited_and_committed, "git, code"),
        (committed, edited, "git, code"),
        (dirty, edited, "code"),
        (lambda folder: None, edited, "code"),
        (dirty, lambda folder: None, ""),
    ],
    ids=["clean to clean", "clean to dirty", "dirty to dirty", "outside git", "unchanged"],
)
def test_changed_code_begins_anew(
    prepare: object, change: object, refused: str, small_run: list[str], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    for part in ("lorax_lab", "conf"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    prepare(copy)  # type: ignore[operator]
    overrides = [*small_run, "rank=2", "reference=false", "checkpoint_seconds=0", "train.max_steps=5"]
    killed = lab(copy, *overrides, kill=True)
    assert killed.returncode == -9, killed.stdout + killed.stderr
    change(copy)  # type: ignore[operator]
    done = lab(copy, *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    said = f"is of another {refused}; training starts from the beginning"
    assert (said in " ".join(done.stdout.split())) == bool(refused)
    (metrics,) = tmp_path.glob("runs/*/metrics.jsonl")
    rates = [json.loads(line)["train/learning_rate"] for line in metrics.read_text().splitlines()]
    assert len(rates) == 5
    assert rates[0] == max(rates)
