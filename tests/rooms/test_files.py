"""Files written whole: what reaches the disk before what, and what is never written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lorax_lab.errors import answer
from lorax_lab.record.files import SCRATCH, save_tensors, sha256_of, write_text
from lorax_lab.record.redact import HIDDEN, redact


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(handle: int) -> None:
        done.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{handle}')).name.split('.')[-1]}")
        fsync(handle)

    def watched_replace(source: Any, target: Any) -> None:
        assert Path(source).parent == Path(target).parent
        assert SCRATCH.fullmatch(Path(source).name)  # what a kill leaves is known by its name
        assert Path(source).read_text() == "text"
        done.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_text(tmp_path / "folder" / "file", "text")
    assert done[0].startswith("fsync ")
    assert done[0] != "fsync folder"
    assert done[1:] == ["replace", "fsync folder"]
    assert (tmp_path / "folder" / "file").stat().st_mode & 0o777 == 0o644


def test_tensors_come_back_and_hash_alike(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    tensors = {"a": shared[:3], "b": shared[1:4].view(3, 1), "c": torch.ones(2, dtype=torch.bfloat16)}
    for name in ("x", "y"):
        save_tensors(tmp_path / name, tensors)
    back = load_file(tmp_path / "x")
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert sha256_of(tmp_path / "x") == sha256_of(tmp_path / "y")


def test_keys_and_passwords_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai login me password from-the-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("MY_API_KEY", "the-long-key")
    monkeypatch.setenv("SOME_TOKEN", "the-long-key-and-more")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "disabled")
    monkeypatch.setenv("A_SECRET", "short")
    write_text(tmp_path / "file", "the-long-key the-long-key-and-more from-the-netrc disabled short")
    assert (tmp_path / "file").read_text() == f"{HIDDEN} {HIDDEN} {HIDDEN} disabled short"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hf_" + "aB3" * 8, HIDDEN),
        ("x ghp_" + "a1" * 15 + " y", f"x {HIDDEN} y"),
        ("AKIA" + "ABCD1234" * 2, HIDDEN),
        ("https://name:pass@host/path", f"https://{HIDDEN}@host/path"),
        ("https://host:80/a@b", "https://host:80/a@b"),
        ("minilm-movie_reviews-lora-r8-s0-1f0c9a77be", "minilm-movie_reviews-lora-r8-s0-1f0c9a77be"),
    ],
)
def test_what_looks_like_a_key_is_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_in_a_line(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> int:
        raise OSError(number, os.strerror(number))  # as `write` raises it: without the file's name

    assert answer(full) == 2
    assert capsys.readouterr().err.endswith(f"{os.strerror(number)}; make room, or name a place on another disk\n")
