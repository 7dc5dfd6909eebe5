"""Where a record comes from: the checkout, the machine, the versions."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch

from lorax_lab.store import provenance
from lorax_lab.store.record import Git


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


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.git() == Git(None, None)


def test_the_machine_in_words() -> None:
    found = provenance.hardware()
    assert set(found) == {"machine", "system", "processors", "threads", "device"}
    assert (found["processors"], found["threads"]) == (os.cpu_count(), torch.get_num_threads())


def test_a_package_that_is_not_installed_has_no_version() -> None:
    found = provenance.versions(("peft", "no-such-package"))
    assert found["torch"] == torch.__version__
    assert found["no-such-package"] is None
    assert set(found) == {"python", *provenance.PACKAGES, "peft", "no-such-package"}
