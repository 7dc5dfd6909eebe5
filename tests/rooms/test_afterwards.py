"""What is measured of trained runs afterwards: against what the runs themselves recorded, and against chance."""

import dataclasses
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ran

from experiments.study_records import StudyRecords
from lorax_lab.afterwards.amplification import amplifications
from lorax_lab.afterwards.sets import WHOLE, sets
from lorax_lab.afterwards.similarities import START, similarities
from lorax_lab.afterwards.trained import Run, initial_factors, original, updates
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose, recorded
from lorax_lab.measure.truncation import seen_under
from lorax_lab.record.folder import OUTPUTS, load_arrays, load_spectra
from lorax_lab.spectra import subspace_similarities, svd
from lorax_lab.study.protocol import Cell
from lorax_lab.study.published import Afterwards as Rows
from lorax_lab.study.published import names_of, read_rows, write_rows

QUERY = "bert.encoder.layer.1.attention.self.query"
SMALL, LARGE = "LoRA r=2", "LoRA r=8"
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def runs(small_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Run]:
    """Full fine-tuning and LoRA of rank 2 and 8, two seeds each, trained by the command line."""
    store = tmp_path_factory.mktemp("afterwards") / "runs"
    sizes = ["task.train_examples=64", "task.validation_examples=32", "train.epochs=2", "reference=false"]
    shared = [*small_words, *sizes, "seed=" + ",".join(map(str, SEEDS)), f"runs_dir={store}"]
    for method in (("method=lora", "rank=2,8"), ("method=full", "measure=controls", "train.learning_rate=1e-3")):
        ran(*shared, *method, "-m")
    found = {}
    for record in store.glob("*/record.json"):
        config = compose(recorded(record.parent))
        arm = "full" if config.rank is None else f"LoRA r={config.rank}"
        found[arm, config.seed] = Run(config, record.parent)
    assert len(found) == 3 * len(SEEDS)
    return found


def of_seeds(runs: dict[tuple[str, int], Run], *arms: str) -> dict[tuple[str, int], Run]:
    return {key: runs[key] for key in sorted(runs) if key[0] in arms}


def test_the_factors_at_the_start_are_those_that_the_run_drew(small_run: list[str], tmp_path: Path) -> None:
    """After one step of a rate near zero, A is what was drawn."""
    ran(*small_run, "rank=4", "seed=3", "train.max_steps=1", "train.learning_rate=1e-12", "reference=false")
    (folder,) = (path.parent for path in (tmp_path / "runs").glob("*/record.json"))
    run = Run(compose(recorded(folder)), folder)
    drawn = initial_factors(run)
    saved = {name: update.A for name, update in updates(run).items()}
    assert drawn.keys() == saved.keys()
    assert all(torch.allclose(drawn[name], saved[name].float(), atol=1e-7) for name in drawn)
    other = initial_factors(dataclasses.replace(run, config=dataclasses.replace(run.config, seed=4)))
    assert not any(torch.allclose(drawn[name], other[name], atol=1e-3) for name in drawn)


def test_similarities_are_those_of_the_recorded_directions(runs: dict[tuple[str, int], Run]) -> None:
    chosen = of_seeds(runs, SMALL, LARGE, "full")
    pairs = {"ranks": (SMALL, LARGE), "seeds": ("full", "full"), "base": ("W", LARGE)}
    rows = {(row["pair"], row["matrix"], row["side"]): row for row in similarities(chosen, pairs)}
    spectra = {key: load_spectra(run.folder) for key, run in chosen.items()}

    def directions_of(arm: str, seed: int, part: str, k: int) -> torch.Tensor:
        found = torch.from_numpy(spectra[arm, seed][QUERY][part])
        return found[:, :k] if part == "U" else found[:k].T

    for side, part in (("row", "Vh"), ("column", "U")):
        ranks = [
            subspace_similarities(directions_of(SMALL, a, part, 1), directions_of(LARGE, b, part, 1)).item()
            for a, b in permutations(SEEDS)
        ]
        row = rows["ranks", QUERY, side]
        assert (set(row["each"]), row["d"]) == ({"1,1"}, 32)
        assert row["each"]["1,1"] == pytest.approx(ranks, abs=1e-3)
        seeds = subspace_similarities(*(directions_of("full", seed, part, 8) for seed in SEEDS))[-1, -1].item()
        assert rows["seeds", QUERY, side]["each"]["8,8"] == pytest.approx([seeds], abs=1e-3)
    assert {side for pair, _, side in rows if pair == "ranks"} == {"A", START, "row", "column"}
    assert {side for pair, _, side in rows if pair == "base"} == {"row", "column"}
    starts = [row for (pair, _, side), row in rows.items() if (pair, side) == ("ranks", START)]
    chance = np.mean([1 / row["d"] for row in starts])
    assert np.mean([row["each"]["1,1"] for row in starts]) == pytest.approx(chance, abs=0.05)


def test_runs_that_cannot_be_compared_are_refused(runs: dict[tuple[str, int], Run]) -> None:
    with pytest.raises(ConfigError, match=r"LoRA r=2: r=4 is above the 2 directions"):
        list(amplifications(of_seeds(runs, SMALL), {SMALL: (4,)}))
    run = runs["full", 0]
    other = dataclasses.replace(run.config, task=dataclasses.replace(run.config.task, test_examples=48))
    with pytest.raises(ConfigError, match=r"changed after .* was planned"):
        list(sets({("full", 0): Run(other, run.folder)}, "full", {"query": ("query",)}, (0,)))


