"""Published runs: what they keep of a run, that damage is found, and that the same runs give the same bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ran, write_csv

from lorax_lab.audit.__main__ import main as audit
from lorax_lab.config.defaults import flat
from lorax_lab.record import load_spectra, read_record
from lorax_lab.record.clusters import GROUPS
from lorax_lab.record.folder import OUTPUTS, load_arrays
from lorax_lab.record.measures import rows
from lorax_lab.study.answers import CORRECT, CUT_ANSWERS, LOSSES, by_example, cuts_by_example, with_groups
from lorax_lab.study.published import line_of, read_lines, write_lines


@pytest.fixture(scope="module")
def store(small_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two full fine-tunes with controls, one trial."""
    runs = tmp_path_factory.mktemp("published") / "runs"
    words = [*small_words, "task.test_examples=60", f"runs_dir={runs}"]
    ran(*words, "method=full", "measure=controls", "seed=0,1", "-m")
    ran(*words, "rank=2", "measure=trial")
    return runs


def folders(store: Path, measure: str) -> list[Path]:
    found = [path.parent for path in sorted(store.glob("*/record.json"))]
    return [folder for folder in found if read_record(folder).config["measure"] == measure]


def test_a_line_keeps_what_the_tables_need(store: Path) -> None:
    folder = folders(store, "controls")[0]
    line, record = line_of(folder), read_record(folder)
    assert line[CORRECT].mean() == pytest.approx(record.completed.metrics["test/accuracy"])
    assert len(line[CORRECT]) == 60
    losses = by_example(line, LOSSES)
    assert len(losses) == 60
    assert (losses[line[CORRECT]] < np.log(2) + 1e-3).all()  # of two classes
    assert (losses[~line[CORRECT]] > np.log(2) - 1e-3).all()
    assert len(line["functional"]) == len(record.completed.truncation)
    spectra = load_spectra(folder)
    for name, row in line["matrices"].items():
        np.testing.assert_array_equal(row["sigma"], spectra[name]["sigma"].astype(np.float32))
    assert str(store) not in str(line)
    assert str(Path(record.config["task"]["path"])) not in str(line)


def test_cuts_on_test_are_those_of_the_controls(store: Path, small_words: list[str], tmp_path: Path) -> None:
    words = [*small_words, "task.test_examples=60", f"runs_dir={tmp_path}"]
    ran(*words, "method=full", "measure=test_cuts", "seed=0")
    line, of_controls = line_of(folders(tmp_path, "test_cuts")[0]), line_of(folders(store, "controls")[0])
    answers, expected = line[CUT_ANSWERS], of_controls[CUT_ANSWERS]
    sides = [min(row["shape"]) for row in line["matrices"].values()]
    assert {k for part, k in answers if part == "cut"} == {k for _, k in expected} | {max(sides) // 16}
    for place in expected:
        np.testing.assert_array_equal(answers[place], expected[place])
    write_lines(tmp_path / "published", [line])
    (again,) = read_lines(tmp_path / "published")
    assert again["functional"] == line["functional"]
    assert again[CUT_ANSWERS].keys() == answers.keys()  # also those that have no score on validation
    for place in answers:
        np.testing.assert_array_equal(again[CUT_ANSWERS][place], answers[place])


def test_test_examples_of_one_group_are_read_as_one(small_words: list[str], table_file: Path, tmp_path: Path) -> None:
    (names, *texts) = [line.rsplit(",", 1) for line in table_file.read_text().splitlines()]
    rows = [(*text, f"speech {i % 100}") for i, text in enumerate(texts)]  # each with up to four test examples
    table = write_csv(tmp_path / "speeches.csv", (*names, "speech"), *rows)
    words = [*small_words, f"task.path={table}", "task.group=speech", "task.group_near_duplicates=false"]
    ran(*words, "task.test_examples=60", f"runs_dir={tmp_path}", "method=full", "measure=test_cuts", "seed=0")
    (folder,) = folders(tmp_path, "test_cuts")
    line = line_of(folder)
    write_lines(tmp_path / "published", [line])
    (again,) = read_lines(tmp_path / "published")
    np.testing.assert_array_equal(again[GROUPS], line[GROUPS])
    sizes = np.bincount(again[GROUPS])
    assert (sizes.sum(), sizes.min(), sizes.max()) == (60, 4, 4)
    by_group = {-1: by_example(again, CORRECT)} | cuts_by_example(again, CORRECT, "cut")
    of_examples = {-1: again[CORRECT]} | {k: right for (part, k), right in again[CUT_ANSWERS].items() if part == "cut"}
    for k, values in by_group.items():
        np.testing.assert_allclose(values, [of_examples[k][again[GROUPS] == group].mean() for group in range(15)])
    assert len(by_example(again, LOSSES)) == 15
    assert GROUPS not in load_arrays(folder, OUTPUTS)["cut/0"]  # once in a run
    older = {key: value for key, value in line.items() if key != GROUPS}
    other = older | {"inputs": older["inputs"] | {"data_sha256": "another"}}
    shared, own = with_groups([older, line, other])[::2]
    np.testing.assert_array_equal(shared[GROUPS], line[GROUPS])
    assert GROUPS not in own


def test_record_line_and_audit_have_one_row_for_one_matrix(store: Path, model_folder: Path, tmp_path: Path) -> None:
    folder = folders(store, "controls")[0]
    record, line = rows(folder), line_of(folder)["matrices"]
    assert audit([str(model_folder), str(folder / "model.safetensors"), "--out", str(tmp_path / "audit")]) == 0
    audited = {row["matrix"]: row for row in pd.read_csv(tmp_path / "audit" / "audit.csv").to_dict("records")}
    for name, recorded in record.items():
        row, published = flat(recorded), flat(line[name])
        measures = {key: value for key, value in row.items() if isinstance(value, float)}
        assert {"spikes", "bulk_misfit", "above_rounding", "numerical_rank", "null.stable_rank"} <= set(measures)
        assert {key: published[key] for key in measures} == pytest.approx(measures, rel=1e-5)
        of_audit = audited[f"{name}.weight".removeprefix("bert.")]
        drawn = {key for key in measures if key.startswith("nulls.")}  # from another stream in each
        assert {key.split(".")[1] for key in drawn} == {"scaled", "signs", "permuted"}
        measured = {key: value for key, value in measures.items() if key not in drawn}
        assert {key: of_audit[key] for key in measured} == pytest.approx(measured, rel=1e-5)
        ranks = {key: measures[key] for key in drawn if key.endswith(".effective_rank")}
        assert {key: of_audit[key] for key in ranks} == pytest.approx(ranks, rel=0.15)
        assert all(row[key] == published[key] == of_audit[key] for key in ("module", "layer"))


def test_runs_come_back_and_the_same_runs_are_the_same_bytes(store: Path, tmp_path: Path) -> None:
    lines = [line_of(folder) for folder in folders(store, "controls") + folders(store, "trial")]
    write_lines(tmp_path / "a", lines)
    write_lines(tmp_path / "b", lines[::-1])
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    back = read_lines(tmp_path / "a")
    for line, read in zip(sorted(lines, key=lambda line: line["run_id"]), back, strict=True):
        assert_same(line, read)
    assert read_lines(tmp_path / "none") == []


def assert_same(one: Any, other: Any) -> None:
    """Equal but for parts that are None, which are left out."""
    if isinstance(one, Mapping):
        for key, value in one.items():
            if value is not None and not (isinstance(value, Mapping) and not value):
                assert_same(value, other[key])
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other
