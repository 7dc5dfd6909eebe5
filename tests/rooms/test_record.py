"""Records: written whole, verified when read, damaged ones named and set aside."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recorded import run_record

from analysis.__main__ import main as analysis_main
from lorax_lab.errors import ConfigError
from lorax_lab.record import load_matrices, load_runs, load_truncation, record
from lorax_lab.record.files import save_tensors
from lorax_lab.record.folder import SPECTRA, check_file, files_of, load_spectra, quarantine, save_arrays, save_history

ROWS = {"m": {"shape": [2, 3], "effective_rank": 1.5, "null": {"effective_rank": 1.9}}}
TRUNCATION = [{"k": 0, "part": "cut", "accuracy": 0.5}]


def content(run_id: str = "a-lora-r4-s0-0", **changes: Any) -> record.Record:
    return run_record(run_id, **{"matrices": ROWS, "truncation": TRUNCATION} | changes)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    record.write_record(tmp_path / "run", content(metrics={"x": np.float64(0.25), "nan": float("nan")}))
    assert record.read_record(tmp_path / "run") == content(metrics={"x": 0.25, "nan": None})


def test_a_checksum_is_of_the_content_whatever_the_order_of_its_keys() -> None:
    sha256 = "fbb68c4db7e0dd9e9fbcbf26036734a369258770a834b80de564070cb402a13a"  # of {"a":1,"b":[2.5,null]}
    assert record._checksum({"a": 1, "b": [2.5, None]}) == sha256
    assert record._checksum({"b": [2.5, None], "a": 1}) == sha256


@pytest.mark.parametrize("status", ["running", "failed"])
def test_a_run_without_a_result_is_read_back(tmp_path: Path, status: str) -> None:
    record.write_record(tmp_path / "run", content(status=status, reason="why"))
    assert record.read_record(tmp_path / "run") == content(status=status, reason="why")


@pytest.mark.parametrize("damage", ["cut", "number", "list", "empty", "binary"])
def test_damage_is_named(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "run" / "record.json"
    record.write_record(path.parent, content())
    text = path.read_text()
    path.write_text(text[:-40] if damage == "cut" else text.replace("0.5", "0.6", 1) if damage == "number" else text)
    if damage in ("list", "empty", "binary"):
        path.write_bytes({"list": b"[]", "empty": b"", "binary": bytes(range(256))}[damage])
    with pytest.raises(record.DamagedRecord, match=r"record\.json"):
        record.read_record(path.parent)
    assert record.status_of(path.parent) == "damaged"


def rewritten(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the plain content of a record, under a checksum that fits."""
    read = json.loads((folder / "record.json").read_text())
    del read["sha256"]
    change(read)
    read["sha256"] = record._checksum(read)
    (folder / "record.json").write_text(record._text(read))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(schema=99), "schema 99; this version reads 1 and 2"),
        (lambda r: r.update(schema=0), "schema 0; this version reads 1 and 2"),
        (lambda r: r.update(schema=-1), "schema -1; this version reads 1 and 2"),
        (lambda r: r.update(schema="2"), "schema 2; this version reads 1 and 2"),
        (lambda r: r.pop("schema"), "schema None; this version reads 1 and 2"),
        (lambda r: r["result"].pop("metrics"), "result.metrics: Field required"),
        (lambda r: r.update(status="done"), "status: Input should be 'completed'"),
        (lambda r: r.update(status="failed"), "a failed record has a result"),
        (lambda r: r.update(result=None), "a completed record lacks its result"),
        (lambda r: r["result"].pop("matrices"), "result.matrices: Field required"),
        (lambda r: r.update(colour="red"), "colour: Unexpected keyword argument"),
        (lambda r: r["result"]["parameters"].update(head="2"), "result.parameters.head: Input should be a valid int"),
        (lambda r: r["result"]["time"].update(days=1), "result.time.days: Unexpected keyword argument"),
    ],
)
def test_what_is_no_record_is_refused_though_its_checksum_fits(
    change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    record.write_record(tmp_path, content())
    rewritten(tmp_path, change)
    with pytest.raises(record.DamagedRecord, match=re.escape(message)):
        record.read_record(tmp_path)


def test_a_record_of_version_1_is_read(tmp_path: Path) -> None:
    def older(read: dict[str, Any]) -> None:
        result = read.pop("result")
        result["functional"] = result.pop("truncation")
        result["time"]["functional_seconds"] = result["time"].pop("truncation_seconds")
        read |= result | {"schema": 1}
        for key in ("reason", "error", "launch"):
            del read[key]

    record.write_record(tmp_path, content())
    rewritten(tmp_path, older)
    assert record.read_record(tmp_path) == content()
    rewritten(tmp_path, lambda read: read["time"].pop("functional_seconds"))  # it had none before there were cuts
    assert record.read_record(tmp_path).completed.time.truncation_seconds == 0.0
    for part in ("parameters", "memory", "time", "metrics", "matrices"):
        record.write_record(tmp_path, content())
        rewritten(tmp_path, older)
        rewritten(tmp_path, lambda read, part=part: read.pop(part))
        with pytest.raises(record.DamagedRecord, match=f"record.json lacks {part}$"):
            record.read_record(tmp_path)


def test_a_failed_record_of_version_1_is_read(tmp_path: Path) -> None:
    record.write_record(tmp_path, content(status="failed", reason="why"))
    rewritten(tmp_path, lambda read: (read.pop("result"), read.update(schema=1)))
    assert record.read_record(tmp_path).reason == "why"


def test_a_damaged_record_is_left_out_named_and_warned_about(tmp_path: Path) -> None:
    record.write_record(tmp_path / "good", content("good"))
    record.write_record(tmp_path / "bad", content("bad"))
    path = tmp_path / "bad" / "record.json"
    path.write_text(path.read_text().replace("0.5", "0.9"))
    with pytest.warns(UserWarning, match=r"left out: .*bad.*checksum"):
        frame = load_runs(tmp_path)
    assert list(frame["run_id"]) == ["good"]
    assert [Path(folder).name for folder, _ in frame.attrs["damaged"]] == ["bad"]


def test_a_copied_folder_counts_its_run_once_and_is_named(tmp_path: Path) -> None:
    for name in ("run", "run-copy"):
        record.write_record(tmp_path / name, content("run"))
    with pytest.warns(UserWarning, match=r"left out: .*run-copy is a copy of run; move it out of the store"):
        assert list(load_runs(tmp_path)["folder"]) == [str(tmp_path / "run")]


def test_quarantine_keeps_every_byte_and_every_earlier_one(tmp_path: Path) -> None:
    for number in range(2):
        record.write_record(tmp_path / "run", content(seed=number))
        moved = quarantine(tmp_path / "run")
        assert json.loads((moved / "record.json").read_text())["seed"] == number
    assert not (tmp_path / "run").exists()
    assert len(list((tmp_path / "quarantine").iterdir())) == 2
    assert load_runs(tmp_path).empty


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record.write_record(tmp_path, content(seed=1))

    def broken(*_: object) -> None:
        raise OSError("disk full")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, broken)
            with pytest.raises(OSError, match="disk full"):
                record.write_record(tmp_path, content(seed=2))
        assert record.read_record(tmp_path).seed == 1
        assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_file_that_is_not_what_the_record_says_is_named(tmp_path: Path) -> None:
    save_arrays(tmp_path / SPECTRA, {"q": {"sigma": np.ones(3)}})
    save_history(tmp_path, [{"step": 1}])
    record.write_record(tmp_path, content(files=files_of(tmp_path)))
    assert set(record.read_record(tmp_path).completed.files) == {"spectra.npz", "metrics.jsonl"}
    assert load_spectra(tmp_path)["q"]["sigma"].tolist() == [1, 1, 1]
    check_file(tmp_path, "metrics.jsonl")
    (tmp_path / "metrics.jsonl").write_text('{"step": 2}\n')
    with pytest.raises(record.DamagedRecord, match=r"metrics.jsonl is not what was written"):
        check_file(tmp_path, "metrics.jsonl")
    save_arrays(tmp_path / SPECTRA, {"q": {"sigma": np.zeros(3)}})
    with pytest.raises(record.DamagedRecord, match=r"spectra.npz is not what was written"):
        load_spectra(tmp_path)


