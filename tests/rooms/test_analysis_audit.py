"""The figures of an audit, from small audits whose numbers can be worked out by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matrices import gaussian, with_values
from safetensors.torch import save_file
from torch import Tensor

from analysis.__main__ import main
from analysis.audit import FIGURES, read, tidy
from lorax_lab import spectra
from lorax_lab.audit.__main__ import main as audit

pytestmark = pytest.mark.usefixtures("own_folder")
MODULES = {"self_attn.q_proj": (24, 24), "self_attn.v_proj": (16, 24), "mlp.up_proj": (40, 24)}


def audited(updates: dict[str, Tensor]) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The audit of updates by the name of their matrix; in fp64, so that no rounding hides an update."""
    base = {f"{name}.weight": gaussian(*update.shape, seed=90) for name, update in updates.items()}
    save_file(base, "base.safetensors")
    save_file({f"{n}.weight": base[f"{n}.weight"] + update for n, update in updates.items()}, "tuned.safetensors")
    assert audit(["base.safetensors", "tuned.safetensors", "--out", "out"]) == 0
    return read(Path("out"))


def full(layers: int) -> dict[str, Tensor]:
    """Two planted directions in noise in each matrix, and an embedding outside the layers."""
    names = {f"model.layers.{i}.{module}": shape for i in range(layers) for module, shape in MODULES.items()}
    shapes = names | {"model.embed_tokens": (90, 24)}
    return {
        name: 0.01 * gaussian(*shape, seed=seed) + with_values([10.0, 5.0], *shape, seed=seed + 100)
        for seed, (name, shape) in enumerate(shapes.items())
    }


def table_of(name: str, rows: pd.DataFrame, sigma: dict[str, np.ndarray]) -> Any:
    return FIGURES[name].table(tidy(rows), sigma)


def test_every_figure_becomes_png_pdf_and_csv() -> None:
    parts = audited(full(layers=1))
    assert main(["audit", "out"]) == 0
    for name in FIGURES:
        assert Path(f"out/{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert Path(f"out/{name}.pdf").stat().st_size
        written, table = pd.read_csv(f"out/{name}.csv"), table_of(name, *parts)
        assert (list(written.columns), len(written)) == (list(table.columns), len(table))


def test_an_adapter_is_compared_with_noise_of_its_rank() -> None:
    factors = {"h.0.q.lora_A": gaussian(4, 24), "h.0.q.lora_B": gaussian(24, 4, seed=1)}
    save_file(factors, "lora.safetensors")
    assert audit(["lora.safetensors", "--alpha", "4", "--out", "out"]) == 0
    values = table_of("singular_values", *read(Path("out")))
    by_series = {name: part["sigma"].to_numpy() for name, part in values.groupby("series")}
    beside = by_series["noise of the same rank and norm"]
    assert len(beside) == 4
    assert np.linalg.norm(beside) == pytest.approx(np.linalg.norm(by_series["ΔW"]))
    null = spectra.gaussian_null((24, 24), rank=4)["effective_rank"]
    assert spectra.effective_rank(torch.tensor(beside)) == pytest.approx(null, rel=0.03)


def test_the_fitted_noise_follows_the_spikes() -> None:
    rows, sigma = audited(full(layers=5))
    table = table_of("singular_values", rows, sigma)
    assert sorted(set(table["layer"])) == [0, 2, 4]
    assert set(table["module"]) == set(MODULES)
    name = "model.layers.0.self_attn.v_proj.weight"
    first, row = table[table["matrix"] == name], rows.set_index("matrix").loc[name]
    update, noise = (first[first["series"] == series] for series in ("ΔW", "noise fitted to its bulk"))
    assert update["sigma"].tolist() == pytest.approx(sigma[name].tolist())
    assert noise["i"].tolist() == list(range(3, 17))
    unit = spectra.gaussian_singular_values((14, 22)).numpy()
    assert noise["sigma"].to_numpy() == pytest.approx(row["noise_std"] * unit)
    (axes,) = FIGURES["singular_values"].draw(first).axes
    heights = [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]
    assert row["noise_edge"] in heights


def test_ranks_stand_beside_noise_with_their_marks() -> None:
    rows, sigma = audited(
        {"l.0.q": with_values([1.0] * 2, 4, 4), "l.0.v": with_values([1.0] * 3, 4, 4), "l.1.q": torch.zeros(4, 4)}
    )
    flags = ["effective_rank energy_rank_99", "energy_rank_90", ""]
    rows = rows.assign(untrusted=flags, spikes=[2, 3, 0], spikes_told=[2, 3, 0], above_rounding=[1, 3, 0])
    table = table_of("ranks", rows, sigma)
    assert table["layer"].dtype == "Int64"
    null, by_name = spectra.gaussian_null((4, 4)), table.set_index("matrix")
    assert by_name.loc["l.0.q.weight", "effective_rank"] == pytest.approx(2)
    assert by_name.loc["l.0.q.weight", "effective_rank.share"] == pytest.approx(2 / null["effective_rank"])
    assert by_name.loc["l.0.v.weight", "energy_rank_90.share"] == pytest.approx(3 / null["energy_rank_90"])
    columns = ["effective_rank.mark", "spikes.mark", "energy_rank_90.mark"]
    assert by_name.loc["l.0.q.weight", columns].tolist() == ["*", "*", ""]
    assert by_name.loc["l.0.v.weight", columns].tolist() == ["", "", "*"]
    axes = FIGURES["ranks"].draw(table).axes
    said = {one.get_title("left"): [text.get_text() for text in one.texts] for one in axes}
    share = [f"{k / null['effective_rank']:.2f}".removeprefix("0") for k in (2, 3)]
    assert said["effective rank,\nas a share of noise's"] == [f"{share[0]}*", share[1]]
    assert said["directions\nabove the noise"] == ["2*", "3", "0"]
    assert said["rank that holds\n90% of the energy"] == ["2", "3*"]
    # spikes above a bulk that is no iid noise are not told beside those that are
    figure = FIGURES["ranks"].draw(table_of("ranks", rows.assign(spikes_told=[2, math.nan, 0]), sigma))
    assert ["2*", "†", "0"] in [[text.get_text() for text in axes.texts] for axes in figure.axes]


def test_an_update_of_zero_says_why_it_is_not_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    audited({f"l.{i}.q": torch.zeros(4, 4) for i in range(2)})
    assert main(["audit", "out"]) == 1
    said = capsys.readouterr().out
    assert all(f"{name}: no matrix changed" in said for name in FIGURES)
    assert not list(Path("out").glob("*.png"))
