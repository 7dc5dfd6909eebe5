"""Updates and bases of zeros, matrices of one row, ranks at the limit: by the command line, to the figures."""

from __future__ import annotations

import shutil
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import launched, tiny_config

from analysis.__main__ import main as analysis
from analysis.figures import FIGURES
from analysis.groups import CannotDraw, load
from lorax_lab.audit.__main__ import main as audit
from lorax_lab.config.defaults import flat
from lorax_lab.launch.table import undefined
from lorax_lab.record import measures
from lorax_lab.record.record import scan
from lorax_lab.record.result import UNDEFINED

BASES = {
    "plain": {},
    "one matrix of zeros": {"zero": "layer.0.attention.self.query"},
    "every matrix of zeros": {"zero": "layer."},
    "one row": {"intermediate_size": 1},
}
"""How a base differs from a tiny BERT."""
STILL = {
    "full": ["method=full", "train.learning_rate=1e-30", "reference=false", "measure=controls"],
    "lora": ["rank=1", "method.alpha=1e-40"],
}
"""Runs whose update is zero."""
Store = tuple[Path, dict[str, str]]


def base(name: str, model_folder: Path, folder: Path) -> Path:
    from transformers import AutoModel

    changes: dict[str, Any] = dict(BASES[name])
    zero = changes.pop("zero", None)
    config: Any = tiny_config("bert", 34)
    for key, value in changes.items():
        setattr(config, key, value)
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    for key, parameter in model.named_parameters():
        if zero and zero in key and parameter.ndim == 2:
            parameter.data.zero_()
    target = folder / name.replace(" ", "-")
    shutil.copytree(model_folder, target)
    model.save_pretrained(target)
    return target


@pytest.fixture(scope="module", params=["every matrix of zeros", "one row"])
def store(
    request: pytest.FixtureRequest, model_folder: Path, table_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Store:
    """A base's runs, and what was printed of each."""
    folder = tmp_path_factory.mktemp("degenerate")
    words = [f"model={base(request.param, model_folder, folder)}", "task=local", f"task.path={table_file}"]
    words += ["task.text=sentence", "task.label=label", "task.train_examples=48", "task.validation_examples=32"]
    words += ["task.test_examples=32", "train.device=cpu", "tracking=disabled", f"runs_dir={folder / 'runs'}"]
    printed = {}
    for name, changes in {"trained": ["rank=1"], **STILL}.items():
        result = launched(*words, *changes)
        assert result.returncode == 0, (name, result.stdout[-2000:], result.stderr[-2000:])
        printed[name] = " ".join(result.stdout.split())
    return folder / "runs", printed


def test_what_has_no_value_has_its_reason_in_records_on_the_console_and_in_figures(store: Store) -> None:
    folder, printed = store
    records = scan(folder)[0].values()
    for record in records:
        for row in measures.rows(folder / record.run_id).values():
            empty = [key for key, value in flat(row).items() if value is None and key != "layer"]
            assert bool(empty) == (UNDEFINED in row), (record.run_id, empty, row.get(UNDEFINED))
    (still,) = [record for record in records if record.config["method"].get("alpha") == 1e-40]
    rows = measures.rows(folder / still.run_id)
    assert all(row["effective_rank"] is None and row["numerical_rank"] == 0 for row in rows.values())
    assert all("ΔW is zero" in row[UNDEFINED] for row in rows.values())
    assert measures.means(folder / still.run_id)["effective_rank"] is None
    assert all(line in printed["lora"] for line in undefined(rows))
    (group,) = load(folder).groups
    for name, figure in FIGURES.items():
        drawn = nullcontext() if name != "singular_values" else suppress(CannotDraw)
        with drawn:
            figure.draw(figure.table(group))


def test_an_audit_of_what_is_equal_or_zero_ends_well(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {name: base(name, model_folder, tmp_path) for name in BASES if name != "one row"}
    plain, zeros = folders["plain"], folders["every matrix of zeros"]
    for number, (first, second) in enumerate([(plain, zeros), (zeros, plain), (zeros, zeros)]):
        out = tmp_path / str(number)
        assert audit([str(first), str(second), "--directions", "--out", str(out)]) == 0
        rows = pd.read_csv(out / "audit.csv")
        assert rows[rows["frobenius_norm"] == 0][UNDEFINED].str.contains("ΔW is zero").all()
        assert rows[rows["base_norm"] == 0][UNDEFINED].str.contains("W0 is zero").all()
        assert analysis(["audit", str(out)]) in (0, 1)
        is_drawn, said = (out / "directions.png").exists(), capsys.readouterr().out
        assert is_drawn or "directions: " in said
