"""The list of records that were checked: it saves time, and no damage passes because of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from recorded import run_record

from lorax_lab.record import load_matrices, load_runs, record, verified
from lorax_lab.record.result import without_matrices

ROWS = {"m": {"shape": [2, 3], "effective_rank": 1.5, "null": {"effective_rank": 1.9}}}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for seed in range(3):
        run_id = f"a-lora-r4-s{seed}-0"
        record.write_record(tmp_path / run_id, run_record(run_id, seed=seed, matrices=ROWS, metrics={"x": 0.1}))
    verified.known.cache_clear()
    return tmp_path


def scanned(store: Path) -> list[record.Record]:
    """What a new process reads."""
    verified.known.cache_clear()
    records, damages = record.scan(store, list_verified=True)
    assert not damages
    return list(records.values())


def test_a_listed_record_is_read_as_one_that_is_checked_in_full(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scanned(store)
    assert len((store / verified.NAME).read_text().split()) == 3
    monkeypatch.setattr(record, "_checked", None)  # whoever calls it fails
    assert scanned(store) == first
    assert [each.completed.matrices for each in first] == [ROWS] * 3


def test_an_altered_record_is_damaged_though_its_time_and_its_size_are_as_before(store: Path) -> None:
    scanned(store)
    path = store / "a-lora-r4-s1-0" / record.RECORD
    before, text = path.stat(), path.read_text()
    path.write_text(text.replace('"effective_rank": 1.5', '"effective_rank": 2.5'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    verified.known.cache_clear()
    records, damages = record.scan(store)
    assert [each.seed for each in records.values()] == [0, 2]
    assert "checksum does not match" in damages[0].reason
    path.write_text(text)
    assert [each.seed for each in scanned(store)] == [0, 1, 2]


@pytest.mark.parametrize("content", [b"", b"\xff\0", b"zz" * 32 + b"\n", ("0" * 64 + "\n").encode(), None])
def test_a_list_that_does_not_fit_is_made_anew(store: Path, content: bytes | None) -> None:
    first, path = scanned(store), store / verified.NAME
    whole = path.read_bytes()
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    assert scanned(store) == first
    assert path.is_dir() or path.read_bytes() == whole


def test_a_record_that_is_gone_leaves_the_list(store: Path) -> None:
    scanned(store)
    (store / "a-lora-r4-s1-0" / record.RECORD).unlink()
    assert len(scanned(store)) == 2
    assert len((store / verified.NAME).read_text().split()) == 2


def test_a_store_that_cannot_be_written_is_read(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, text: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(verified, "write_redacted", refuse)
    assert len(scanned(store)) == 3
    assert not (store / verified.NAME).exists()


def test_a_forged_layout_is_checked_in_full(store: Path) -> None:
    folder = store / "a-lora-r4-s0-0"
    (folder / record.RECORD).write_text("{}\n")
    digest = "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356"  # of these three signs
    (store / verified.NAME).write_text(f"{digest}\n")
    with pytest.raises(record.DamagedRecord, match="schema None"):
        record.read_record(folder)


def test_rows_have_every_leaf_by_its_name(store: Path) -> None:
    frame = load_runs(store)
    assert frame["metrics.x"].tolist() == [0.1] * 3
    assert frame["config.task.name"].tolist() == ["local"] * 3
    assert frame["git.commit"].tolist() == [None] * 3
    assert frame["inputs.classes"].tolist() == [["no", "yes"]] * 3
    assert not [name for name in frame if name.startswith(("matrices", "result"))]


LIKE_MATRICES = {"model": "m", "task": {"name": "t"}, "measure": "standard", "matrices": {"a": 1}}
"""A configuration that has in a record the same place, and the same name, as the matrices of a result."""


def test_runs_are_the_same_when_their_matrices_are_not_read(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for run_id, changes in {
        "b-full": {"config": LIKE_MATRICES, "matrices": ROWS},
        "b-trial": {"config": LIKE_MATRICES, "matrices": {}, "reason": '"matrices": {\n }'},
        "b-killed": {"config": LIKE_MATRICES, "status": "killed"},
    }.items():
        record.write_record(store / run_id, run_record(run_id, **changes))
    first, matrices = load_runs(store), load_matrices(store)
    verified.known.cache_clear()
    monkeypatch.setattr(record, "_checked", None)
    cut: list[str] = []
    monkeypatch.setattr(record, "without_matrices", lambda text: cut.append(text) or without_matrices(text))
    pd.testing.assert_frame_equal(load_runs(store), first)
    assert len(cut) == 6
    assert first["config.matrices.a"].dropna().tolist() == [1.0] * 3
    verified.known.cache_clear()
    pd.testing.assert_frame_equal(load_matrices(store), matrices)
    assert len(matrices) == 4
    light = record.scan(store, matrices=False)[0]
    assert [found.completed.matrices for found in light.values() if found.result] == [{}] * 5


def test_a_record_that_is_altered_in_its_matrices_alone_is_left_out_of_the_runs(store: Path) -> None:
    load_runs(store)
    path = store / "a-lora-r4-s1-0" / record.RECORD
    path.write_text(path.read_text().replace('"effective_rank": 1.5', '"effective_rank": 2.5'))
    verified.known.cache_clear()
    with pytest.warns(UserWarning, match="left out: .*checksum does not match"):
        assert load_runs(store)["seed"].tolist() == [0, 2]


@pytest.mark.parametrize(
    "result", [None, {"matrices": {}}, {"matrices": ROWS}, {"a": 1, "matrices": ROWS, "z": {}}, {}]
)
@pytest.mark.parametrize("after", [{}, {"config": {"matrices": ROWS}}])
def test_only_the_matrices_of_the_result_are_cut_out(
    result: dict[str, object] | None, after: dict[str, object]
) -> None:
    whole = {"config": {"matrices": ROWS}, "result": result} | {f"{key} more": value for key, value in after.items()}
    expected = whole | {"result": result | {"matrices": {}} if result and "matrices" in result else result}
    assert json.loads(without_matrices(json.dumps(whole, indent=1))) == expected