def test_an_update_amplifies_as_its_paper_says(runs: dict[tuple[str, int], Run]) -> None:
    rows = list(amplifications(of_seeds(runs, LARGE, "full"), {LARGE: (2, 8), "full": (2,)}))
    assert len(rows) == 3 * 12 * len(SEEDS)
    run, base = runs[LARGE, 1], original(runs[LARGE, 1])[QUERY]
    whole = next(row for row in rows if (row["arm"], row["seed"], row["matrix"], row["r"]) == (LARGE, 1, QUERY, 8))
    (U, sigma, Vh), W = svd(updates(run)[QUERY]), base.double()
    assert whole["factor"] == pytest.approx(float(sigma.norm() / (U.T @ W @ Vh.T).norm()), rel=1e-5)
    assert whole["base_in_random"] == pytest.approx(8 * float(base.norm()) / 32, rel=1e-5)
    cut = next(row for row in rows if (row["arm"], row["seed"], row["matrix"], row["r"]) == (LARGE, 1, QUERY, 2))
    assert cut["delta_norm"] < whole["delta_norm"]
    for row in rows:
        assert row["base_factor"] < row["gaussian_factor"] < 4 * row["random_factor"]


def test_a_set_of_all_matrices_is_cut_as_the_run_cut_them(
    runs: dict[tuple[str, int], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`measure=controls` recorded the answers of the same cuts; of another set only its own matrices are cut."""
    run, changed = runs["full", 1], []

    def spied(model: Any, base: Any, *others: Any) -> Any:
        changed.append(list(base))
        return seen_under(model, base, *others)

    monkeypatch.setattr("lorax_lab.afterwards.sets.seen_under", spied)
    names = {"all": ("all-linear",), "query": ("query",)}
    rows = list(sets({("full", 1): run, (SMALL, 1): runs[SMALL, 1]}, "full", names, (0, 1, 8)))
    assert [(row["set"], row["k"]) for row in rows] == [(name, k) for name in names for k in (WHOLE, "0", "1", "8")]
    assert [row["matrices"] for row in rows] == [12] * 4 + [2] * 4
    kept = load_arrays(run.folder, OUTPUTS)
    for row in rows[:4]:
        expected = kept["test" if row["k"] == WHOLE else f"cut/{row['k']}"]["correct"]
        np.testing.assert_array_equal(row["correct"], expected)
    assert changed[1] == [f"bert.encoder.layer.{layer}.attention.self.query" for layer in (0, 1)]


def made(tmp_path: Path, rows_of: Any) -> tuple[Any, Any]:
    """A study of two conditions with one final run each, whose folders are there."""
    cells = [Cell("final", name, "full", 1e-4, 0) for name in ("one", "two")]
    for cell in cells:
        folder = tmp_path / "runs" / cell.condition
        folder.mkdir(parents=True)
        (folder / "record.json").write_text("{}")
    plan = SimpleNamespace(
        protocol=SimpleNamespace(arms=("full",), final_seeds=(0,)),
        afterwards={"made": rows_of},
        conditions=["one", "two"],
        overrides=lambda cell: ["method=full"],
        run_id=lambda cell: cell.condition,
    )
    records = StudyRecords.__new__(StudyRecords)
    records.plan, records.folder, records.runs = plan, tmp_path / "records" / "study", tmp_path / "runs"
    return records, SimpleNamespace(cells=cells, settled=lambda cell: {"status": "completed"})


def test_each_condition_is_measured_once_and_again_where_its_runs_are_others(tmp_path: Path) -> None:
    measured: list[str] = []

    def rows_of(runs: dict[tuple[str, int], Run]) -> Any:
        (run,) = runs.values()
        measured.append(run.folder.name)
        yield {"value": 0.5}

    records, progress = made(tmp_path, rows_of)
    records.measure(progress)
    records.measure(progress)
    assert measured == ["one", "two"]
    assert names_of(records.folder) == ["made"]
    found = read_rows(records.folder, "made")
    assert {name: of.rows for name, of in found.items()} == {
        name: [{"condition": name, "value": 0.5}] for name in ("one", "two")
    }
    assert found["one"].runs == ["one"]
    write_rows(records.folder, "made", found | {"one": Rows(["an earlier run"], [{"k": 1}])})
    records.measure(progress)
    assert measured == ["one", "two", "one"]
    assert read_rows(records.folder, "made") == found


def test_a_condition_whose_runs_are_gone_is_named_and_keeps_its_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records, progress = made(tmp_path, lambda runs: pytest.fail("measured without runs"))
    write_rows(records.folder, "made", {"one": Rows(["one"], [{"value": 1}])})
    (tmp_path / "runs" / "two" / "record.json").unlink()
    records.measure(progress)
    assert "two: 1 of 1 final runs" in capsys.readouterr().out
    progress.settled = lambda cell: {"status": "diverged"}
    records.measure(progress)
    assert "one: 1 of 1 final runs" in capsys.readouterr().out
    assert read_rows(records.folder, "made") == {"one": Rows(["one"], [{"condition": "one", "value": 1}])}