def test_tables(tmp_path: Path) -> None:
    record.write_record(tmp_path / "b", content("b"))
    record.write_record(tmp_path / "a", content("a", status="running"))
    runs = load_runs(tmp_path).set_index("run_id")
    assert runs.loc["b", "metrics.test/accuracy"] == 0.5
    assert runs.loc["a", "status"] == "running"
    matrices = load_matrices(tmp_path)
    assert matrices.loc[0, ["run_id", "matrix", "null.effective_rank"]].tolist() == ["b", "m", 1.9]
    assert load_truncation(tmp_path)[["run_id", "k", "part"]].to_numpy().tolist() == [["b", 0, "cut"]]


def test_a_record_of_absurd_size_is_not_even_read(tmp_path: Path) -> None:
    (tmp_path / record.RECORD).touch()
    os.truncate(tmp_path / record.RECORD, 2**28 + 1)  # a hole, which takes no room
    with pytest.raises(record.DamagedRecord, match="268435457 bytes"):
        record.read_record(tmp_path)
    os.truncate(tmp_path / record.RECORD, 2**12)
    with pytest.raises(record.DamagedRecord, match="is not whole"):
        record.read_record(tmp_path)


def test_the_score_of_a_run_is_its_primary_metric_on_its_split() -> None:
    result = content(metrics={"test/accuracy": 0.5, "validation/accuracy": 0.25, "test/f1": 0.75}).completed
    assert (result.score("test"), result.score("validation")) == (0.5, 0.25)
    result = content(metrics={"test/accuracy": None}).completed
    assert np.isnan(result.score("test"))
    assert np.isnan(result.score("validation"))


