"""The entry that serves many tasks on one base: its words, the real command line on small tables, and its figure."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import serving
from analysis.__main__ import main as analysis
from lorax_lab.launch.sweep import Sweep
from lorax_lab.record import load_runs
from lorax_lab.serve import proof
from lorax_lab.serve.__main__ import main
from lorax_lab.serve.exchange import Exchange
from lorax_lab.serve.layers import ServedLinear
from lorax_lab.serve.overrides import read_overrides
from lorax_lab.serve.served import open_served

ROOT = Path(__file__).parents[2]


def serve(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "HYDRA"))} | quiet
    command = [sys.executable, "-m", "lorax_lab.serve", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)


@pytest.fixture(scope="module")
def words(model_folder: Path, table_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three tasks from one table: two classes, three classes, a number."""
    folder = tmp_path_factory.mktemp("serving")
    with table_file.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    with (folder / "more.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence", "length", "words"])
        lengths = [len(text.split()) for text, _ in rows]
        names = ["short" if n < 7 else "long" if n > 9 else "middle" for n in lengths]
        writer.writerows((text, name, n) for (text, _), name, n in zip(rows, names, lengths, strict=True))
    more = f"local task.path={folder / 'more.csv'} task.text=sentence"
    tasks = [
        f"'local task.path={table_file} task.text=sentence task.label=label task.name=opinion'",
        f"'{more} task.label=length task.name=length'",
        f"'{more} task.label=words task.name=words task.kind=regression'",
    ]
    sizes = [f"task.{split}_examples={n}" for split, n in (("train", 96), ("validation", 32), ("test", 64))]
    places = [f"runs_dir={folder / 'runs'}", f"out={folder / 'out'}", f"model={model_folder}", "tracking=disabled"]
    return [f"tasks=[{','.join(tasks)}]", "rank=2", "train.device=cpu", "train.validations=0", *sizes, *places]


