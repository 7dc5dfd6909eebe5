"""Rows that were measured afterwards and whose parts are of other types are damaged and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from lorax_lab.study.measured_rows import ROWS, Measured, path_of, read_rows, write_rows
from lorax_lab.study.row_shapes import SHAPES, check_row
from test_shapes import WRONG, Place, changed

from analysis.paper import page
from analysis.study import similarities
from analysis.study.figures import FIGURES
from analysis.study.records import RECORDS, load
from lorax_lab.record.sums import write_summed

CUT = {"seed": 0, "set": "query", "k": "whole", "correct": "0f"}


def first(name: str) -> dict[str, Any]:
    """A published row; a made one where none is published."""
    for study in sorted(RECORDS.glob("paper_*.jsonl")):
        measured, _ = read_rows(path_of(study, name))
        for of in measured.values():
            return of.rows[0]
    return {"condition": "sarcasm"} | CUT


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("similarities", ("phi", 0, 0), 1001, "phi.0.0: Input should be less than or equal to 1000, and not 1001"),
        ("similarities", ("phi",), [], "phi has not 8 rows of 20 numbers"),
        ("similarities", ("each", "1,1"), "all", "each.1,1: Input should be a valid array, and not 'all'"),
        ("factors", ("factor",), "2.5", "factor: Input should be a valid number, and not '2.5'"),
        ("factors", ("seed",), None, "seed: Input should be a valid integer, and not None"),
        ("sets", ("correct",), "right", "correct: String should match pattern"),
        ("sets", ("k",), "all", "k: Input should be a valid integer, and not 'all'"),
        ("directions", ("vectors",), "AAAA", "vectors has 3 bytes, where k and d ask for"),
        ("directions", ("vectors",), "?", "vectors is not base64"),
    ],
)
def test_a_row_with_a_part_of_another_type_is_named(
    tmp_path: Path, name: str, place: Place, value: Any, message: str
) -> None:
    path = tmp_path / f"made.{name}.rows"
    write_rows(path, {"sarcasm": Measured(["run"], 1, [changed(first(name), place, value)])})
    measured, damages = read_rows(path)
    assert measured["sarcasm"].rows == []
    assert damages[0].startswith(f"made.{name}.rows, line 2: ")
    assert message in damages[0]
    assert f"of sarcasm 0 of 1 {ROWS} are intact" in damages[1]


@pytest.mark.parametrize(
    ("key", "value"), [("runs", "abc"), ("runs", [1]), ("rows", True), ("rows", 1.5), ("condition", None)]
)
def test_a_head_with_a_part_of_another_type_is_named(tmp_path: Path, key: str, value: Any) -> None:
    path = tmp_path / "made.sets.rows"
    head = {"condition": "sarcasm", "runs": ["run"], "rows": 1}
    row = {"condition": "sarcasm"} | CUT
    write_summed(path, "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in (head | {key: value}, row)))
    measured, damages = read_rows(path)
    assert damages[0].startswith(f"made.sets.rows, line 1: {key}")
    assert not measured["sarcasm"].is_whole


@pytest.mark.parametrize("name", SHAPES)
def test_no_key_of_a_row_takes_every_type(name: str) -> None:
    row = first(name)
    check_row(name, json.dumps(row))
    for key, field in SHAPES[name].model_fields.items():
        refused = 0
        for value in WRONG:
            try:
                check_row(name, json.dumps(changed(row, (key,), value)))
            except ValueError:
                refused += 1
        assert refused >= 3, key
        without = json.dumps({own: part for own, part in row.items() if own != key})
        if not field.is_required():
            check_row(name, without)
            continue
        with pytest.raises(ValueError, match=f"{key}: Field required"):
            check_row(name, without)


def test_a_study_whose_rows_are_damaged_has_its_page_without_them(tmp_path: Path) -> None:
    for file in RECORDS.glob("paper_subspaces*"):
        shutil.copy(file, tmp_path)
    study_file = tmp_path / "paper_subspaces.jsonl"
    measured, _ = read_rows(path_of(study_file, similarities.NAME))
    measured["sarcasm"].rows[0] |= {"d": "384"}
    write_rows(path_of(study_file, similarities.NAME), measured)
    records = load(study_file)
    assert "paper_subspaces.similarities.rows, line 2: d: Input should be a valid integer" in records.damages[0]
    assert {row["condition"] for row in records.rows[similarities.NAME]} == set(records.conditions) - {"sarcasm"}
    assert set(FIGURES["ranks_share"].table(records)["task"]) == set(records.conditions) - {"sarcasm"}
    text = page.write([records], {"paper_subspaces": "study/paper_subspaces"})
    assert "**Not shown.** `paper_subspaces` is not complete, or breaks its protocol: damaged: paper_subspaces" in text
