"""What the dashboards send to W&B, with a server on loopback in its place."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from recorded import run_record
from test_dashboard import without

from lorax_lab.record.record import write_record

ROOT = Path(__file__).parents[2]


class Stub(BaseHTTPRequestHandler):
    """Answers W&B's client as its server does where a view is saved; `saved` has what it was given.

    A view whose type begins with `refuses`, where that is not empty, is not saved.
    """

    saved: ClassVar[list[dict[str, Any]]] = []
    hangs: ClassVar[bool] = False
    refuses: ClassVar[str] = ""
    asked: ClassVar[bool] = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        type(self).asked = True
        if type(self).hangs:
            time.sleep(60)
            return  # whoever asked has gone
        data: dict[str, Any] = {"viewer": {"id": "1", "entity": "a-team", "username": "me", "teams": {"edges": []}}}
        asked = json.loads(body) if self.path == "/graphql" else {"query": ""}
        if "upsertView" in asked["query"] and self._is_refused(asked["variables"]):
            data = {"upsertView": None}
        elif "upsertView" in asked["query"]:
            self.saved.append(asked["variables"])
            view = {"id": f"id{len(self.saved)}", "name": "n", "displayName": "d", "spec": asked["variables"]["spec"]}
            project = {"id": "2", "name": "lorax_lab", "entityName": "a-team"}
            data = {"upsertView": {"view": view | {"project": project}, "inserted": True}}
        elif "models(" in asked["query"]:
            data = {"models": {"edges": [], "pageInfo": {"hasNextPage": False, "endCursor": None}}}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"data": data}).encode())

    def _is_refused(self, view: dict[str, Any]) -> bool:
        return bool(self.refuses) and view["type"].startswith(self.refuses)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Stub]]:
    """A server of W&B's on loopback, and a login for it."""
    Stub.saved.clear()
    monkeypatch.setattr(Stub, "hangs", False)
    monkeypatch.setattr(Stub, "refuses", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Stub) as running:
        running.daemon_threads = True
        running.block_on_close = False
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
        yield Stub
        running.shutdown()


def test_with_a_login_what_is_written_is_saved(server: type[Stub], tmp_path: Path) -> None:
    """In a process of its own, since a login is kept by wandb for all of a process."""
    command = [sys.executable, "-m", "lorax_lab.dashboard"]
    write_record(tmp_path / "runs" / "a-run", run_record("a-run"))
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert (done.returncode, done.stderr) == (0, "")
    base = os.environ["WANDB_BASE_URL"]
    assert re.search(rf"^report: {base}/a-team/lorax_lab/reports/\S+--id3$", done.stdout, re.M)
    assert re.search(rf"^workspace: {base}/a-team/lorax_lab\?nw=\w+$", done.stdout, re.M)
    assert [given.get("id") or None for given in server.saved] == [None, None, "id1", "id2"]  # replaced, not added
    for given, name in zip(server.saved, ("report", "workspace") * 2, strict=True):
        there = json.loads((tmp_path / "dashboard" / f"{name}.json").read_text())
        assert without(json.loads(given["spec"]), "inlineComments") == there["spec"]
        assert (given["entityName"], given["projectName"]) == ("a-team", "lorax_lab")


def test_a_report_that_was_saved_before_the_workspace_failed_is_replaced(
    server: type[Stub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "lorax_lab.dashboard"]
    write_record(tmp_path / "runs" / "a-run", run_record("a-run"))
    monkeypatch.setattr(server, "refuses", "project-view")
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1, done.stderr
    monkeypatch.setattr(server, "refuses", "")
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
    assert [given.get("id") or None for given in server.saved] == [None, "id1", None]  # one report, one workspace


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up(
    server: type[Stub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By W&B's client, or at the latest by us; the files are there, and the command says what to do."""
    write_record(tmp_path / "runs" / "a-run", run_record("a-run"))
    monkeypatch.setattr(server, "hangs", True)
    command = [sys.executable, "-m", "lorax_lab.dashboard"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert re.fullmatch(r"error: W&B did not save them \(.+\); the same command tries again\n", done.stderr)
    assert (tmp_path / "dashboard" / "report.json").is_file()
    assert server.asked


def test_whoever_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    from lorax_lab.dashboard import layout, save

    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 300")
    slow.chmod(0o755)
    monkeypatch.setattr(save.sys, "executable", str(slow))
    assert save.save(tmp_path, layout.Place("lorax_lab"), [], patience=1) == "it took more than 1 s"
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
