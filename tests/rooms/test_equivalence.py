"""Versions of the code shown to be equivalent: which runs are compared, what counts as moved, what follows from it."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lorax_lab.study.equivalence import equivalence_path, proven, read_proofs
from safetensors.torch import save_file
from synthetic import study

from analysis.study.validator import breaches
from experiments import compare, equivalence
from lorax_lab.errors import ConfigError
from lorax_lab.study.protocol import Cell

MEASURED = {"numbers": 9, "present_dirty": False}


def folder(path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Path:
    """A run of two weights, one measure and one output."""
    path.mkdir()
    weights = torch.tensor([1.0, 2.0 + changes.pop("weight", 0.0)])
    save_file({"lora_A": weights}, path / "adapter_model.safetensors")
    np.savez(path / "outputs.npz", **{"test/outputs": np.array([[0.5, changes.pop("output", 0.25)]])})
    content = {"metrics": {"test/accuracy": 0.5}, "matrices": {"q": {"stable_rank": 3.0}}, "functional": None} | changes
    (path / "content.json").write_text(json.dumps(content))
    monkeypatch.setattr(compare, "content_of", lambda run: json.loads((run / "content.json").read_text()))
    return path


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"weight": 2.0**-22}, "adapter_model.safetensors: lora_A"),
    ({"output": 0.25 + 2.0**-18}, "outputs.npz: test/outputs"),
    ({"output": float("nan")}, "outputs.npz: test/outputs"),
    ({"metrics": {"test/accuracy": 0.5 + 2.0**-20}}, "metrics/test/accuracy: 0.5 became 0.50000095367"),
    ({"metrics": {"test/accuracy": 1}}, "metrics/test/accuracy: 0.5 became 1"),
    ({"matrices": {"q": {"stable_rank": 4.0}}}, "matrices/q/stable_rank: 3.0 became 4.0"),
    ({"matrices": {"q": {}}}, "matrices/q/stable_rank: is missing"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=[f"{said} {change}" for change, said in CHANGES])
def test_a_number_that_moves_is_named(
    change: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = folder(tmp_path / "a", monkeypatch), folder(tmp_path / "b", monkeypatch, **change)
    moves = compare.differences(before, after)
    assert moves.numbers == 2 + 2 + 1 + 1
    assert len(moves.moved) == 1
    assert moves.moved[0].startswith(said)


@pytest.mark.parametrize(
    ("change", "rounding"),
    [({"output": 0.25 + 2.0**-30}, 2.0**-29), ({"metrics": {"test/accuracy": 0.5 + 2.0**-50}}, 2.0**-49)],
)
def test_what_another_order_of_sums_makes_moves_nothing_and_is_measured(
    change: dict[str, Any], rounding: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = folder(tmp_path / "a", monkeypatch), folder(tmp_path / "b", monkeypatch, **change)
    assert compare.differences(before, after) == compare.Moves(6, [], pytest.approx(rounding))


def test_the_same_bits_and_a_new_measure_move_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"q": {"stable_rank": 3.0, "a_new_measure": 1.0}}
    before, after = folder(tmp_path / "a", monkeypatch), folder(tmp_path / "b", monkeypatch, matrices=more)
    assert compare.differences(before, after) == compare.Moves(6, [], 0.0)


def finals() -> list[tuple[Cell, dict[str, Any]]]:
    records = study()
    pairs = [(records.cell(line), line) for line in records.lines]
    return [(cell, line) for cell, line in pairs if cell and cell.stage == "final"]


def test_one_run_of_each_version_that_is_not_proven_is_compared() -> None:
    def code(cell: Cell) -> str:
        return "present full" if cell.arm == "full" else "present lora"

    sample = equivalence.choose(finals(), set(), None, code)
    assert [line["method"] for _, line in sample] == ["full", "lora"]
    recorded = "c" * 64
    sample = equivalence.choose(finals(), {(recorded, "present full")}, None, code)
    assert [line["method"] for _, line in sample] == ["lora"]
    assert not equivalence.choose(finals(), {(recorded, "present full"), (recorded, "present lora")}, 5, code)
    more = equivalence.choose(finals(), set(), 3, code)
    assert [cell.arm for cell, _ in more] == ["full", "LoRA r=1", "LoRA r=8"]
    assert len(equivalence.choose(finals(), set(), 1, code)) == 1
    with pytest.raises(ConfigError, match="1 or more"):
        equivalence.choose(finals(), set(), 0, code)
    assert equivalence.choose(finals(), set(), None, lambda cell: recorded) == []


def test_a_proof_is_kept_once_and_counts_only_where_nothing_moved(tmp_path: Path) -> None:
    lines = tmp_path / "made.jsonl"
    proof = {"recorded_code": "a", "present_code": "b", "run_id": "r", "moved": ["metrics/test"]} | MEASURED
    equivalence._write(lines, proof)
    assert proven(lines) == set()
    equivalence._write(lines, proof | {"moved": []})
    equivalence._write(lines, proof | {"moved": [], "run_id": "other"})
    assert proven(lines) == {("a", "b")}
    assert len(read_proofs(lines)) == 2


def test_a_version_that_moved_in_one_run_is_not_proven_by_another(tmp_path: Path) -> None:
    lines = tmp_path / "made.jsonl"
    proof = {"recorded_code": "a", "present_code": "b", "run_id": "r", "moved": []} | MEASURED
    equivalence._write(lines, proof)
    equivalence._write(lines, proof | {"run_id": "other", "moved": ["metrics/test"]})
    assert proven(lines) == set()


def test_runs_of_proven_versions_stand_side_by_side() -> None:
    records = study()
    lines = copy.deepcopy(records.lines)
    for line in lines[-3:]:
        line["code"] = "d" * 64
    mixed = dataclasses.replace(records, lines=lines)
    assert any("2 versions of the code" in breach for breach in breaches(mixed))
    assert breaches(dataclasses.replace(mixed, equivalent=frozenset({("c" * 64, "d" * 64)}))) == []


def test_methods_may_have_code_of_their_own_and_share_the_rest() -> None:
    """The first half is shared by all methods; the second is each method's."""
    records = study()
    lines = copy.deepcopy(records.lines)
    for line in lines:
        line["code"] = "c" * 32 + {"full": "1", "lora": "2"}[line["method"]] * 32
    assert breaches(dataclasses.replace(records, lines=lines)) == []
    for line in lines:
        if line["method"] == "full":
            line["code"] = "e" * 32 + "1" * 32
    assert any("2 versions of the code" in b for b in breaches(dataclasses.replace(records, lines=lines)))


def test_an_unknown_study_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    assert equivalence.main(["rank_swep", "--dry-run"]) == 2
    assert "did you mean 'rank_sweep'" in capsys.readouterr().err


def test_a_commit_that_is_not_here_is_answered() -> None:
    with pytest.raises(ConfigError, match="cannot check out ffffffffff"), equivalence.worktree("f" * 40):
        pass


@pytest.mark.parametrize("part", [{"numbers": 0}, {"present_dirty": True}])
def test_a_comparison_of_nothing_or_of_uncommitted_code_proves_nothing(tmp_path: Path, part: dict[str, object]) -> None:
    lines = tmp_path / "made.jsonl"
    proof = {"recorded_code": "a", "present_code": "b", "run_id": "r", "moved": []} | MEASURED
    equivalence_path(lines).write_text(json.dumps([proof]))
    assert proven(lines) == {("a", "b")}
    equivalence_path(lines).write_text(json.dumps([proof | part]))
    assert proven(lines) == set()
