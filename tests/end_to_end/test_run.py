"""The real command line, end to end, on a tiny model and a small table."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import launched, ran, tiny_model
from here import store_of
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer

from lorax_lab.measure.truncation import Decomposition, controls, cuts
from lorax_lab.record import load_matrices, load_runs, load_truncation, measures, read_record
from lorax_lab.record.folder import OUTPUTS, load_arrays
from lorax_lab.spectra import NULLS
from lorax_lab.streams import generator

Sweep = tuple[list[str], str, Path]


@pytest.fixture(scope="module")
def sweep(small_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep over two ranks with W&B offline, its overrides, what it printed, and its store."""
    store = tmp_path_factory.mktemp("sweep") / "runs"
    words = [word for word in small_words if not word.startswith("tracking=")]
    overrides = [*words, "train.epochs=4", "tracking=offline", f"runs_dir={store}", "rank=2,4", "-m"]
    shown = ran(*overrides)
    return overrides, shown, store


def test_a_sweep_leaves_its_runs_and_the_reference_once(sweep: Sweep) -> None:
    _, output, store = sweep
    frame = load_runs(store)
    assert sorted(zip(frame["method"], frame["rank"].fillna(0).astype(int), strict=True)) == [
        ("full", 0), ("lora", 2), ("lora", 4),
    ]  # fmt: skip
    assert set(frame["status"]) == {"completed"}
    assert "0 of 3 already recorded" in output
    assert all(f"[{n}/3]" in output for n in (1, 2, 3))
    assert sum("│ completed" in line or "│ collapsed" in line for line in output.splitlines()) == 3
    assert "12 matrices are measured; not measured: embeddings" in output


def test_the_record_holds_what_is_promised(sweep: Sweep) -> None:
    _, _, store = sweep
    for folder in store.glob("tiny-bert-*"):
        content = read_record(folder)
        names = {"config.yaml", "record.json", "metrics.jsonl", "spectra.npz", "outputs.npz", "wandb.json"}
        is_full = content.method == "full"
        names |= {"model.safetensors"} if is_full else {"adapter_model.safetensors", "adapter_config.json"}
        assert {path.name for path in folder.iterdir()} == names | {"progress.jsonl"}
        result = content.completed
        assert result.parameters.trainable == result.parameters.adapter + result.parameters.head
        assert result.coverage.trained == result.parameters.trainable
        assert "embeddings" in {part.reason for part in result.coverage.parts}
        assert sum(result.memory.by_category.values()) == result.memory.peak_bytes
        assert {"validation/accuracy", "test/accuracy", "train/loss"} <= set(result.metrics)
        assert len(result.matrices) == 12
        history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in history] == list(range(1, 25))
        assert ["validation/accuracy" in row for row in history] == [False] * 23 + [True]
        test = load_arrays(folder, OUTPUTS)["test"]
        assert (test["outputs"].argmax(1) == test["labels"]).mean() == result.metrics["test/accuracy"]


def test_both_arms_start_from_one_head_and_are_compared(sweep: Sweep) -> None:
    _, _, store = sweep
    frame, matrices = load_runs(store), load_matrices(store)
    assert frame["inputs.head_sha256"].nunique() == frame["code"].nunique() == 1
    lora = matrices[matrices["method"] == "lora"]
    assert lora["captured.column_share"].between(0, 1).all()
    assert (lora["captured.best"] <= 1).all()
    assert (lora["numerical_rank"] <= lora["rank"]).all()
    assert matrices[matrices["method"] == "full"]["captured.best"].isna().all()
    cuts = load_truncation(store)
    assert set(cuts["part"]) == {"cut"}
    assert {0, 32} <= set(cuts["k"])
    tuned = frame.set_index("method").loc["full", "metrics.validation/accuracy"]
    assert cuts.set_index("k")["accuracy"][32] == tuned


def test_a_trial_reads_no_test_and_measures_no_update(small_run: list[str]) -> None:
    shown = ran(*small_run, "rank=2", "measure=trial")
    assert "test accuracy" not in shown
    store = store_of(small_run)
    frame = load_runs(store)  # no reference either: a trial is compared with nothing
    assert list(frame["method"]) == ["lora"]
    content = read_record(store / frame.loc[0, "run_id"])
    assert "validation/accuracy" in content.completed.metrics
    assert not any(key.startswith("test/") for key in content.completed.metrics)
    assert content.completed.matrices == {}
    assert {path.name for path in (store / content.run_id).iterdir()} == {
        "config.yaml", "record.json", "metrics.jsonl", "progress.jsonl",
    }  # fmt: skip
    ran(*small_run, "rank=2", "measure=k90", "reference=false")
    measured = load_runs(store).set_index("config.measure").loc["k90"]
    assert measured["run_id"] != content.run_id
    assert measured["metrics.validation/accuracy"] == content.completed.metrics["validation/accuracy"]


