"""What one setting changes, by pairs of runs that differ in it alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import run_record

from analysis import pairs
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose
from lorax_lab.record.folder import OUTPUTS, save_arrays
from lorax_lab.record.record import scan, write_record


def store(folder: Path, runs: list[tuple[int, str, float]]) -> Path:
    """Runs by seed, precision and test score."""
    for seed, precision, score in runs:
        name = f"lora-{precision}-{seed}"
        config = dataclasses.asdict(compose(["rank=8", f"train.precision={precision}", f"seed={seed}"]))
        metrics = {"test/accuracy": score}
        write_record(folder / name, run_record(name, seed=seed, rank=8, config=config, metrics=metrics))
    return folder


def table(folder: Path, base: str | None = None) -> Any:
    return pairs.compare(scan(folder)[0], "train.precision", base).set_index(["setting", "what"])


def test_the_difference_is_within_pairs_and_has_students_interval(tmp_path: Path) -> None:
    runs = [(seed, "fp32", 0.8 + 0.01 * seed) for seed in range(3)]
    runs += [(seed, "bf16", 0.8 + 0.01 * seed + change) for seed, change in enumerate((0.0, 0.001, 0.002))]
    row = table(store(tmp_path, [*runs, (9, "fp32", 0.1)]), "fp32").loc["bf16", "test/accuracy"]
    assert row["pairs"] == 3, "the ninth seed has no partner"
    assert pairs.compare(scan(tmp_path)[0], "train.precision").attrs == {"alone": 1}
    assert (row["before"], row["after"]) == (pytest.approx(0.81), pytest.approx(0.811))
    assert row["difference"] == pytest.approx(0.001)
    half = 4.302652729911275 * 0.001 / 3**0.5
    assert (row["low"], row["high"]) == (pytest.approx(0.001 - half), pytest.approx(0.001 + half))


def test_a_base_that_no_run_has_is_refused(tmp_path: Path) -> None:
    store(tmp_path, [(0, "fp32", 0.8), (0, "bf16", 0.8)])
    with pytest.raises(ConfigError, match=r"--base fp16 is no value of train\.precision here; .*bf16, fp32"):
        table(tmp_path, "fp16")
    assert set(table(tmp_path).index.get_level_values("setting")) == {"fp32"}


def test_log_loss_is_that_of_the_saved_outputs(tmp_path: Path) -> None:
    outputs, labels = np.array([[0.0, 1.0], [2.0, 0.0]], np.float32), np.array([1, 1])
    save_arrays(tmp_path / OUTPUTS, {"test": {"outputs": outputs, "labels": labels}})
    expected = np.mean([np.log1p(np.exp(-1.0)), 2 + np.log1p(np.exp(-2.0))])
    assert pairs._log_loss(tmp_path / OUTPUTS) == {"test/log_loss": pytest.approx(expected)}
    save_arrays(tmp_path / OUTPUTS, {"test": {"outputs": outputs[:, :1], "labels": np.array([0.5, 1.0])}})
    assert pairs._log_loss(tmp_path / OUTPUTS) == {}


def test_the_command_prints_and_writes_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path / "runs", [(s, p, 0.8 + 0.01 * (p == "bf16")) for s in (0, 1) for p in ("fp32", "bf16")])
    out = tmp_path / "pairs.csv"
    command = ["train.precision", "--base", "fp32", "--runs", str(tmp_path / "runs"), "--out", str(out)]
    assert pairs.main(command) == 0
    shown = capsys.readouterr().out
    assert "train.precision=bf16 against fp32, method=lora rank=8" in shown
    assert "0.8 became 0.81: +0.01 [+0.01, +0.01], 2 pairs" in shown
    assert out.read_text().startswith(",".join(pairs.COLUMNS))
    assert pairs.main(["rank", "--runs", str(tmp_path / "none")]) == 2
