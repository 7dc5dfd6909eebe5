"""Keys and passwords: none is shown or written, in whatever form, and nothing else is hidden."""

from __future__ import annotations

import ast
import base64
import dataclasses
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pytest
import torch
from recorded import run_record
from rich.table import Table
from shown import recorded, show
from synthetic import study

import lorax_lab.console
from lorax_lab.config.checks import require_path
from lorax_lab.data import images, sounds
from lorax_lab.data.table import printable, shown
from lorax_lab.errors import ConfigError, in_short
from lorax_lab.launch.leases import Lease, acquire
from lorax_lab.methods.peft_files import number
from lorax_lab.record import record
from lorax_lab.record.checkpoints import Checkpoints, Position, _checksum, _facts
from lorax_lab.record.files import write_csv
from lorax_lab.record.folder import read_history, save_config, save_history, save_trained
from lorax_lab.record.output import Redacting, guard
from lorax_lab.record.redact import HIDDEN, redact, redacted
from lorax_lab.study.published import read_lines, write_lines

ROOT = Path(__file__).parents[2]
SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "HF_TOKEN": "hf_" + "Zz09" * 8,
    "KAGGLE_KEY": "d41d8cd98f00b204e9800998ecf8427e",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "GH_PAT": "ghp_" + "a1B2" * 9,
    "OPENAI_KEY": "sk-proj-" + "Ab1_" * 10,
    "SLACK_WEBHOOK": "https://hooks.slack.com/services/T00000000/B11111111/abcdEFGH1234",
    "SLACK_BOT_TOKEN": "xoxb-1234567890-abcdefGHIJ",
    "GITLAB_PAT": "glpat-" + "x7Yz" * 5,
    "GOOGLE_KEY": "AIza" + "Sy0-" * 9,
    "SESSION_JWT": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLXBhcnQ",
    "PGPASSWORD": "tr0ub4dor&3 it's ü",
    "SENTRY_DSN": "https://0a1b2c3d4e5f60718293a4b5c6d7e8f9@sentry.io/1",
    "MY_SECRET": "swordfish",
    "DATABASE_URL": "postgres://lab:s3cr3tpassw0rd@db:5432/x",
    "STORAGE": "https://me:p%40ss-w0rd@files",
    "AZURE_CONNECTION_KEY": "AccountName=lab;AccountKey=bGFiLWtleS0wMTIzNDU2Nzg5;End=x",
    "BUS": "Endpoint=sb://lab/;SharedAccessKeyName=RootManage;SharedAccessKey=YnVzLWtleS0wMTIzNDU2Nzg5YQ==",
    "ODBC": "Server=lab;UID=me;PWD=correct, horse 'battery';Encrypt=yes",
    "OPTIONS": "--api-key='swordfish-of-options' --key=sentence1",
}
NEEDLES = SECRETS | {
    "SENTRY_DSN": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "DATABASE_URL": "s3cr3tpassw0rd",
    "STORAGE": "p%40ss-w0rd",
    "AZURE_CONNECTION_KEY": "bGFiLWtleS0wMTIzNDU2Nzg5",
    "BUS": "YnVzLWtleS0wMTIzNDU2Nzg5YQ==",
    "ODBC": "correct, horse 'battery'",
    "OPTIONS": "swordfish-of-options",
}
"""What of each variable must not be seen."""


@pytest.fixture(autouse=True)
def _planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def seen(text: str) -> list[str]:
    return [name for name, needle in NEEDLES.items() if needle in text]


SHOWN = {
    "as it is": lambda s: s,
    "in an address": lambda s: f"https://x/?q={quote(s, safe='')}",
    "with small codes": lambda s: re.sub("%..", lambda code: code[0].lower(), quote(s, safe="")),
    "basic authentication": lambda s: base64.b64encode(f"user:{s}".encode()).decode(),
    "base64 after one letter": lambda s: base64.b64encode(f"x{s}y".encode()).decode(),
    "base64 for addresses": lambda s: base64.urlsafe_b64encode(f"xy{s}".encode()).decode(),
    "a repr": repr,
    "JSON": json.dumps,
    "a shell's word": shlex.quote,
    "an exception": lambda s: f"KeyError({s!r}): {[s, {'a': s}]}",
}


