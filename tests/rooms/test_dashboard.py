"""The dashboards of W&B: what is written is what the library's own schema reads, and names only what runs show."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import matrix, run_record

from lorax_lab.dashboard import pages
from lorax_lab.dashboard.__main__ import main
from lorax_lab.record.folder import SPECTRA, save_arrays
from lorax_lab.record.record import write_record

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "study"
MATRICES: dict[str, Any] = {
    "layer.0.query": matrix("query", 0, 2),
    "layer.0.value": matrix("value", 0, 2),
}
SIGMA = {name: {"sigma": np.array([2.0, 1.0])} for name in MATRICES}


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a run of each of two tasks, one of a study."""
    for task, study in (("tweets", None), ("sarcasm", "planted")):
        config = run_record("x").config
        config = config | {"task": {"name": task, "source": task}, "tracking": {"mode": "offline", "study": study}}
        save_arrays(tmp_path / "runs" / task / SPECTRA, SIGMA)
        write_record(tmp_path / "runs" / task, run_record(task, config=config, matrices=MATRICES))
    return tmp_path / "runs"


def written(tmp_path: Path, *typed: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The workspace and the report that a command line writes."""
    assert main([*typed, "--pages", str(PAGES)]) == 0
    workspace, report = ((tmp_path / "dashboard" / f"{name}.json").read_text() for name in ("workspace", "report"))
    return json.loads(workspace), json.loads(report)


@pytest.mark.parametrize("typed", [(), ("--study", "planted"), ("--study", "planted", "--study", "rank_sweep")])
def test_what_is_written_is_what_the_library_reads(typed: tuple[str, ...], runs: Path, tmp_path: Path) -> None:
    """Read by its models and by its interface, which W&B's own users call, and written again: the same JSON."""
    from lorax_lab.dashboard.library import ReportViewspec, View, reports, workspaces

    workspace, report = written(tmp_path, *typed)
    view, spec = View.model_validate(workspace), ReportViewspec.model_validate(report)
    assert dumped(view) == workspace
    assert dumped(workspaces.Workspace._from_model(view)) == workspace
    again = reports.Report._from_model(spec)
    again.width = "fluid"  # which it forgets
    assert without(dumped(again), "inlineComments") == report


@pytest.mark.parametrize(("method", "has_share"), [("lora", True), ("peft/loha", False)])
def test_a_share_of_noise_has_panels_where_a_run_has_one(method: str, has_share: bool, tmp_path: Path) -> None:
    config = run_record("x").config | {"task": {"name": "tweets", "source": "tweets"}}
    record = run_record("a", config=config, method=method, matrices=MATRICES)
    save_arrays(tmp_path / "runs" / "a" / SPECTRA, SIGMA)
    write_record(tmp_path / "runs" / "a", record)
    workspace, report = written(tmp_path)
    for board in (workspace, report):
        assert ("noise_share" in json.dumps(board)) == has_share
        assert "spectrum/sigma/query" in json.dumps(board)


def dumped(made: Any) -> Any:
    model = made if hasattr(made, "model_dump_json") else made._to_model()
    return json.loads(model.model_dump_json(by_alias=True, exclude_none=True))


def without(content: Any, key: str) -> Any:
    if isinstance(content, dict):
        return {name: without(value, key) for name, value in content.items() if name != key}
    return [without(item, key) for item in content] if isinstance(content, list) else content


def test_nothing_is_unknown_to_the_library(runs: Path, tmp_path: Path) -> None:
    """A panel or block that it does not know would be kept as it is, and W&B would show a hole."""
    from lorax_lab.dashboard.library import ReportViewspec, View

    workspace, report = written(tmp_path, "--study", "planted")
    view, spec = View.model_validate(workspace), ReportViewspec.model_validate(report)
    panels = [p for section in view.spec.section.panel_bank_config.sections for p in section.panels]
    panels += [
        p for b in spec.spec.blocks if b.type == "panel-grid" for p in b.metadata.panel_bank_section_config.panels
    ]
    assert not [part for part in [*panels, *spec.spec.blocks] if "Unknown" in type(part).__name__]
    assert len(panels) > 20


def test_the_same_command_writes_the_same_bytes(runs: Path, tmp_path: Path) -> None:
    assert written(tmp_path, "--study", "planted") == written(tmp_path, "--study", "planted")


def test_no_two_parts_have_one_name(runs: Path, tmp_path: Path) -> None:
    """W&B keeps a panel's settings, and a set of runs, by its id."""
    for made in written(tmp_path, "--study", "planted"):
        for key in ("__id__", "id"):
            names = [name for name in values(made, key) if name]
            assert len(set(names)) == len(names) > (0 if key == "id" else 10)


def values(content: Any, key: str) -> list[Any]:
    if isinstance(content, dict):
        return [v for name, value in content.items() for v in ([value] if name == key else values(value, key))]
    return [v for item in content for v in values(item, key)] if isinstance(content, list) else []


def test_a_report_has_a_section_for_each_study_with_its_verdict_and_figures(runs: Path, tmp_path: Path) -> None:
    _, report = written(tmp_path, "--study", "planted", "--study", "rank_sweep")
    blocks = report["spec"]["blocks"]
    titles = [b["children"][0]["text"] for b in blocks if b["type"] == "heading" and b["level"] == 1]
    assert titles == ["planted", "rank_sweep"]
    texts = json.dumps(blocks)
    for name in titles:
        page = (PAGES / name / pages.PAGE).read_text()
        bold = next(line for line in page.splitlines() if line.startswith("**"))
        assert json.dumps(bold.strip("*"))[1:-1] in texts
    media = {key for keys in values(report, "mediaKeys") for key in keys}
    assert {f"figure/{path.stem}" for path in PAGES.glob("planted/*.png")} <= media


def test_each_section_shows_the_runs_of_its_study(runs: Path, tmp_path: Path) -> None:
    workspace, report = written(tmp_path, "--study", "planted")
    (of_workspace,) = values(workspace, "filters")
    assert conditions(of_workspace) == [("study.value", "IN", ["planted"]), NO_TRIAL]
    for filters in values(report, "filters"):
        first, *rest = conditions(filters)
        if first == ("name", "=", "figures-planted"):
            assert not rest
            continue
        assert first == ("study.value", "IN", ["planted"])
        assert rest in ([NO_TRIAL], [NO_TRIAL, ("task.value.name", "=", "sarcasm")])  # this study's only task here
    everything, _ = written(tmp_path)
    assert conditions(values(everything, "filters")[0]) == [("jobType", "!=", "figures"), NO_TRIAL]


NO_TRIAL = ("measure.value", "!=", "trial")
"""A trial of a learning rate has no score on test."""


def conditions(filters: dict[str, Any]) -> list[tuple[str, str, Any]]:
    return [(part["key"]["name"], part["op"], part["value"]) for part in filters["filters"]]


def test_without_a_login_nothing_is_sent_and_that_is_said(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a prompt"))
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a process"))
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "dashboard/workspace.json" in said
    assert "there is no login of W&B: nothing was sent" in said


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_a_mode_that_sends_nothing_is_not_called_a_missing_login(
    mode: str, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a process"))
    assert main([]) == 0
    said = capsys.readouterr().out
    assert f"WANDB_MODE={mode}: nothing was sent; unset it" in said
    assert "login" not in said


def test_a_study_without_runs_is_said(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, "--study", "random_labels")
    assert "no run in runs says that it is of random_labels" in capsys.readouterr().out
    written(tmp_path, "--study", "planted")
    assert "no run in" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (("--project", "a/b"), "--project=a/b is not possible"),
        (("--entity", "a b"), "--entity=a b is not possible"),
        (
            ("--study", "random_label"),
            "--study random_label: there is no such study in {pages}; did you mean 'random_labels'?",
        ),
        (("--study", "../study/planted"), "there is no such study"),
        (("--study", "planted", "--pages", "nowhere"), "type python -m analysis study --out pages"),
        (("--runs", "nowhere"), "--runs nowhere: there is no such folder"),
        (("--runs", "empty"), "--runs empty: no completed run is recorded there"),
        (("--port", "1"), "type --local --port 7860"),
        (("--out", "file"), "file"),
    ],
)
def test_a_wrong_input_is_named(
    typed: tuple[str, ...], says: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert main(["--pages", str(PAGES), *typed]) == 2
    said = capsys.readouterr().err
    assert says.format(pages=PAGES) in said
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "dashboard").exists()


@pytest.mark.parametrize(
    "page", ["", "# Verdict: other\n\nwhy?\n\n**low**\n", "# Verdict: mine\n\nwhy?\n\nno verdict\n"]
)
def test_a_page_that_the_analysis_did_not_write_is_refused(
    page: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / pages.PAGE).write_text(page)
    assert main(["--pages", str(tmp_path), "--study", "mine"]) == 2
    assert "type python -m analysis study mine" in capsys.readouterr().err


@pytest.mark.parametrize("study", pages.names(PAGES))
def test_every_page_is_read(study: str) -> None:
    page = pages.read(PAGES, study)
    assert "?" in page.question
    assert "\nWritten by" in page.rest
    assert page.verdict not in page.rest
    assert page.figures


def test_the_pages_of_studies_that_are_unfair_or_damaged_are_read(tmp_path: Path) -> None:
    from analysis.study import page

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / pages.PAGE).write_text(page.of_damaged("mine", "it is cut short"))
    read = pages.read(tmp_path, "mine")
    assert (read.verdict, read.question, read.figures) == (page.UNREAD, "", ())
    assert "it is cut short" in read.rest


def test_a_missing_library_is_named(runs: Path) -> None:
    code = "import sys; sys.modules['wandb_workspaces'] = None; from lorax_lab.dashboard.__main__ import main; "
    done = subprocess.run(
        [sys.executable, "-c", f"{code}sys.exit(main([]))"], capture_output=True, text=True, cwd=runs.parent
    )
    assert done.returncode == 2
    assert done.stderr == "error: wandb-workspaces is not installed; type pip install lorax_lab\n"
