"""Updates and bases of zeros, and matrices of one row: by the command line, to the figures."""

import shutil
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ran, tiny_config

from analysis.figures import FIGURES
from analysis.groups import CannotDraw, load
from lorax_lab.config.defaults import flat
from lorax_lab.record import measures
from lorax_lab.record.record import scan
from lorax_lab.record.result import UNDEFINED

BASES = {"every matrix of zeros": {}, "one row": {"intermediate_size": 1}}
"""How the sizes of a base differ from those of a tiny BERT."""
STILL = (
    ["method=full", "train.learning_rate=1e-30", "reference=false", "measure=controls"],
    ["rank=1", "method.alpha=1e-40"],
)
"""Runs whose update is zero."""


def base(name: str, model_folder: Path, folder: Path) -> Path:
    from transformers import AutoModel

    config: Any = tiny_config("bert", 34)
    config.update(BASES[name])
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    for key, parameter in model.named_parameters():
        if "zeros" in name and "layer." in key and parameter.ndim == 2:
            parameter.data.zero_()
    shutil.copytree(model_folder, folder / "base")
    model.save_pretrained(folder / "base")
    return folder / "base"


@pytest.mark.parametrize("case", BASES)
def test_what_has_no_value_has_its_reason_in_records_and_figures(
    case: str, model_folder: Path, small_words: list[str], tmp_path: Path
) -> None:
    store = tmp_path / "runs"
    words = [*small_words, f"model={base(case, model_folder, tmp_path)}", f"runs_dir={store}"]
    for changes in (["rank=1"], *STILL):
        ran(*words, *changes)
    records = scan(store)[0].values()
    for record in records:
        for row in measures.rows(store / record.run_id).values():
            empty = [key for key, value in flat(row).items() if value is None and key != "layer"]
            assert bool(empty) == (UNDEFINED in row), (record.run_id, empty, row.get(UNDEFINED))
    (still,) = [record for record in records if record.config["method"].get("alpha") == 1e-40]
    rows = measures.rows(store / still.run_id)
    assert all(row["effective_rank"] is None and row["numerical_rank"] == 0 for row in rows.values())
    assert all("ΔW is zero" in row[UNDEFINED] for row in rows.values())
    assert measures.means(store / still.run_id)["effective_rank"] is None
    (group,) = load(store).groups
    for name, figure in FIGURES.items():
        drawn = nullcontext() if name != "singular_values" else suppress(CannotDraw)
        with drawn:
            figure.draw(figure.table(group))
