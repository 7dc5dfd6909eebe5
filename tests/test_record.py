"""Records: written whole, verified when read, damaged ones named and set aside."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorax_lab.store import record


def content(run_id: str = "a-lora-r4-s0-0", **changes: Any) -> dict[str, Any]:
    return {
        "schema": record.SCHEMA, "run_id": run_id, "status": "completed", "method": "lora", "rank": 4, "seed": 0,
        "config": {"model": "tiny", "task": {"name": "local"}}, "versions": {}, "git": {}, "hardware": {},
        "parameters": {"trainable": 10}, "memory": {"peak_bytes": 5}, "time": {}, "metrics": {"test/accuracy": 0.5},
        "matrices": {"m": {"shape": [2, 3], "effective_rank": 1.5, "null": {"effective_rank": 1.9}}},
        "functional": [{"k": 0, "part": "cut", "accuracy": 0.5}],
    } | changes  # fmt: skip


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    record.write_record(tmp_path / "run", content(metrics={"x": np.float64(0.25), "nan": float("nan")}))
    read = record.read_record(tmp_path / "run")
    assert read["metrics"] == {"x": 0.25, "nan": None}
    assert read | {"metrics": 0} == content(metrics=0)


@pytest.mark.parametrize("damage", ["cut", "number", "schema", "missing", "status", "list", "empty", "binary"])
def test_damage_is_named(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "run" / "record.json"
    changes: dict[str, Any] = {"schema": {"schema": 99}, "status": {"status": "done"}}.get(damage, {})
    whole = content(**changes)
    if damage == "missing":
        del whole["matrices"]
    record.write_record(path.parent, whole)
    text = path.read_text()
    path.write_text(text[:-40] if damage == "cut" else text.replace("0.5", "0.6", 1) if damage == "number" else text)
    if damage in ("list", "empty", "binary"):
        path.write_bytes({"list": b"[]", "empty": b"", "binary": bytes(range(256))}[damage])
    with pytest.raises(record.DamagedRecord, match=r"record\.json"):
        record.read_record(path.parent)
    assert record.status_of(path.parent) == "damaged"


def test_a_damaged_record_is_left_out_named_and_warned_about(tmp_path: Path) -> None:
    record.write_record(tmp_path / "good", content("good"))
    record.write_record(tmp_path / "bad", content("bad"))
    path = tmp_path / "bad" / "record.json"
    path.write_text(path.read_text().replace("0.5", "0.9"))
    with pytest.warns(UserWarning, match=r"left out: .*bad.*checksum"):
        frame = record.load_runs(tmp_path)
    assert list(frame["run_id"]) == ["good"]
    assert [Path(folder).name for folder, _ in frame.attrs["damaged"]] == ["bad"]


def test_quarantine_keeps_every_byte_and_every_earlier_one(tmp_path: Path) -> None:
    for number in range(2):
        record.write_record(tmp_path / "run", content(seed=number))
        moved = record.quarantine(tmp_path / "run")
        assert json.loads((moved / "record.json").read_text())["seed"] == number
    assert not (tmp_path / "run").exists()
    assert len(list((tmp_path / "quarantine").iterdir())) == 2
    assert record.load_runs(tmp_path).empty


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record.write_record(tmp_path, content(seed=1))

    def broken(*_: object) -> None:
        raise OSError("disk full")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, broken)
            with pytest.raises(OSError, match="disk full"):
                record.write_record(tmp_path, content(seed=2))
        assert record.read_record(tmp_path)["seed"] == 1
        assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_file_that_is_not_what_the_record_says_is_named(tmp_path: Path) -> None:
    record.save_arrays(tmp_path / record.SPECTRA, {"q": {"sigma": np.ones(3)}})
    record.save_history(tmp_path, [{"step": 1}])
    record.write_record(tmp_path, content(files=record.files_of(tmp_path)))
    assert set(record.read_record(tmp_path)["files"]) == {"spectra.npz", "metrics.jsonl"}
    assert record.load_spectra(tmp_path)["q"]["sigma"].tolist() == [1, 1, 1]
    record.check_file(tmp_path, "metrics.jsonl")
    (tmp_path / "metrics.jsonl").write_text('{"step": 2}\n')
    with pytest.raises(record.DamagedRecord, match=r"metrics.jsonl is not what was written"):
        record.check_file(tmp_path, "metrics.jsonl")
    record.save_arrays(tmp_path / record.SPECTRA, {"q": {"sigma": np.zeros(3)}})
    with pytest.raises(record.DamagedRecord, match=r"spectra.npz is not what was written"):
        record.load_spectra(tmp_path)


def test_tables(tmp_path: Path) -> None:
    record.write_record(tmp_path / "b", content("b"))
    record.write_record(tmp_path / "a", content("a", status="running"))
    runs = record.load_runs(tmp_path).set_index("run_id")
    assert runs.loc["b", "metrics.test/accuracy"] == 0.5
    assert runs.loc["a", "status"] == "running"
    matrices = record.load_matrices(tmp_path)
    assert matrices.loc[0, ["run_id", "matrix", "null.effective_rank"]].tolist() == ["b", "m", 1.9]
    assert record.load_functional(tmp_path)[["run_id", "k", "part"]].to_numpy().tolist() == [["b", 0, "cut"]]


def test_spectra_and_tensors_come_back_to_the_bit(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    sigma = np.random.default_rng(0).random(5)
    record.save_arrays(tmp_path / record.SPECTRA, {"layer.0.q": {"sigma": sigma, "U": np.eye(2, dtype=np.float32)}})
    assert np.array_equal(record.load_spectra(tmp_path)["layer.0.q"]["sigma"], sigma)
    shared = torch.randn(3, 4)
    record.save_tensors(tmp_path / "t.safetensors", {"a": shared, "b": shared, "c": shared.t()})
    loaded = load_file(tmp_path / "t.safetensors")
    assert torch.equal(loaded["a"], shared)
    assert torch.equal(loaded["c"], shared.t())