@pytest.fixture(scope="module")
def served(words: list[str]) -> tuple[str, dict[str, Any], Path]:
    """What the command printed, its results, and their folder."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main(words) == 0, output.getvalue()
    folder = Path(next(word for word in words if word.startswith("out=")).partition("=")[2])
    return output.getvalue(), json.loads((folder / "serving.json").read_text()), folder


def test_each_task_is_trained_once_and_every_prediction_is_equal(served: tuple[str, dict[str, Any], Path]) -> None:
    printed, found, folder = served
    runs = load_runs(folder.parent / "runs")
    assert set(runs["method"]) == {"lora"}
    assert len(runs) == 3
    assert found["equal"]
    assert found["base_unchanged"]
    assert found["exchanges"]["count"] == 1000
    assert list(found["tasks"]) == ["opinion", "length", "words"]
    for row in found["tasks"].values():
        assert row["examples"] == row["same.exchanged"] == row["same.merged"] == row["same.mixed"] == 64
        assert row["exchanged"] == row["alone"] == pytest.approx(row["recorded"], abs=1e-6)
    assert "Equal: outputs differ by at most" in printed
    assert "0 of 3 already recorded" in printed


def test_the_proof_sees_a_merge_that_writes_the_base_and_other_answers_in_a_mix(
    served: tuple[str, dict[str, Any], Path], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "EXCHANGES", 20)
    opened = open_served(read_overrides(words).runs)
    assert proof.prove(opened).equal
    mixed = Exchange.mixed
    with monkeypatch.context() as patch:
        patch.setattr(Exchange, "mixed", lambda self, batch, names: [-row for row in mixed(self, batch, names)])
        assert not proof.prove(opened).equal
    with monkeypatch.context() as patch:
        patch.setattr(ServedLinear, "merged_weight", lambda self, update: self.base.weight.mul_(1.5))
        found = proof.prove(opened)
    assert not found.base_unchanged
    assert not found.equal


ROW = {"recorded": 0.5, "alone": 0.5, "exchanged": 0.5, "merged": 0.5, "mixed": 0.5, "examples": 8, "difference": 1e-6}
ROW |= {"same.exchanged": 8, "same.merged": 8, "same.mixed": 8}


@pytest.mark.parametrize(
    "wrong",
    [
        {"same.mixed": 7},
        {"same.exchanged": 7},
        {"merged": 0.501},
        {"alone": 0.499},
        {"difference": 1e-3},
        "again",
        "base",
    ],
)
def test_nothing_but_rounding_may_differ(wrong: Any) -> None:
    assert proof.Proof({"a": ROW, "b": ROW}, {"count": 9, "difference": 1e-6}, True).equal
    row = ROW | (wrong if isinstance(wrong, dict) else {})
    exchanges = {"count": 9, "difference": 1e-3 if wrong == "again" else 1e-6}
    assert not proof.Proof({"a": ROW, "b": row}, exchanges, wrong != "base").equal


def test_bytes_and_seconds_are_those_of_the_files_and_in_order(served: tuple[str, dict[str, Any], Path]) -> None:
    _, found, folder = served
    disk, seconds = found["bytes_on_disk"], found["seconds"]
    runs = folder.parent / "runs"
    for name, count in disk["adapters"].items():
        run = runs / found["tasks"][name]["run_id"]
        assert count == sum((run / f"adapter_{part}").stat().st_size for part in ("model.safetensors", "config.json"))
    assert disk["full"]["length"] == disk["base"] + 4 * (3 * 32 + 3)
    assert found["bytes_held"]["merged"] == 4 * 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert 0 < seconds["switch"] < seconds["merge"] < 1
    assert all(value > 0 for value in [*seconds.values(), *found["request"]["seconds"].values()])
    assert found["request"]["peak_bytes"]["one task after another"] < found["request"]["peak_bytes"]["mixed"]
    assert not list(folder.glob(".checkpoint*"))


def test_a_mixed_batch_is_shown_with_the_words_of_each_task(served: tuple[str, dict[str, Any], Path]) -> None:
    printed, found, _ = served
    rows = found["mixed_batch"]
    assert [row["task"] for row in rows] == ["opinion"] * 2 + ["length"] * 2 + ["words"] * 2
    assert {row["label"] for row in rows[:2]} <= {"negative", "positive"}
    assert float(rows[5]["label"]) == len(rows[5]["text"].split())
    assert rows[0]["text"][:20] in printed


def test_the_same_again_trains_nothing_and_a_damaged_adapter_is_named(
    served: tuple[str, dict[str, Any], Path], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, found, folder = served
    path = folder.parent / "runs" / found["tasks"]["length"]["run_id"] / "adapter_model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        assert main(words) == 2
    finally:
        path.write_bytes(content)
    printed = capsys.readouterr()
    assert "3 of 3 already recorded" in printed.out
    assert f"{path} is not what was written" in printed.err


def test_help_answers_at_once() -> None:
    start = time.monotonic()
    done = serve("--help")
    assert done.returncode == 0
    assert "tasks=[movie_reviews,product_reviews,editorials,tweets,sarcasm,boolq]" in done.stdout
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["rnk=4"], "there is no key rnk; did you mean 'rank'"),
        (["tasks=[movie_revews]"], "task=movie_revews is not a preset; did you mean 'movie_reviews'"),
        (["tasks=[]"], "tasks=[] is not possible: a list of tasks"),
        (["tasks=[movie_reviews,movie_reviews]"], "two are named movie_reviews"),
        (["tasks=[movie_reviews]", "rank=4,8"], "rank=4,8 is a sweep"),
        (["task=movie_reviews"], "the tasks are a list here"),
        (["method=full"], "what is served are adapters"),
        (["tasks=['movie_reviews method=peft/dora']"], "what is served are adapters of lora"),
        (["tasks=['movie_reviews method=full']"], "what is served are adapters of lora"),
        (["reference=true"], "no full fine-tune is trained for serving"),
        (["force=true"], "to train a run again"),
        (["hydra/launcher=joblib"], "train in parallel before"),
        (["-m"], "-m is not possible"),
        (["tasks=[movie_reviews]", "rank=0"], "rank=0 is not possible"),
        (["tasks=['local task.path=/nowhere.csv task.text=a task.label=b']"], "there is no such file"),
        (["tasks=['local task.path=\"x']"], "No closing quotation"),
    ],
)
def test_wrong_words_give_one_clear_message(
    given: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(given) == 2
    printed = capsys.readouterr()
    assert expected in printed.err
    assert len(printed.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("{tmp}/file", "out={tmp}/file is a file; name a folder, as in out=serving/mine"),
        ("{tmp}/file/x", "out={tmp}/file/x cannot be written"),
        ("{tmp}/dangling", "is a link to {tmp}/nowhere, which is not there; name another folder"),
        ("{tmp}/taken", "out={tmp}/taken has a folder serving.json, where the results go"),
        ("/proc/x", "out=/proc/x cannot be"),
        ("x" * 300, "cannot be used (File name too long); name another folder, as in out=serving/mine"),
        ("'a\x00b'", "has the sign '\\x00', which no setting has; leave the sign out"),
        ("hf_0123456789abcdefghijklmn", "out has a key or password in it; set it in the environment instead"),
    ],
)
def test_a_folder_that_cannot_be_is_refused_before_anything_trains(
    words: list[str],
    out: str,
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "taken" / "serving.json").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Sweep, "finish", lambda self: pytest.fail("it trains"))
    given = [word for word in words if not word.startswith(("out=", "runs_dir="))]
    assert main([*given, f"runs_dir={tmp_path}/runs", f"out={out.replace('{tmp}', str(tmp_path))}"]) == 2
    printed = capsys.readouterr()
    assert expected.replace("{tmp}", str(tmp_path)) in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert "hf_0123" not in printed.out + printed.err
    assert not (tmp_path / "runs").exists()


def test_a_store_that_cannot_be_is_refused_before_anything_trains(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sweep, "finish", lambda self: pytest.fail("it trains"))
    (tmp_path / "file").touch()
    given = [word for word in words if not word.startswith(("out=", "runs_dir="))]
    assert main([*given, f"runs_dir={tmp_path}/file", f"out={tmp_path}/out"]) == 2
    assert "is a file; name a folder, as in runs_dir=runs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


RESULTS = {
    "model": "/models/minilm",
    "rank": 8,
    "tasks": {"a": {}, "b": {}},
    "bytes_on_disk": {"base": 90e6, "adapters": {"a": 1e6, "b": 2e6}, "full": {"a": 91e6, "b": 92e6}},
    "seconds": {"load from disk": 0.2, "load from page cache": 0.05, "merge": 0.01, "unmerge": 1e-6, "switch": 3e-7},
    "request": {"rows": 8, "seconds": {"unmerged": 0.05, "merged": 0.04, "mixed": 0.055}},
}


def test_the_figure_shows_what_is_in_the_results_and_its_csv_draws_the_same(tmp_path: Path) -> None:
    rows = serving.table(RESULTS)
    assert list(rows[rows["panel"] == "disk"]["value"]) == [183e6, 90e6, 3e6]
    figure = serving.draw(rows)
    left, right = figure.axes
    assert [text.get_text() for text in left.texts] == ["183.0", "93.0"]
    marks = [text.get_text() for text in right.texts]
    assert marks[:5] == [
        "0.2 s".replace("0.2 s", "200 ms"),
        "50 ms",
        "10 ms",
        "1 µs",
        "0.3 µs",
    ]
    rows.to_csv(tmp_path / "table.csv", index=False)
    pictures = [BytesIO(), BytesIO()]
    for again, picture in zip((rows, pd.read_csv(tmp_path / "table.csv")), pictures, strict=True):
        serving.draw(again).savefig(picture, format="pdf", metadata={"CreationDate": None})
    assert pictures[0].getvalue() == pictures[1].getvalue()


def test_a_machine_that_cannot_forget_a_file_has_no_mark_for_the_disk() -> None:
    rows = serving.table(RESULTS | {"seconds": RESULTS["seconds"] | {"load from disk": None}})
    assert "load from disk" not in set(rows["name"])


def test_the_figure_is_drawn_again_from_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "serving.json"
    path.write_text(json.dumps(RESULTS))
    assert analysis(["serving", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"drawn, in {tmp_path}:\n  serving.{{png,pdf,csv}}\n"
    assert {file.name for file in tmp_path.iterdir()} == {f"serving.{kind}" for kind in ("json", "png", "pdf", "csv")}
    path.write_text("{}")
    assert analysis(["serving", str(tmp_path)]) == 2
    assert "cannot be drawn" in capsys.readouterr().err
    assert analysis(["serving", str(tmp_path / "nowhere")]) == 2
    assert "python -m lorax_lab.serve" in capsys.readouterr().err
