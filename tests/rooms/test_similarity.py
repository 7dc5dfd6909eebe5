"""`python -m analysis similarity`: directions that were kept are compared without a store; measured rows are whole."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import study

from analysis.__main__ import main
from analysis.study.kept import Place, kept, similarity
from analysis.study.records import RECORDS, Records, load
from lorax_lab.errors import ConfigError
from lorax_lab.spectra import random_similarity_std, subspace_similarity
from lorax_lab.study.rows import Afterwards, read_rows, write_rows


def directions_kept() -> Records:
    """Directions of two LoRA runs and a full one; the second LoRA's top two rows are the first's."""
    draw, size = np.random.default_rng(2), 32
    one, other, full = (np.linalg.qr(draw.standard_normal((size, k))).Q for k in (2, 8, 6))
    other = np.linalg.qr(np.hstack([one, other[:, :6]])).Q
    sides = {
        ("LoRA r=2", 0): {"A": one, "row": one},
        ("LoRA r=8", 1): {"A": other, "row": other},
        ("full", 1): {"row": full},
    }
    rows = []
    for (arm, seed), of_run in sides.items():
        for side, vectors in of_run.items():
            place = {"condition": "sarcasm", "arm": arm, "seed": seed, "matrix": "layer.2.query", "side": side}
            rows.append(place | {"k": vectors.shape[1], "d": size, "vectors": vectors.T.astype(np.float16).ravel()})
    return dataclasses.replace(study(tasks=("sarcasm",)), rows={"directions": rows})


HERE = Place("sarcasm", "query", "A")


def test_kept_directions_are_compared_without_a_store() -> None:
    records = directions_kept()
    found, chance = similarity(records, HERE, "LoRA r=2:0", "LoRA r=8:1", 2, 2)
    assert (found, chance) == (pytest.approx(1.0, abs=1e-3), 2 / 32)
    rows = Place("sarcasm", "query", "row")
    found, _ = similarity(records, rows, "LoRA r=2:0", "full:1", 1, 6)
    vectors = kept(records, rows, "LoRA r=2:0", 1), kept(records, rows, "full:1")
    assert found == pytest.approx(float(np.square(vectors[0].T @ vectors[1]).sum()))
    assert vectors[1].T @ vectors[1] == pytest.approx(np.eye(6))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"one": "LoRA r=2:7"}, "LoRA r=2:7"),
        ({"i": 3}, "-i 3"),
        ({"j": 0}, "-j 0"),
        ({"one": "LoRA r=8:1"}, "LoRA r=8:1 twice"),
        ({"one": "full:1", "place": Place("sarcasm", "query", "row")}, "have the seed 1 in common"),
        ({"other": "full:1"}, "--side A: its directions were not kept"),
        ({"place": Place("sarcasm", "value", "A")}, "--matrix value"),
        ({"place": Place("reviews", "query", "A")}, "--task reviews"),
    ],
)
def test_directions_that_were_not_kept_are_refused(changed: dict[str, Any], message: str) -> None:
    asked = {"place": HERE, "one": "LoRA r=2:0", "other": "LoRA r=8:1", "i": 2, "j": 8} | changed
    with pytest.raises(ConfigError) as error:
        similarity(directions_kept(), **asked)
    assert message in str(error.value)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_directions_that_are_not_orthonormal_are_refused(value: float) -> None:
    records = directions_kept()
    bad = np.full(2 * 32, value, np.float16)
    rows = [row | {"vectors": bad} if row["arm"] == "LoRA r=2" else row for row in records.rows["directions"]]
    with pytest.raises(ConfigError, match=r"of LoRA r=2:0 in layer\.2\.query are damaged: they are not orthonormal"):
        similarity(dataclasses.replace(records, rows={"directions": rows}), HERE, "LoRA r=2:0", "LoRA r=8:1", 1, 1)


def test_directions_of_two_bases_are_refused() -> None:
    """The other run's matrix is as wide as another base's: no φ is made of the two."""
    records = directions_kept()
    wide = np.linalg.qr(np.random.default_rng(3).standard_normal((48, 6))).Q
    row = next(row for row in records.rows["directions"] if row["arm"] == "full")
    other = row | {"d": 48, "vectors": wide.T.astype(np.float16).ravel()}
    rows = [other if old is row else old for old in records.rows["directions"]]
    records = dataclasses.replace(records, rows={"directions": rows})
    with pytest.raises(ConfigError, match="of 32 numbers and full:1 of 48; compare runs of one base"):
        similarity(records, Place("sarcasm", "query", "row"), "LoRA r=2:0", "full:1", 1, 6)


def test_rows_of_other_runs_than_the_published_ones_are_named_and_not_read(tmp_path: Path) -> None:
    folder = shutil.copytree(RECORDS / "paper_amplification", tmp_path / "paper_amplification")
    assert load(folder).rows["factors"]
    sarcasm = read_rows(folder, "factors")["sarcasm"]
    write_rows(folder, "factors", {"sarcasm": Afterwards([*sarcasm.runs[1:], "another-run"], sarcasm.rows)})
    records = load(folder)
    assert records.rows["factors"] == []
    assert any("sarcasm" in damage for damage in records.damages)


def test_rows_of_a_condition_that_the_study_does_not_have_are_named(tmp_path: Path) -> None:
    folder = shutil.copytree(RECORDS / "paper_amplification", tmp_path / "paper_amplification")
    measured = read_rows(folder, "factors")
    irony = [row | {"condition": "irony"} for row in measured["sarcasm"].rows]
    write_rows(folder, "factors", measured | {"irony": Afterwards(measured["sarcasm"].runs, irony)})
    records = load(folder)
    assert any("irony" in damage for damage in records.damages)
    assert {row["condition"] for row in records.rows["factors"]} == set(records.conditions)


def test_a_study_without_directions_and_one_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["similarity", "rank_sweep_2", "full:0", "full:1"]) == 2
    assert "rank_sweep_2 has kept no directions" in capsys.readouterr().err
    assert main(["similarity", "nothing", "full:0", "full:1"]) == 2
    assert "there are no records of a study" in capsys.readouterr().err


def test_chance_has_the_spread_of_random_subspaces() -> None:
    import torch

    stream = torch.Generator().manual_seed(0)

    def drawn(k: int) -> torch.Tensor:
        return torch.linalg.qr(torch.randn(48, k, generator=stream, dtype=torch.float64)).Q

    for i, j in ((1, 1), (2, 8), (8, 16)):
        values = [subspace_similarity(drawn(i), drawn(j)) for _ in range(400)]
        assert np.std(values) == pytest.approx(random_similarity_std(i, j, 48), rel=0.2)
