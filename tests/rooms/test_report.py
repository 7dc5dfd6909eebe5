"""The page of runs as text: what it says, what it escapes, and wrong inputs."""

import base64
import dataclasses
import re
from pathlib import Path

import pytest
from stores import Store

from analysis import report as page
from analysis.__main__ import main
from analysis.figures import FIGURES
from lorax_lab.record import record
from lorax_lab.spectra import MEASURES


def report(store: Store, *words: str) -> int:
    return main(["report", "--runs", str(store.folder), "--out", str(store.folder.parent / "page.html"), *words])


def written(store: Store) -> str:
    return (store.folder.parent / "page.html").read_text(encoding="utf-8")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty one, of whose runs the page draws two figures alone."""
    monkeypatch.setattr(page, "FIGURES", {name: FIGURES[name] for name in ("memory", "functional_rank")})
    return Store(tmp_path / "runs", layers=1)


def test_the_page_has_runs_measures_what_varied_the_finding_and_figures_and_nothing_leads_out(tmp_path: Path) -> None:
    """LoRA at two ranks, two seeds, one run collapsed, and full fine-tuning."""
    study = Store(tmp_path / "runs", layers=1)
    for seed in (0, 1):
        study.run(seed=seed, test=0.8 + 0.02 * seed, baselines={"head_validation/accuracy": 0.5})
        for rank in (1, 4):
            study.run(rank=rank, seed=seed, test=0.7 + rank / 50, collapsed=["one class"] if rank == 1 and seed else [])
    assert report(study) == 0
    seen = written(study)
    assert seen.count("<tr><td") == 6
    assert all(folder.name in seen for folder in study.folder.iterdir() if folder.is_dir())
    assert all(f">{name.replace('_', ' ')}</th>" in seen for name in MEASURES)
    for said in ("5 completed", "1 collapsed", "rank = 1, 4", "seed = 0, 1", "of 16 directions"):
        assert said in seen
    pictures = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', seen)]
    assert len(pictures) == len(FIGURES)
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert all(f"python -m analysis {name} --runs {study.folder}" in seen for name in FIGURES)
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*", seen)
    assert "http" not in seen.replace("http-equiv", "")
    assert "default-src 'none'" in seen


def test_what_cannot_be_drawn_says_why_and_a_figure_without_all_its_runs_is_stamped(store: Store) -> None:
    for rank, seed in ((2, 0), (2, 1), (4, 0)):
        store.run(rank=rank, seed=seed)
    assert report(store) == 0
    first = written(store)
    assert "not drawn: there is no completed full fine-tune" in first
    assert "3 of 4 runs" in first
    assert report(store) == 0
    assert written(store) == first


def test_runs_without_a_result_are_a_page_with_their_reasons(store: Store) -> None:
    for seed, status in enumerate(record.STATUSES[1:]):
        folder = store.run(rank=4, seed=seed, status=status)
        record.write_record(folder, dataclasses.replace(record.read_record(folder), reason=f"{status} of a sort"))
    (store.run(rank=8) / "record.json").write_text('{"schema": 2')
    assert report(store) == 1
    text = written(store)
    assert all(f"1 {status}" in text for status in (*record.STATUSES[1:], "damaged"))
    assert text.count("to run it again, type python -m lorax_lab.run") == len(record.STATUSES) - 1


def test_secrets_are_hidden_also_where_they_are_escaped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "q7RmZ2x<tPw4KdV&Ls9N"
    for note in (secret, "b"):
        store.run(rank=1, train={"note": note})
    monkeypatch.setattr(page, "FIGURES", {})  # a picture has no text
    assert report(store) == 0
    assert "q7RmZ2x&lt;tPw4KdV&amp;Ls9N" in written(store)
    monkeypatch.setenv("MY_TOKEN", secret)
    assert report(store) == 0
    assert "q7RmZ2x" not in written(store)


@pytest.mark.parametrize(("key", "name"), [("--runs", "none"), ("--out", "folder.html")])
def test_wrong_inputs_are_refused_in_a_line_and_nothing_is_written(
    key: str, name: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.run()
    (tmp_path / "folder.html").mkdir()
    assert report(store, key, str(tmp_path / name)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / name) in said
    assert not [path for path in tmp_path.rglob("*.html") if path.is_file()]