@pytest.mark.parametrize("form", SHOWN)
def test_every_form_of_a_secret_is_hidden(form: str) -> None:
    for name, secret in SECRETS.items():
        needle = NEEDLES[name]
        shown = SHOWN[form](needle)
        hidden = redact(f"before {shown} after")
        assert hidden.startswith("before ")
        assert hidden.endswith(" after")
        if secret != "swordfish" or not form.startswith("bas"):  # a plain word is only found by itself
            assert shown not in hidden, (name, form)
            assert HIDDEN in hidden
            assert redact(hidden) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "commit f01c62bfed53523f61533572f5abcee93a7d46ea, dirty",
        '"commit": "f01c62bfed53523f61533572f5abcee93a7d46ea"',
        "org/name@f01c62bfed53523f61533572f5abcee93a7d46ea",
        "/cache/models--x/snapshots/f01c62bfed53523f61533572f5abcee93a7d46ea/config.json",
        "data " + "0f" * 32,
        "minilm-glue-mrpc-lora-r8-s0-1f0c9a77be, task-specific-representations-of-words, nats_per_token=2.30258509",
        "validation accuracy .81 disabled classification movie_reviews password=correct",
        "22719376 parameters, 1795687588.014782 s",
        "basic training, Basic fine-tuning-of-model-7b and basic classification2; bearer representations-of-level-2",
        "basic Llama-3.1-8B-Instruct, basic sentiment140-1600000-tweets, basic 12345678",
        "https://lab/table?key=sentence1&x=1 https://lab/table?a=1&key=movie-reviews-2024 RootManage",
        "https://huggingface.co/org/name/resolve/f01c62bfed53523f61533572f5abcee93a7d46ea/config.json",
        "https://codeload.github.com/org/name/archive/f01c62bfed53523f61533572f5abcee93a7d46ea.zip",
        "present_commit: f01c62bfed53523f61533572f5abcee93a7d46ea",
    ],
)
def test_what_is_no_secret_stays(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a variable's value is a word of the lab's, short, or a path."""
    for name, value in {"A_KEY": "accuracy", "B_TOKEN": "movie_reviews", "C_SECRET": "true", "D_KEY": "22719"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SSH_AUTH_FILE", __file__)
    assert redact(text) == text
    assert redact(__file__) == __file__


@pytest.mark.parametrize(
    "key",
    [
        "deadbeef" * 5, "xapp-1-A0123-456789-abcdef", "glpat-" + "Ab_-" * 5, "AIza" + "x" * 35, "sk_live_" + "a1" * 12,
        "npm_" + "a1" * 18, "gsk_" + "a1" * 20, "ASIA" + "ABCD1234" * 2, "github_pat_" + "a1" * 20,
        "ya29.a0AfH6SM-" + "x" * 20,
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----",
    ],
)  # fmt: skip
def test_a_well_known_services_key_is_hidden_without_a_variable(key: str) -> None:
    assert redact(f"bad key {key} given") == f"bad key {HIDDEN} given"
    assert redact(f"key={key}, {key}") == f"key={HIDDEN}, {HIDDEN}"


@pytest.mark.parametrize(
    ("before", "key", "after"),
    [
        ("Authorization: Basic ", "dXNlcjpwYXNz", ""),
        ("{'authorization': 'Bearer ", "opaque-token", "'}"),
        ("it sent Basic ", "dXNlcjpwYXNzd29yZA==", "."),
        ("it sent basic ", "bGFiOmh1bnRlcg", ", and"),
        ("it sent Bearer ", "4f3c9a1b7e2d4f3c9a1b", ""),
        ("it sent Bearer ", "550e8400-e29b-41d4-a716-446655440000", ""),
        ("https://lab/x?key=", "4f3c9a1b7e2d4f3c9a1b", "&a=1"),
        ("https://lab/x?a=1&key=", "Ab_1-" * 7, "#a"),
        ("Endpoint=sb://lab/;SharedAccessKey=", "bGFiLWtleS0wMTIzNDU2Nzg5", ";x"),
        ("https://huggingface.co/org/name?x=", "f01c62bfed53523f61533572f5abcee93a7d46ea", ""),
    ],
)
def test_what_stands_where_a_key_does_is_hidden(before: str, key: str, after: str) -> None:
    assert redact(before + key + after) == before + HIDDEN + after
    assert redact(before + HIDDEN + after) == before + HIDDEN + after


def test_the_console_hides_before_it_breaks_lines() -> None:
    page = io.StringIO()
    console = lorax_lab.console.Console(file=page, width=30)
    table = Table(title=SECRETS["KAGGLE_KEY"])
    table.add_column("a")
    for secret in SECRETS.values():
        table.add_row(secret)
        console.print(f"it is {secret}", markup=False)
        console.print(f"[bold]it is[/bold] {NEEDLES['GH_PAT']}")
    console.print(table)
    joined = "".join(page.getvalue().replace("│", "").split())
    assert not [name for name, needle in NEEDLES.items() if "".join(needle.split()) in joined]
    assert not [needle for needle in NEEDLES.values() if needle[:20] in page.getvalue() and len(needle) > 24]
    assert HIDDEN in page.getvalue()


def test_the_streams_hide_what_is_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = io.StringIO()
    stream = Redacting(inner)
    for letter in f"a {NEEDLES['GH_PAT']} b\n{NEEDLES['KAGGLE_KEY']}":
        stream.write(letter)
    assert inner.getvalue() == f"a {HIDDEN} b\n"
    stream.flush()
    assert inner.getvalue() == f"a {HIDDEN} b\n{HIDDEN}"
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    guard()
    guard()
    assert isinstance(sys.stderr, Redacting)
    assert not isinstance(sys.stderr.stream, Redacting)
    sys.excepthook(RuntimeError, RuntimeError(" ".join(SECRETS.values())), None)
    assert HIDDEN in sys.stderr.stream.getvalue()
    assert not seen(sys.stderr.stream.getvalue())


ENTRIES = [
    path
    for folder in ("lorax_lab", "analysis", "experiments")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if '__name__ == "__main__"' in path.read_text()
]


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_entry_guards_its_streams(path: Path) -> None:
    """The first thing that an entry does; what it hands its command line to may do it."""
    text = path.read_text()
    hands_over = "from experiments.command import main" in text or "from experiments.base import" in text
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert "guard" in calls or hands_over


@pytest.mark.parametrize("name", ["command", "base"])
def test_what_studies_hand_over_to_guards(name: str) -> None:
    assert "    guard()\n" in (ROOT / "experiments" / f"{name}.py").read_text()


SAID = """
import logging, os, warnings
from lorax_lab.record.output import guard
guard()
said = " ".join(f"{name} {value}" for name, value in os.environ.items())
warnings.warn(said)
logging.warning(said)
print(said)
print(dict(os.environ))
raise ValueError(said)
"""


def test_warnings_logs_prints_and_uncaught_exceptions_hide_secrets() -> None:
    done = subprocess.run([sys.executable, "-c", SAID], capture_output=True, text=True, cwd=ROOT, env=dict(os.environ))
    assert done.returncode == 1
    for word in ("UserWarning", "WARNING:root", "ValueError"):
        assert word in done.stderr
    assert done.stdout.count(HIDDEN) > len(SECRETS)
    assert not seen(done.stdout + done.stderr)


def test_no_file_holds_a_secret_and_every_checksum_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a variable's value is a word or a number that a record has."""
    monkeypatch.setenv("MY_TOKEN", "12345678")
    monkeypatch.setenv("OTHER_KEY", "test/accuracy")
    text = " ".join(SECRETS.values())
    failed = run_record("a", status="failed", reason=text, error=text, written=SECRETS["GH_PAT"])
    failed.config["task"]["path"] = text
    record.write_record(tmp_path / "a", failed)
    done = run_record("b", metrics={"test/accuracy": 12345678.0}, git=record.Git("f01c62bf" * 5, False))
    record.write_record(tmp_path / "b", done)
    save_config(tmp_path / "a", {"path": text, "words": [f"{text} {text}"]})
    git = {"commit": "f01c62bf" * 5, "dirty": False}
    line = study().lines[0] | {"run_id": "a", "reason": text, "n": 12345678, "git": git}
    write_lines(tmp_path / "study", [line])
    texts = [path.read_text(errors="ignore") for path in tmp_path.rglob("*") if path.is_file()]
    assert not seen("".join([*texts, str(read_lines(tmp_path / "study"))]))
    assert record.read_record(tmp_path / "a").status == "failed"
    assert record.read_record(tmp_path / "b").git.commit == "f01c62bf" * 5
    lines = read_lines(tmp_path / "study")
    assert (lines[0]["n"], lines[0]["git"]) == (12345678, line["git"])


def test_nested_values_are_hidden_and_keep_their_form() -> None:
    nested = {"a": [SECRETS["GH_PAT"], {"b": (1, None, True, 0.5)}], SECRETS["GH_PAT"]: "x"}
    assert redacted(nested) == {"a": [HIDDEN, {"b": [1, None, True, 0.5]}], HIDDEN: "x"}


HOST = """
import platform, socket
socket.gethostname = platform.node = lambda: "name-of-this-host"
"""


def test_wandb_holds_no_host_no_path_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte of an offline run's files."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "sitecustomize.py").write_text(HOST)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'fake'}:{ROOT}")
    monkeypatch.setenv("HOME", str(tmp_path / "home-of-a-person"))
    monkeypatch.setenv("USER", "name-of-a-person")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    folder = recorded(tmp_path / "private-place")
    read = record.read_record(folder)
    task = {"name": "local", "source": "local", "path": str(tmp_path / "patients" / "table.csv")}
    own = {"model": str(tmp_path / "my-models" / "tiny"), "runs_dir": str(folder.parent), "task": task}
    reason = {"note": " ".join(SECRETS.values())}
    record.write_record(folder, dataclasses.replace(read, config=read.config | own | reason))
    assert [line for line in show("offline", folder) if "lacks" in line] == []
    files = [path for path in (folder.parent / "wandb").rglob("*") if path.is_file()]
    (held,) = [path.read_bytes() for path in files if path.suffix == ".wandb"]
    assert b"table.csv" in held
    assert b"tiny" in held
    forbidden = [
        str(tmp_path),
        "name-of-this-host",
        "name-of-a-person",
        "home-of-a-person",
        "private-place",
        "patients",
    ]
    forbidden += ["my-models", sys.executable, str(ROOT), "lorax_lab.windows.child", *NEEDLES.values()]
    for path in files:
        content = path.read_bytes()
        assert not [word for word in forbidden if word.encode() in content], path


def test_a_password_of_digits_spoils_no_file_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of a file may have the digits of a password; a text that has them is hidden."""
    monkeypatch.setenv("SOME_TOKEN", "12345678")
    monkeypatch.setenv("OTHER_TOKEN", "train/loss")
    history = [{"step": 12345678, "train/loss": 12345678.0}]
    save_history(tmp_path, history)
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == history

    def store() -> Checkpoints:
        return Checkpoints(tmp_path, {"run_id": "a", "versions": {"torch": "b 12345678"}}, 0.0, print)

    net = torch.nn.Linear(1, 1)
    position = Position(12345678, 1, 2, 12345678, 4, 12345678.0, history)
    store().save(net, torch.optim.SGD(net.parameters(), 0.1), None, position)
    (state,) = tmp_path.rglob("state.json")
    assert "b 12345678" not in state.read_text()
    assert store().load(net, torch.optim.SGD(net.parameters(), 0.1), None) == position

    save_trained(tmp_path, {"adapter_config.json": {"r": 12345678, "base": "x 12345678"}})
    assert json.loads((tmp_path / "adapter_config.json").read_text()) == {"r": 12345678, "base": f"x {HIDDEN}"}
    table = pd.DataFrame({"n": [12345678], "train/loss": [0.5], "text": ["12345678"], "commit": ["f01c62bf" * 5]})
    write_csv(tmp_path / "a.csv", table)
    assert (tmp_path / "a.csv").read_text() == f"n,train/loss,text,commit\n12345678,0.5,{HIDDEN},{'f01c62bf' * 5}\n"


def test_a_password_in_any_row_of_a_table_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hunter2hunter2")
    rows = {
        "text": ["a", "hunter2hunter2", "a", None],
        "mixed": [1, True, "x hunter2hunter2", 1.5],
        "listed": [["hunter2hunter2"], "b", ["c"], "b"],
        "plain": ["a", "b", "a", "b"],
        "flag": [True, False, None, True],
    }
    write_csv(tmp_path / "a.csv", pd.DataFrame(rows).assign(n=pd.array([1, None, 3, 4], dtype="Int64")))
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "text,mixed,listed,plain,flag,n",
        f"a,1,['{HIDDEN}'],a,True,1",
        f"{HIDDEN},True,b,b,False,",
        f"a,x {HIDDEN},['c'],a,,3",
        ",1.5,b,b,True,4",
    ]


def test_a_password_of_digits_in_a_lease_loses_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "1795687588")
    monkeypatch.setattr("lorax_lab.launch.leases.time.time", lambda: 1795687588.5)
    lease = acquire(tmp_path, "run")
    assert isinstance(lease, Lease)
    lease.check()
    assert acquire(tmp_path, "run") == lease.owner


def test_what_older_versions_wrote_is_read(tmp_path: Path) -> None:
    """They hid secrets in the text of a whole file, and ended `state.json` without a line's end."""
    net = torch.nn.Linear(1, 1)
    store = Checkpoints(tmp_path, {"run_id": "a", "git": {"commit": "f01c62bf" * 5}}, 0.0, print)
    position = Position(1, history=[{"step": 1, "train/loss": 0.5}])
    store.save(net, torch.optim.SGD(net.parameters(), 0.1), None, position)
    (state,) = tmp_path.rglob("state.json")
    state.write_text(redact(json.dumps(json.loads(state.read_text()))))
    manifest = {"files": {name: _facts(state.with_name(name)) for name in ("state.safetensors", "state.json")}}
    manifest["sha256"] = _checksum(manifest)
    (state.parent / "manifest.json").write_text(redact(json.dumps(manifest) + "\n"))
    assert store.load(net, torch.optim.SGD(net.parameters(), 0.1), None) == position

    rows = ['{"step": 1, "train/loss": 0.5}', '{"step": 2, "tokens": [hidden], "train/loss": -[hidden].5e-07}']
    (tmp_path / "metrics.jsonl").write_text("\n".join([*rows, '{"step": [hidden], "train/loss": null}\n']))
    assert read_history(tmp_path) == [
        {"step": 1, "train/loss": 0.5},
        {"step": 2, "tokens": None, "train/loss": None},
    ]


LONG_SECRET = NEEDLES["AWS_SECRET_ACCESS_KEY"]


def raised_by(work: Callable[..., object], *inputs: object) -> str:
    with pytest.raises((ConfigError, record.DamagedRecord)) as raised:
        work(*inputs)
    return str(raised.value)


def of_a_record(folder: Path) -> str:
    (folder / "record.json").write_text(json.dumps({"schema": "x" * 30 + LONG_SECRET}))
    return raised_by(record.read_record, folder)


CUT: dict[str, Callable[[Path], str]] = {
    "cell": lambda _: shown("x" * 30 + LONG_SECRET),
    "name of a column": lambda _: printable("x" * 50 + LONG_SECRET),
    "setting": lambda _: raised_by(require_path, "a", "x" * 90 + LONG_SECRET + "y" * 4000, "b"),
    "number of an adapter": lambda _: raised_by(number, "r", "x" * 70 + LONG_SECRET),
    "error": lambda _: in_short(ValueError("x" * 190 + LONG_SECRET)),
    "error of many lines": lambda _: in_short(ValueError(" \n" * 500 + "x" * 190 + LONG_SECRET)),
    "sound": lambda _: sounds._reason(ValueError("x" * 110 + LONG_SECRET)),
    "image": lambda _: images._reason(ValueError("x" * 190 + LONG_SECRET)),
    "record": of_a_record,
}
"""Messages that show the first part of what came from outside, by where the secret stood."""


@pytest.mark.parametrize("place", CUT)
def test_a_secret_is_hidden_before_a_message_is_cut(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorax_lab.errors.hide", redact)
    message = CUT[place](tmp_path)
    assert LONG_SECRET[:5] not in message
    assert "xxx" in message


def test_no_text_is_cut_by_hand() -> None:
    """`errors.cut` and `errors.in_short` hide first. What is cut to fewer letters is a hash, or the start of a list."""
    by_hand = re.compile(r"\[: ?(?:[4-9]\d|\d{3,})\]|\w\.split\(\)\)\[:")
    allowed = "self.host[:64]"
    lines = [
        f"{path.name}: {line.strip()}"
        for folder in ("lorax_lab", "experiments", "analysis")
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text().splitlines()
        if by_hand.search(line) and allowed not in line
    ]
    assert not lines
