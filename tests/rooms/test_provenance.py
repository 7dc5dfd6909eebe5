"""Where a record comes from: the checkout, the code, the machine, the versions."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from lorax_lab.record import provenance
from lorax_lab.record.provenance import FILES, HOME, ROOMS, code_sha256
from lorax_lab.record.result import Git


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the package's folder in it, in the place of the real one."""
    home = tmp_path / "lorax_lab"
    home.mkdir()
    (home / "__init__.py").write_text("")
    monkeypatch.setattr(provenance, "HOME", home)
    return home


def run_git(home: Path, *words: str) -> str:
    named = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(home), *named, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_and_whether_tracked_files_of_the_package_differ_from_it(checkout: Path) -> None:
    assert provenance.git() == Git(None, None)  # in no checkout
    run_git(checkout, "init", "-q")
    assert provenance.git() == Git(None, None)  # the package is not in it
    run_git(checkout, "add", ".")
    run_git(checkout, "commit", "-q", "-m", "one")
    commit = run_git(checkout, "rev-parse", "HEAD")
    assert provenance.git() == Git(commit, False)
    (checkout / "notes.txt").write_text("not tracked")
    (checkout.parent / "beside.txt").write_text("")
    assert provenance.git() == Git(commit, False)
    (checkout / "__init__.py").write_text("changed = 1")
    assert provenance.git() == Git(commit, True)


def test_the_code_is_one_hash_of_the_rooms_that_decide_numbers(tmp_path: Path) -> None:
    assert all((HOME / name).exists() for name in (*ROOMS, *FILES))
    assert provenance.versions(())["torch"] == torch.__version__

    def version(name: str, *texts: str) -> str:
        for number, text in enumerate(texts):
            for place in (f"spectra/file{number}.py", "train.py", "record/record.py"):
                path = tmp_path / name / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text if place.startswith("spectra") else "")
        return code_sha256(tmp_path / name)

    first = version("a", "x = 1\n", "y = 2\n")
    assert version("b", "x = 1\n", "y = 2\n") == first
    (tmp_path / "b" / "record" / "record.py").write_text("z = 1\n")  # it decides no number
    code_sha256.cache_clear()
    assert code_sha256(tmp_path / "b") == first
    others = [version("c", "x = 1\n", "y = 3\n"), version("d", "x = 1\ny = 2\n"), version("e", "y = 2\n", "x = 1\n")]
    assert len({first, *others}) == 4


def test_machines_are_compared_by_what_all_of_them_state() -> None:
    old, new = {"threads": 1, "device": "cpu"}, {"threads": 1, "device": "cpu", "blas": "mkl"}
    assert provenance.same_hardware([old, new, new]) == [["cpu", "torch", 1]] * 3
    assert provenance.same_hardware([new, new | {"blas": "openblas"}]) == [
        ["mkl", "cpu", "torch", 1], ["openblas", "cpu", "torch", 1],
    ]  # fmt: skip
    assert provenance.same_hardware([]) == []
    machines = provenance.same_hardware([old, old | {"kernel": "torch"}, old | {"kernel": "onednn"}])
    assert machines[0] == machines[1] != machines[2]  # torch's kernel was once the only one
