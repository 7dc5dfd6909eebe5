"""Keys and passwords: none is printed, written or sent, and nothing else is hidden."""

import ast
import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TextIO

import pandas as pd
import pytest
from recorded import run_record
from shown import recorded, show

from lorax_lab.record import record
from lorax_lab.record.files import write_csv, write_json
from lorax_lab.record.folder import save_config, save_history
from lorax_lab.record.redact import HIDDEN, Redacting, redact, redacted

ROOT = Path(__file__).parents[2]
SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "HF_TOKEN": "a-token-of-no-known-form",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "GH_PAT": "ghp_" + "a1B2" * 9,
    "PGPASSWORD": "tr0ub4dor&3 battery",
}
TOKENS = [
    "hf_" + "Zz09" * 8, "wandb_v1_" + "a1" * 15, "ghp_" + "c3D4" * 9, "github_pat_" + "a1" * 20,
    "sk-proj-" + "Ab1_" * 9, "glpat-" + "Ab_-" * 5, "xoxb-1234567890-abcdef", "AIza" + "x" * 35,
    "ASIA" + "ABCD1234" * 2, f"eyJ{'a1' * 9}.eyJ{'b2' * 9}.{'c3-_' * 9}", "sk_live_" + "a1B2" * 6, "SG." + "Ab1_." * 12,
    f"-----BEGIN RSA PRIVATE KEY-----\n{'MIIE+/09' * 8}\n-----END RSA PRIVATE KEY-----", "ya29." + "Ab1_" * 9,
    "r8_" + "a" * 37, "nvapi-" + "Ab1_" * 9, "12345678:AA" + "Ab-_" * 8,
]  # fmt: skip


@pytest.fixture(autouse=True)
def _planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def seen(text: str) -> list[str]:
    return [secret for secret in SECRETS.values() if secret in text]


@pytest.mark.parametrize("secret", [*SECRETS.values(), *TOKENS])
def test_a_secret_is_hidden(secret: str) -> None:
    hidden = redact(f"before {secret}, KeyError('{secret}') after")
    assert hidden == f"before {HIDDEN}, KeyError('{HIDDEN}') after"
    assert redact(hidden) == hidden


def test_what_is_no_secret_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a variable's value is short, or its name only sounds like a key's."""
    monkeypatch.setenv("C_SECRET", "true")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "disabled")
    monkeypatch.setenv("MONKEYPATCH", "accuracy")
    text = f"commit {'f01c62bf' * 5}, disabled accuracy {__file__} true task-specific-words nats=2.30258509"
    assert redact(text) == text
    assert redacted({"a": (1, None, True, [text])}) == {"a": [1, None, True, [text]]}


def test_no_file_has_a_secret_and_its_numbers_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "12345678")
    text = " ".join(SECRETS.values())
    failed = run_record("a", status="failed", reason=text, error=text)
    failed.config["task"]["path"] = text
    record.write_record(tmp_path / "a", failed)
    record.write_record(tmp_path / "b", run_record("b", metrics={"train/loss": 12345678.0}))
    save_config(tmp_path / "a", {"path": text, "words": [text]})
    save_history(tmp_path / "a", [{"step": 12345678}])
    write_json(tmp_path / "c.json", {"r": 12345678, "base": text})
    write_csv(tmp_path / "d.csv", pd.DataFrame({"n": [12345678, 1], "text": [text, "a"]}))
    assert not seen("".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file()))
    assert record.read_record(tmp_path / "b").completed.metrics["train/loss"] == 12345678
    assert pd.read_csv(tmp_path / "d.csv")["n"].tolist() == [12345678, 1]


SAID = """
import logging, os, warnings
from lorax_lab.record.redact import guard
guard()
guard()
text = " ".join(os.environ.values())
warnings.warn(text)
logging.warning(text)
print(dict(os.environ))
raise ValueError(text)
"""


def test_warnings_logs_prints_and_uncaught_exceptions_hide_secrets() -> None:
    done = subprocess.run([sys.executable, "-c", SAID], capture_output=True, text=True, cwd=ROOT, env=dict(os.environ))
    assert done.returncode == 1
    assert all(word in done.stderr for word in ("UserWarning", "WARNING:root", "ValueError"))
    assert not seen(done.stdout + done.stderr)


def no_reader() -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


@pytest.mark.parametrize("opened", [partial(open, "/dev/full", "w"), no_reader], ids=["full disk", "closed pipe"])
def test_what_cannot_be_printed_is_dropped(opened: Callable[[], TextIO]) -> None:
    with opened() as stream:
        for _ in range(2):
            Redacting(stream).write("a line\n")


ENTRIES = [
    path
    for folder in ("lorax_lab", "analysis", "experiments")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if '__name__ == "__main__"' in path.read_text()
]


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_entry_guards_its_streams(path: Path) -> None:
    """The first thing that an entry does."""
    tree = ast.parse(path.read_text())
    assert "guard" in [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_wandb_is_sent_no_host_no_path_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte of what an offline run would send."""
    (tmp_path / "fake").mkdir()
    fake = 'import platform, socket\nsocket.gethostname = platform.node = lambda: "name-of-this-host"\n'
    (tmp_path / "fake" / "sitecustomize.py").write_text(fake)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'fake'}:{ROOT}")
    monkeypatch.setenv("HOME", str(tmp_path / "home-of-a-person"))
    monkeypatch.setenv("USER", "name-of-a-person")
    folder = recorded(tmp_path / "private-place")
    read = record.read_record(folder)
    task = {"name": "local", "source": "local", "path": str(tmp_path / "patients" / "table.csv")}
    places = {"model": str(tmp_path / "my-models" / "tiny"), "runs_dir": str(folder.parent), "task": task}
    note = {"note": " ".join(SECRETS.values())}
    record.write_record(folder, dataclasses.replace(read, config=read.config | places | note))
    show("offline", folder)
    (path,) = (folder.parent / "wandb").rglob("*.wandb")
    sent = path.read_bytes()
    assert b"table.csv" in sent
    names = ("name-of-this-host", "name-of-a-person", "home-of-a-person", "private-place", "patients", "my-models")
    forbidden = [str(tmp_path), *names, sys.executable, str(ROOT), *SECRETS.values()]
    assert not [word for word in forbidden if word.encode() in sent]
