"""The figures of the LoRA paper's studies: their tables are the rows that were measured, beside chance and noise."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_studies import with_losses
from synthetic import study

from analysis.study import comparison
from analysis.study.figures import FIGURES
from analysis.study.figures.directions import DRAWN, GAUSSIAN, IN_LAYERS, MAPS
from analysis.study.records import Records, every
from lorax_lab.study.answers import log_losses

D, SIZES = 384, [1, 2, 4, 8]
TASKS = ("reviews", "headlines")
COLUMNS = ["task", "arm", "difference", "matches"]
SIMILARITIES = ("ranks_share", "seeds_share", "base_shares")


def with_rows(**rows: list[dict[str, Any]]) -> Records:
    return dataclasses.replace(study(tasks=TASKS), rows=rows)


def similar(value: int = 500) -> list[dict[str, Any]]:
    """Every pair and side that a figure shows, the same similarity everywhere, in three layers."""
    shown = dict.fromkeys(pair for name in SIMILARITIES for pair in MAPS[name].shown)
    return [
        {"condition": task, "pair": pair, "side": side, "matrix": f"layer.{layer}.{module}", "module": module}
        | {"layer": layer, "d": D, "i": SIZES, "j": SIZES, "phi": [[value + layer] * 4] * 4, "each": {"1,1": [0.5] * 3}}
        for task in TASKS
        for pair, side in shown
        for layer in range(3)
        for module in ("attention.self.query", "attention.self.value", "output.dense")
    ]


def amplified() -> list[dict[str, Any]]:
    """LoRA at r = 4, the full update at 4 and 64: two seeds and three matrices of two types."""
    factors = {("LoRA r=4", 4): 5.0, ("full", 4): 2.0, ("full", 64): 0.2}
    return [
        {"condition": task, "arm": arm, "seed": seed, "matrix": matrix, "module": matrix.partition(".")[0], "r": r}
        | {"factor": factor + seed, "random_factor": 8.0, "base_factor": 0.1, "gaussian_factor": 7.0 + place}
        | {"delta_norm": 1.5, "base_in_delta": 1.5 / (factor + seed), "base_in_random": 0.19, "base_in_base": 15.0}
        for task in TASKS
        for (arm, r), factor in factors.items()
        for seed in (0, 1)
        for place, matrix in enumerate(("query.0", "query.1", "value.0"))
    ]


@pytest.mark.parametrize("name", SIMILARITIES)
def test_heat_maps_show_the_middle_layer_of_query_and_value_beside_chance(name: str) -> None:
    table = FIGURES[name].table(with_rows(similarities=similar()))
    assert set(table["module"]) == {"attention.self.query", "attention.self.value"}
    assert set(table["layer"]) == {1}
    drawn = table[table["pair"] == GAUSSIAN]
    assert set(table.loc[table["pair"] != GAUSSIAN, "phi"]) == {0.501}
    np.testing.assert_allclose(table["chance"], table[["i", "j"]].max(axis=1) / D)
    of_noise = [(GAUSSIAN, DRAWN)] if name != "ranks_share" else []
    assert list(dict.fromkeys(zip(table["pair"], table["side"], strict=True))) == [*of_noise, *MAPS[name].shown]
    if of_noise:  # the mean of ten pairs of random subspaces; that of 16 such heat maps is within .004 of chance
        assert abs(float((drawn["phi"] - drawn["chance"]).mean())) < 0.004
        pd.testing.assert_frame_equal(table, FIGURES[name].table(with_rows(similarities=similar())))
    figure = FIGURES[name].draw(table)
    maps = [axes for axes in figure.axes if axes.collections and axes.get_label() != "<colorbar>"]
    enlarged = sum(side != "A at the start" and pair[0] != "W" for pair, side in MAPS[name].shown)
    assert len(maps) == (1 + len(of_noise) + len(MAPS[name].shown) + enlarged) * len(TASKS) * 2
    np.testing.assert_allclose(np.unique(maps[0].collections[0].get_array()), np.array(SIZES) / D)


def test_amplification_is_the_mean_over_seeds_of_the_median_over_matrices() -> None:
    table = FIGURES["amplification"].table(with_rows(factors=amplified()))
    whole = table[table["module"] == "all matrices"].set_index(["task", "arm", "r"])
    assert whole.loc[("reviews", "LoRA r=4", 4), "factor"] == pytest.approx(5.5)
    assert whole.loc[("reviews", "full", 4), "gaussian_factor"] == pytest.approx(8.0)
    assert whole.loc[("reviews", "full", 4), "base_in_delta"] == pytest.approx((1.5 / 2 + 1.5 / 3) / 2)
    assert set(table["module"]) == {"all matrices", "query", "value"}
    paper = table.set_index(["task", "module", "arm"])["GPT-3, query of layer 48: factor"].dropna()
    assert paper.to_dict() == {(task, "query", "LoRA r=4"): 21.5 for task in TASKS}
    figure = FIGURES["amplification"].draw(table)
    assert [axes.get_title("left") for axes in figure.axes] == [f"{task}, r = {r}" for task in TASKS for r in (4, 64)]


def test_arms_stand_below_each_other_beside_the_papers_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    records = study(tasks=TASKS)
    monkeypatch.setattr("analysis.study.figures.arms.theirs", lambda study: {"their score": {"LoRA r=1": 73.4}})
    table = FIGURES["arms"].table(records)
    pd.testing.assert_frame_equal(table[COLUMNS], every(records, comparison.table)[COLUMNS])
    assert table.loc[table["arm"] == "LoRA r=1", "their score"].tolist() == [73.4] * len(TASKS)
    figure = FIGURES["arms"].draw(table)
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == [arm.name for arm in records.protocol.arms if arm.name != records.protocol.reference]
    lines = [float(line.get_xdata()[0]) for line in figure.axes[0].get_lines()[-2:]]
    assert lines == [0.0, -records.protocol.margin]


def test_log_losses_stand_beside_scores() -> None:
    records = with_losses(study(tasks=TASKS), 0.01, 0.03)
    table = FIGURES["losses"].table(records)
    whole = comparison.table(records, TASKS[0]).set_index("arm")
    rows = table[table["task"] == TASKS[0]].set_index("arm")
    assert rows["loss_difference"].to_dict() == whole.loc[rows.index, "loss_difference"].to_dict()
    figure = FIGURES["losses"].draw(table)
    assert [float(line.get_ydata()[0]) for line in figure.axes[0].get_lines()[-2:]] == [0.0, 0.03]
    losses = [np.mean(log_losses(line)) for line in comparison.seeds_of(records, TASKS[0], "LoRA r=8").values()]
    assert rows.loc["LoRA r=8", "loss"] == pytest.approx(np.mean(losses))


def cut(wrong: Any) -> list[dict[str, Any]]:
    """Five full fine-tunes that are right of everything, cut in all matrices and in one type; `wrong` says how many of
    the first answers a set loses at k."""
    lines = [line for line in study(tasks=TASKS).lines if line["config"]["measure"] != "trial"]
    count = lines[0]["inputs"]["examples"]["test"]
    rows = []
    for task in TASKS:
        for seed in range(5):
            for name in ("all", "query"):
                for k in ("whole", 0, 1, 4):
                    right = np.arange(count) >= (0 if k == "whole" else wrong(name, k, count))
                    rows.append({"condition": task, "seed": seed, "set": name, "k": k, "correct": right})
    return rows


def test_sets_have_a_rank_and_a_cut_that_is_enough() -> None:
    records = with_rows(sets=cut(lambda name, k, count: count // 10 if (name, k) == ("all", 0) else 0))
    table = FIGURES["sets"].table(records)
    rows = table[table["task"] == TASKS[0]].set_index(["set", "side", "size"])
    assert rows.loc[("all", "k", 0), "mean"] == pytest.approx(-0.1, abs=0.005)
    assert not rows.loc[("all", "k", 0), "within"]
    assert rows.loc[("all", "k", 1), "enough"].startswith("1")
    assert rows.loc[("query", "k", 0), "enough"].startswith("0")
    gains = comparison.gains(records, TASKS[0])
    for arm in (arm for arm in records.protocol.arms if arm.rank):
        assert rows.loc[("all", "rank", arm.rank), "mean"] == pytest.approx(gains[arm.name].mean)
    assert not [size for name, side, size in rows.index if (name, side) == ("query", "rank")]  # it has no such arm
    figure = FIGURES["sets"].draw(table)
    assert len(figure.axes) == 2 * len(TASKS)
    assert "k* of all 1; query 0" in " ".join(figure.axes[1].get_title("left").split())


def test_every_layer_and_type_of_matrix_has_a_cell() -> None:
    """φ is .3 in layer 0 and .1 more in each further one; the feed-forward rows are longer, so that chance is less."""
    places: dict[tuple[str, str], list[str]] = {}
    for pair, side, i, j in IN_LAYERS:
        places.setdefault((pair, side), []).append(f"{i},{j}")
    rows = [
        {"condition": task, "pair": pair, "side": side, "matrix": f"{layer}.{module}", "module": module, "layer": layer}
        | {"d": 4 * D if module == "output.dense" else D}
        | {"each": {key: [0.2 + 0.1 * layer, 0.4 + 0.1 * layer] for key in places[pair, side]}}
        for task in TASKS
        for pair, side in places
        for layer in range(3)
        for module in ("attention.self.query", "output.dense")
    ]
    table = FIGURES["layers_share"].table(with_rows(similarities=rows))
    assert len(table) == len(IN_LAYERS) * len(TASKS) * 3 * 2  # layers, types of matrix
    seeds = table[(table["pair"] == "two seeds of full") & (table["layer"] == 1)].set_index("module")
    assert seeds.loc["attention.self.query", "phi"].tolist() == pytest.approx([0.4] * 12)  # sides, sizes, tasks
    assert set(seeds.loc["output.dense", "chance"]) == {k / (4 * D) for k in (1, 8, 64)}
    figure = FIGURES["layers_share"].draw(table)
    maps = [axes for axes in figure.axes if axes.texts]
    assert len(maps) == len(IN_LAYERS) * len(TASKS)
    last = [text.get_text() for text in maps[-1].texts]  # W and the full update, φ(40, 4), chance .104 and .026
    assert last == ["20", "30", "40", "27", "37", "47"]