@pytest.mark.parametrize("outputs", [2, 7])
def test_a_head_of_the_base_is_named_where_it_fits_and_refused_where_not(
    outputs: int, small_run: list[str], tmp_path: Path
) -> None:
    model, folder = tiny_model("bert"), tmp_path / "with-head"
    names = ["BAD", "GOOD", *map(str, range(2, outputs))]
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    config = type(model.config)(**(model.config.to_dict() | {"num_labels": outputs} | labels))
    type(model)(config).save_pretrained(folder)
    source = next(word for word in small_run if word.startswith("model=")).partition("=")[2]
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    words = [word for word in small_run if not word.startswith("model=")]
    done = launched(*words, f"model={folder}", "method=full", "--dry-run")
    assert done.returncode == (0 if outputs == 2 else 2), done.stdout
    assert f"model={folder}" in done.stdout
    assert ("the base's own head" in done.stdout) == (outputs == 2)


def test_controls_are_recorded_with_a_full_fine_tune(small_run: list[str]) -> None:
    ran(*small_run, "method=full", "measure=controls")
    store = store_of(small_run)
    rows = load_truncation(store)
    one = {"query": Decomposition(torch.eye(32), torch.ones(32), torch.eye(32))}
    changes = [*cuts(one), *controls(one, generator(0, "test"), {"query": torch.eye(32)})]
    assert set(rows["part"]) == {change.part for change in changes}
    assert rows["module"].nunique() == 6
    curve = rows[rows["module"].isna()].set_index(["part", "k"])["accuracy"]
    assert curve["cut", 32] == curve["remainder", 0]
    assert curve["cut", 0] == curve["remainder", 32]
    measured = measures.rows(next(store.glob("tiny-bert-*")))
    for name, row in measures.stand_in_rows(next(store.glob("tiny-bert-*"))).items():
        assert row["relative_norm"] == pytest.approx(measured[name]["relative_norm"])
        assert row["effective_rank"] == pytest.approx(row["null"]["effective_rank"], rel=0.1)
        assert set(measured[name]["nulls"]) == set(NULLS)
    outputs = load_arrays(next(store.glob("tiny-bert-*")), OUTPUTS)
    ranks = [0, 1, 2, 4, 8, 16, 32]
    assert set(outputs) == {"test", "head/0", *(f"cut/{k}" for k in ranks)}
    assert np.array_equal(outputs["cut/32"]["outputs"], outputs["test"]["outputs"])
    assert not np.array_equal(outputs["cut/0"]["outputs"], outputs["test"]["outputs"])


def test_a_head_alone_is_compared_with_full_fine_tuning(small_run: list[str]) -> None:
    ran(*small_run, "method=head", "train.precision=bf16")
    (folder,) = store_of(small_run).glob("*-head-*")
    record = read_record(folder)
    assert record.completed.reference
    assert record.completed.parameters.adapter == 0
    assert record.completed.parameters.trainable == record.completed.parameters.head > 0
    assert {row["frobenius_norm"] for row in measures.rows(folder).values()} == {0}
    assert "test/accuracy" in record.completed.metrics


def test_the_same_sweep_again_trains_nothing(sweep: Sweep) -> None:
    overrides, _, store = sweep
    before = {path: path.stat().st_mtime_ns for path in store.glob("tiny*/*")}
    again = ran(*overrides)
    assert "3 of 3 already recorded" in again
    assert {path: path.stat().st_mtime_ns for path in store.glob("tiny*/*")} == before


DTYPES = {"fp32": {torch.float32}, "bf16": {torch.bfloat16}}


@pytest.mark.parametrize("precision", DTYPES)
def test_a_run_multiplies_in_what_it_records(
    precision: str, small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By torch's kernel, since oneDNN's puts another class in the place of nn.Linear."""
    seen: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    forward = nn.Linear.forward

    def watched(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        out = forward(self, x)
        seen[self.training].add(out.dtype)
        return out

    monkeypatch.setattr(nn.Linear, "forward", watched)
    result = launched(
        *small_run, f"train.precision={precision}", "method=full", "train.kernel=torch", "reference=false"
    )
    assert result.returncode == 0, result.stderr
    (folder,) = store_of(small_run).glob("tiny-bert-*")
    assert read_record(folder).config["train"]["precision"] == precision
    assert seen == {True: DTYPES[precision], False: DTYPES[precision] | {torch.float32}}  # fp32 counts flips
    for weight in load_file(folder / "model.safetensors").values():  # the masters have more bits than bf16
        assert weight.dtype == torch.float32
        assert not torch.equal(weight, weight.bfloat16().float()) or not weight.any()


@pytest.mark.network
def test_the_real_model_on_real_reviews(tmp_path: Path) -> None:
    few = [f"task.{split}_examples=64" for split in ("train", "validation", "test")]
    ran("rank=4", "reference=false", "tracking=disabled", *few, f"runs_dir={tmp_path}")
    row = load_runs(tmp_path).iloc[0]
    assert (row["parameters.adapter"], row["inputs.examples.train"]) == (4 * 2 * (4 * 384 + 2 * 960) * 6, 64)
