"""The figures of an audit, from small tables whose numbers can be worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matrices import gaussian

from analysis.__main__ import main
from analysis.audit import FIGURES, draw_all, tidy
from analysis.audit.singular_values import FITTED
from lorax_lab import spectra

MODULES = {"self_attn.q_proj": (24, 24), "self_attn.v_proj": (16, 24), "mlp.up_proj": (40, 24)}
STD = 0.01
Rows = list[dict[str, Any]]
Sigma = dict[str, np.ndarray]


def pair(name: str, sigma: list[float] | torch.Tensor, shape: tuple[int, int], **more: Any) -> tuple[Rows, Sigma]:
    """The row of one pair of matrices, as an audit writes it, and its singular values."""
    parts, values = name.split("."), torch.as_tensor(sigma, dtype=torch.float64)
    number = [int(part) for part in parts if part.isdigit()]
    module = name.split(f".{number[-1]}.")[-1] if number else name
    edge = spectra.noise_edge(shape, STD)
    found = values[values > edge]
    row: dict[str, Any] = {"matrix": f"{name}.weight", "module": module, "layer": number[-1] if number else None}
    row |= {"kind": "pair", "out": shape[0], "in": shape[1], "base_dtype": "float32", "tuned_dtype": "float32"}
    row |= spectra.summary(values, shape)
    row |= {f"null.{key}": value for key, value in spectra.gaussian_null(shape).items()}
    energy = float(values.square().sum())
    row |= {"noise_std": STD, "noise_edge": edge, "bulk_misfit": 0.02, "spikes": float(len(found))}
    row |= {"spike_energy": float(found.square().sum()) / energy if energy else math.nan}
    row |= {"spikes_told": row["spikes"], "rounding_edge": edge / 100, "untrusted": "", **more}
    row = {"above_rounding": float((values > row["rounding_edge"]).sum())} | row
    return [row], {row["matrix"]: values.numpy()}


def join(*parts: tuple[Rows, Sigma]) -> tuple[pd.DataFrame, Sigma]:
    rows, sigma = [row for part, _ in parts for row in part], {k: v for _, part in parts for k, v in part.items()}
    return pd.DataFrame(rows), sigma


def noisy(shape: tuple[int, int], spikes: int = 2) -> torch.Tensor:
    """`spikes` strong directions above noise of std STD."""
    strong = 10.0 / torch.arange(1, spikes + 1, dtype=torch.float64)
    return torch.cat([strong, STD * spectra.gaussian_singular_values((shape[0] - spikes, shape[1] - spikes))])


def full(layers: int = 3, **more: Any) -> tuple[pd.DataFrame, Sigma]:
    """A full fine-tune: planted directions in noise, and an embedding outside the layers."""
    names = {f"model.layers.{i}.{module}": shape for i in range(layers) for module, shape in MODULES.items()}
    parts = [pair(name, noisy(shape), shape, **more) for name, shape in names.items()]
    return join(pair("model.embed_tokens", noisy((90, 24)), (90, 24)), *parts)


def lora(shape: tuple[int, int], rank: int) -> tuple[pd.DataFrame, Sigma]:
    """An adapter whose factors are noise: no columns of noise or rounding, a rank instead."""
    product = spectra.LowRank(gaussian(shape[0], rank), gaussian(rank, shape[1], seed=1))
    ((row,), sigma) = pair("model.layers.0.self_attn.q_proj", spectra.singular_values(product), shape)
    row = {key: value for key, value in row.items() if key not in (*FITTED, "spike_energy")}
    null = {f"null.{key}": value for key, value in spectra.gaussian_null(shape, rank).items()}
    return join(([row | null | {"kind": "lora", "rank": rank}], sigma))


def table_of(name: str, rows: pd.DataFrame, sigma: Sigma) -> pd.DataFrame:
    return FIGURES[name].table(tidy(rows), sigma)


def figure_of(name: str, rows: pd.DataFrame, sigma: Sigma) -> Any:
    return FIGURES[name].draw(table_of(name, rows, sigma))


def test_every_figure_becomes_png_pdf_and_csv(tmp_path: Path) -> None:
    rows, sigma = full(layers=1, untrusted="effective_rank")
    rows = rows[:2]
    assert draw_all(rows, sigma, tmp_path) == ([f"{name}.{{png,pdf,csv}}" for name in FIGURES], [])
    expected = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "pdf", "csv")}
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert (tmp_path / "ranks.png").read_bytes()[:4] == b"\x89PNG"
    for name in FIGURES:
        written, table = pd.read_csv(tmp_path / f"{name}.csv"), table_of(name, rows, sigma)
        assert (list(written.columns), len(written)) == (list(table.columns), len(table))


def test_an_adapter_is_compared_with_noise_of_its_rank() -> None:
    values = table_of("singular_values", *lora((24, 24), rank=4))
    by_series = {name: part["sigma"].to_numpy() for name, part in values.groupby("series")}
    beside = by_series["noise of the same rank and norm"]
    assert len(beside) == 4
    assert np.linalg.norm(beside) == pytest.approx(np.linalg.norm(by_series["ΔW"]))
    null = spectra.gaussian_null((24, 24), rank=4)["effective_rank"]
    assert spectra.effective_rank(torch.tensor(beside)) == pytest.approx(null, rel=0.03)


def test_the_fitted_noise_follows_the_spikes() -> None:
    rows, sigma = full(layers=5)
    table = table_of("singular_values", rows, sigma)
    assert sorted(set(table["layer"])) == [0, 2, 4]
    assert list(dict.fromkeys(table["module"])) == list(MODULES)
    first = table[table["matrix"] == "model.layers.0.self_attn.v_proj.weight"]
    update, noise = (first[first["series"] == name] for name in ("ΔW", "noise fitted to its bulk"))
    assert update["sigma"].tolist() == pytest.approx(sigma["model.layers.0.self_attn.v_proj.weight"].tolist())
    assert noise["i"].tolist() == list(range(3, 17))
    assert noise["sigma"].to_numpy() == pytest.approx(STD * spectra.gaussian_singular_values((14, 22)).numpy())
    assert first["noise_edge"].iloc[0] == pytest.approx(STD * (4 + 24**0.5))
    figure = FIGURES["singular_values"].draw(table)
    heights = sorted(line.get_ydata()[0] for line in figure.axes[1].lines if len(set(line.get_ydata())) == 1)
    assert heights == pytest.approx([STD * (4 + 24**0.5)])


def test_ranks_stand_beside_noise_with_their_marks() -> None:
    flags = {"untrusted": "effective_rank energy_rank_99", "above_rounding": 1.0}
    rows, sigma = join(
        pair("l.0.q", [1.0, 1.0, 0.0, 0.0], (4, 4), **flags),
        pair("l.0.v", [1.0, 1.0, 1.0, 0.0], (4, 4), untrusted="energy_rank_90"),
        pair("l.1.q", [0.0] * 4, (4, 4), spikes=0.0, above_rounding=0.0),
        pair("head", [1.0], (1, 4)),
    )
    table = table_of("ranks", rows, sigma).set_index("matrix")
    assert table["layer"].dtype == "Int64"
    null = spectra.gaussian_null((4, 4))
    assert table.loc["l.0.q.weight", "effective_rank"] == pytest.approx(2)
    assert table.loc["l.0.q.weight", "effective_rank.share"] == pytest.approx(2 / null["effective_rank"])
    assert table.loc["l.0.v.weight", "energy_rank_90.share"] == pytest.approx(3 / null["energy_rank_90"])
    columns = ["effective_rank.mark", "spikes.mark", "energy_rank_90.mark"]
    assert table.loc["l.0.q.weight", columns].tolist() == ["*", "*", ""]
    assert table.loc["l.0.v.weight", columns].tolist() == ["", "", "*"]
    figure = figure_of("ranks", rows, sigma)
    said = [[text.get_text() for text in axes.texts] for axes in figure.axes[:3]]
    share = [f"{k / null['effective_rank']:.2f}".removeprefix("0") for k in (2, 3)]
    assert said == [[f"{share[0]}*", share[1]], ["2*", "3", "0"], ["2", "3*"]]
    shape = (24, 24)  # spikes above a bulk that is no iid noise are not told beside those that are
    told, untold = pair("l.0.q", noisy(shape), shape), pair("l.1.q", noisy(shape), shape, spikes_told=math.nan)
    figure = figure_of("ranks", *join(told, untold))
    assert [text.get_text() for text in figure.axes[1].texts] == ["2", "†"]


def test_an_update_of_zero_says_why_it_is_not_drawn(tmp_path: Path) -> None:
    parts = [pair(f"l.{i}.q", [0.0] * 4, (4, 4), noise_std=0.0, noise_edge=0.0, spikes=0.0) for i in range(2)]
    drawn, not_drawn = draw_all(*join(*parts), tmp_path)
    assert drawn == []
    assert [line.partition(":")[0] for line in not_drawn] == list(FIGURES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "files", [{"audit.json": b'{"for'}, {"audit.json": b'{"format": 2}', "matrices/00000.npz": b"PK\x03\x04"}]
)
def test_a_damaged_folder_is_refused(
    files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "matrices").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert main(["audit", str(tmp_path)]) == 2
    assert f"{tmp_path} cannot be read" in capsys.readouterr().err
