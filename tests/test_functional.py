"""Cut updates: what is put into the model at each k, and that the model comes back to the bit."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_model

from lorax_lab.functional import Directions, cut_ranks, functional_rank
from lorax_lab.matrices import captured, decompose, measure, summarise
from lorax_lab.models import base_weights, delta_view, select
from lorax_lab.spectra import LowRank
from lorax_lab.streams import generator


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_each_cut_holds_the_top_k_and_the_remainder_the_rest(kind: str) -> None:
    model = tiny_model(kind)
    names = select(model, ["all-linear"])
    base = base_weights(model, names)
    draw = generator(0, "test")
    updates = {}
    with torch.no_grad():
        for name in names:
            updates[name] = torch.randn(base[name].shape, generator=draw, dtype=torch.float64) * 0.05
            delta_view(model.get_submodule(name)).add_(updates[name].float())
    tuned = {name: delta_view(model.get_submodule(name)).clone() for name in names}
    directions = decompose({name: tuned[name].double() - base[name].double() for name in names})
    seen: list[dict[str, torch.Tensor]] = []

    def score(candidate: torch.nn.Module) -> dict[str, float]:
        seen.append({name: delta_view(candidate.get_submodule(name)).clone() for name in names})
        return {"accuracy": float(len(seen))}

    rows = functional_rank(model, base, directions, {"accuracy": 0.0}, score)
    ranks = [0, 1, 2, 4, 8, 16, 32]
    assert [(row["part"], row["k"]) for row in rows] == [(p, k) for p in ("cut", "remainder") for k in ranks]
    assert all(torch.equal(delta_view(model.get_submodule(name)), tuned[name]) for name in names)
    scores = {(row["part"], row["k"]): row["accuracy"] for row in rows}
    assert scores["remainder", 0] == scores["cut", 32] == 0.0
    assert scores["remainder", 32] == scores["cut", 0]
    for name in names:
        u, s, vh = torch.linalg.svd(updates[name], full_matrices=False)
        at = {key: seen[int(value) - 1][name] for key, value in scores.items() if value}
        assert torch.equal(at["cut", 0], base[name])
        top = (u[:, :4] * s[:4]) @ vh[:4]
        torch.testing.assert_close(at["cut", 4], (base[name] + top).float(), atol=1e-6, rtol=0)
        torch.testing.assert_close(at["remainder", 4], (tuned[name] - top).float(), atol=1e-6, rtol=0)


def test_the_model_comes_back_when_scoring_fails() -> None:
    model = tiny_model("bert")
    names = select(model, ["query"])
    base = base_weights(model, names)
    directions = {name: Directions(*torch.linalg.svd(torch.randn(32, 32).double())) for name in names}

    def score(_: torch.nn.Module) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        functional_rank(model, base, directions, {}, score)
    assert all(torch.equal(delta_view(model.get_submodule(name)), base[name]) for name in names)


def test_cut_ranks_end_at_the_whole() -> None:
    assert cut_ranks(1) == [0, 1]
    assert cut_ranks(384) == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 384]


def test_captured_share_of_a_planted_update() -> None:
    draw = generator(1, "test")
    b, a = torch.randn(40, 2, generator=draw), torch.randn(2, 60, generator=draw)
    planted = 3.0 * b.double() @ a.double()
    inside = captured(LowRank(b, a, 0.1), planted)
    assert inside["column_share"] == pytest.approx(1)
    assert inside["row_share"] == pytest.approx(1)
    assert inside["best"] == pytest.approx(1)
    outside = captured(LowRank(torch.randn(40, 2, generator=draw), torch.randn(2, 60, generator=draw), 1.0), planted)
    assert outside["random_column_share"] == 2 / 40
    assert outside["random_row_share"] == 2 / 60
    assert outside["column_share"] < 0.5


def test_rows_carry_their_null_and_the_summary_their_means() -> None:
    draw = generator(2, "test")
    shape, names = (48, 96), ("bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.1.output.dense")
    updates = {name: torch.randn(shape, generator=draw, dtype=torch.float64) for name in names}
    base = {name: torch.ones(shape) for name in names}
    rows = measure(updates, decompose(updates), base)
    for name, row in rows.items():
        assert row["effective_rank"] == pytest.approx(row["null"]["effective_rank"], rel=0.03)
        assert row["relative_norm"] == pytest.approx(float(updates[name].norm() / base[name].norm()))
    assert [row["layer"] for row in rows.values()] == [0, 1]
    summary = summarise(rows)
    assert summary["effective_rank"] == pytest.approx(sum(r["effective_rank"] for r in rows.values()) / 2)
    assert summary["by_module"]["output.dense"]["stable_rank"] == rows[names[1]]["stable_rank"]
    assert "layer" not in summary
