"""Dashboards: what is written is what the library reads, names only what runs show, and is saved once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from shown import RUN_ID, recorded, show

from lorax_lab.config.defaults import flat
from lorax_lab.windows import dashboard
from lorax_lab.windows.__main__ import main
from lorax_lab.windows.library import TRACKIO

ROOT = Path(__file__).parents[2]
CUTS = [{"part": part, "k": k, "accuracy": 0.5} for part in ("cut", "remainder") for k in (1, 2)]


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key in [key for key in os.environ if key.startswith(("WANDB", "TRACKIO"))]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a run that shows all that there are panels of."""
    recorded(tmp_path / "runs", "full", metrics={"test/accuracy": 0.75})
    memory = {"truncation": CUTS, "reference": "full"}
    return recorded(tmp_path / "runs", tracking={"study": "mine"}, **memory).parent


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    (tmp_path / "pages" / "mine").mkdir(parents=True)
    (tmp_path / "pages" / "mine" / "VERDICT.md").write_text("# Verdict: mine\n\n**It is low.** hf_" + "Zz09" * 8)
    return tmp_path / "pages"


def written(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The workspace and the report."""
    workspace, report = (json.loads((out / f"{name}.json").read_text()) for name in ("workspace", "report"))
    return workspace, report


def dumped(model: Any) -> Any:
    return json.loads(model.model_dump_json(by_alias=True, exclude_none=True))


@pytest.mark.parametrize("typed", [[], ["--study", "mine"]])
def test_what_is_written_is_what_the_library_reads(typed: list[str], runs: Path, pages: Path, tmp_path: Path) -> None:
    assert main(["dashboard", "--pages", str(pages), *typed]) == 0
    import wandb_workspaces.reports.v2 as reports
    from wandb_workspaces.reports.v2.internal import ReportViewspec
    from wandb_workspaces.workspaces.internal import View

    workspace, report = written(tmp_path / "dashboard")
    assert dumped(View.model_validate(workspace)) == workspace
    again = reports.Report._from_model(ReportViewspec.model_validate(report))
    again.width = "fluid"  # which it forgets
    blocks = [block["type"] for block in dumped(again._to_model())["spec"]["blocks"]]
    assert blocks == [block["type"] for block in report["spec"]["blocks"]]
    text = (tmp_path / "dashboard" / "report.json").read_text()
    assert ("It is low." in text) == bool(typed)
    assert "Zz09" not in text
    assert ('"mine"' in (tmp_path / "dashboard" / "workspace.json").read_text()) == bool(typed)


def test_every_key_that_a_panel_names_was_shown(runs: Path, tmp_path: Path) -> None:
    keys = dashboard.shown_keys(runs)
    assert {section for section, *_ in dashboard.PANELS} == dashboard.panels(keys).keys()
    show("offline", runs / RUN_ID)
    wandb = str(Path(sys.executable).parent / "wandb")
    words = [wandb, "leet", "inspect", "--json", *map(str, runs.glob("wandb/off*"))]
    shown: set[str] = set()
    for line in subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines():
        record = json.loads(line)
        shown |= record.get("history", {}).get("item", {}).keys()
        shown |= record.get("summary", {}).get("update", {}).keys() if record["type"] == "summary" else set()
        settings = record["run"].get("config", {}).get("update", {}) if record["type"] == "run" else {}
        shown |= {f"config:{key}" for key in flat(settings)}
    shown = {key.removesuffix("._type") for key in shown}  # a picture's key has parts
    axes = {axis for _, kind, _, axis, _ in dashboard.PANELS if axis}
    assert {*keys, *axes} - {"step"} <= shown


class Saved(SimpleNamespace):
    """A report or workspace of the library, which gets an id where it is saved without one."""

    def save(self) -> Saved:
        if self.refused:
            raise ConnectionError("no answer")
        self.id, self._internal_id = self.id or "new-report", self._internal_id or "new-view"
        return self


def test_what_was_saved_before_is_replaced(tmp_path: Path) -> None:
    def saved(refused: bool = False) -> tuple[Saved, Saved]:
        names = {"entity": "team", "project": "lorax_lab", "title": "t", "url": "u", "id": "", "_internal_name": "n"}
        report, view = Saved(**names, _internal_id="", refused=False), Saved(**names, _internal_id="", refused=refused)
        dashboard._save(tmp_path / "saved.json", view, report)
        return report, view

    with pytest.raises(ConnectionError):  # the report is saved, the workspace is not
        saved(refused=True)
    (ids,) = json.loads((tmp_path / "saved.json").read_text()).values()
    assert ids == {"report": "new-report"}
    for _ in range(2):
        report, view = saved()
        assert (report.id, view._internal_id) == ("new-report", "new-view")
    (ids,) = json.loads((tmp_path / "saved.json").read_text()).values()
    assert ids == {"report": "new-report", "workspace": "new-view", "name": ""}


def test_trackio_s_page_is_on_loopback_alone(runs: Path) -> None:
    pytest.importorskip("trackio")
    psutil = pytest.importorskip("psutil")
    show(TRACKIO, runs / RUN_ID)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "lorax_lab.windows", "dashboard", "--local", "--port", port]
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a background shell ignores it
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heeds) as serving:
        try:
            assert serving.stdout is not None
            assert f"127.0.0.1:{port}" in serving.stdout.readline()
            ask = urllib.request.Request(f"http://127.0.0.1:{port}/api/get_runs_for_project",
                                         b'{"project": "lorax_lab"}', {"Content-Type": "application/json"})  # fmt: skip
            with urllib.request.urlopen(ask, timeout=30) as page:
                assert RUN_ID in page.read().decode()
            sockets = psutil.Process(serving.pid).net_connections("inet")
            assert {at.laddr.ip for at in sockets if at.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
            serving.send_signal(signal.SIGINT)
            assert serving.wait(60) == 0
        finally:
            serving.kill()