def test_tables_of_an_empty_store_have_the_columns_that_are_looked_up(tmp_path: Path) -> None:
    runs = load_runs(tmp_path)
    assert runs.empty
    assert list(runs.columns) == ["run_id", "status", "method", "rank"]
    assert load_matrices(tmp_path).empty
    assert load_truncation(tmp_path).empty


def test_a_warning_of_a_damaged_record_points_at_who_reads(tmp_path: Path) -> None:
    record.write_record(tmp_path / "bad", content("good"))
    with pytest.warns(UserWarning, match="left out") as warned:
        load_runs(tmp_path)
    assert warned[0].filename == __file__


def test_spectra_and_tensors_come_back_to_the_bit(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    sigma = np.random.default_rng(0).random(5)
    save_arrays(tmp_path / SPECTRA, {"layer.0.q": {"sigma": sigma, "U": np.eye(2, dtype=np.float32)}})
    assert np.array_equal(load_spectra(tmp_path)["layer.0.q"]["sigma"], sigma)
    shared = torch.randn(3, 4)
    save_tensors(tmp_path / "t.safetensors", {"a": shared, "b": shared, "c": shared.t()})
    loaded = load_file(tmp_path / "t.safetensors")
    assert torch.equal(loaded["a"], shared)
    assert torch.equal(loaded["c"], shared.t())


def asked(known: Callable[..., Any], folder: Path, of_itself: bool, path: Any = ".", *rest: Any, **more: Any) -> Any:
    """What the system's function says, and that nothing in the folder may be looked at."""
    place = Path() if isinstance(path, int) else Path(os.fsdecode(path))
    if folder in place.parents or (of_itself and place == folder):
        raise PermissionError(13, "Permission denied", str(place))
    return known(path, *rest, **more)


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Let nothing in a folder be looked at, as for a person without a right to it."""

    def forbid(folder: Path) -> None:
        for name in ("scandir", "lstat", "stat", "open", "listdir"):
            monkeypatch.setattr(os, name, partial(asked, getattr(os, name), folder, name in ("scandir", "listdir")))

    return forbid


def test_a_store_that_may_not_be_read_is_one_line(
    tmp_path: Path, forbid: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    record.write_record(tmp_path / "runs" / "one", content("one"))
    forbid(tmp_path / "runs")
    with pytest.raises(ConfigError, match=r"the runs in .*runs may not be read; name another folder"):
        record.scan(tmp_path / "runs")
    assert analysis_main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_that_may_not_be_read_is_named_and_the_others_are_read(
    tmp_path: Path, forbid: Callable[[Path], None]
) -> None:
    for name in ("one", "two"):
        record.write_record(tmp_path / name, content(name))
    (tmp_path / "cwd").symlink_to(tmp_path / "two" / "inside")
    forbid(tmp_path / "two")
    records, damages = record.scan(tmp_path)
    assert [folder.name for folder in records] == ["one"]
    assert [damage.folder.name for damage in damages] == ["two"]
    assert "cannot be read: [Errno 13] Permission denied" in damages[0].reason


@pytest.mark.skipif(not Path("/proc/1/cwd").is_symlink(), reason="only Linux has it")
def test_links_that_lead_where_one_may_not_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert analysis_main(["--runs", "/proc/1", "--out", str(tmp_path)]) == 2
    assert "Permission" not in capsys.readouterr().err.splitlines()[-1]
