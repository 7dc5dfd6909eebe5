"""The dashboard: what is written is what the library reads, names only what runs show, and is saved once."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from shown import RUN_ID, inspected, recorded, show

from lorax_lab.windows import dashboard
from lorax_lab.windows.__main__ import main

CUTS = [{"part": part, "k": k, "accuracy": 0.5} for part in ("cut", "remainder") for k in (1, 2)]


@pytest.fixture
def runs(tmp_path: Path, no_login: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run that shows all that there are panels of."""
    monkeypatch.chdir(tmp_path)
    recorded(tmp_path / "runs", "full", metrics={"test/accuracy": 0.75}, baselines={"head/accuracy": 0.25})
    return recorded(tmp_path / "runs", truncation=CUTS, reference="full", baselines={"head/accuracy": 0.25}).parent


def test_what_is_written_is_what_the_library_reads(runs: Path, tmp_path: Path) -> None:
    from wandb_workspaces.workspaces.internal import View

    assert main(["dashboard"]) == 0
    written = json.loads((tmp_path / "dashboard" / "workspace.json").read_text())
    assert json.loads(View.model_validate(written).model_dump_json(by_alias=True, exclude_none=True)) == written


def test_every_key_that_a_panel_names_is_shown(runs: Path) -> None:
    panels = [panel for section in dashboard.sections().values() for panel in section]
    metrics = [metric for panel in panels for metric in (*getattr(panel, "metrics", ()), *_axes(panel))]
    show("offline", runs / RUN_ID)
    shown: set[str] = set()
    for record in map(json.loads, inspected(runs, RUN_ID).splitlines()):
        shown |= record.get("history", {}).get("item", {}).keys()
        shown |= record.get("summary", {}).get("update", {}).keys() if record["type"] == "summary" else set()
    named = {metric.name for metric in metrics if "captured" not in metric.name}  # of runs beside their reference
    assert named - {"train/gradient_norm"} <= shown
    assert len(named) > 12


def _axes(panel: Any) -> list[Any]:
    y = getattr(panel, "y", None)
    axes = [getattr(panel, "x", None), *(y if isinstance(y, list) else [y])]
    return [axis for axis in axes if hasattr(axis, "name")]


def test_what_was_saved_before_is_replaced(tmp_path: Path) -> None:
    class View(SimpleNamespace):
        def save(self) -> View:
            self._internal_id = self._internal_id or "new"
            self._internal_name = "name"
            return self

    for _ in range(2):
        view: Any = View(entity="team", project="lorax_lab", url="u")
        dashboard.save(tmp_path / "saved.json", view)
        assert json.loads((tmp_path / "saved.json").read_text()) == {"team/lorax_lab": ["new", "name"]}
