"""The loss on other texts before and after a fine-tune: against the runs' own scores, PEFT's removal, and by norm; and
its figure."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ran
from language import save_causal, words_of, write_table
from synthetic import PROTOCOL, study

from analysis.study.figures import FIGURES
from analysis.study.figures.forgetting import AS_TRAINED, AT_FULLS, FULL_AT, MATRICES_AT
from lorax_lab.afterwards import forgetting as module
from lorax_lab.afterwards.forgetting import (
    AT_NORM,
    BASE,
    BEFORE,
    MATRICES,
    MATRICES_AT_NORM,
    TRAINED,
    WITH_NOISE,
    WITHOUT_INTRUDERS,
    _base,
    _change,
    _rows,
    forgetting,
    random_like,
)
from lorax_lab.afterwards.trained import Run
from lorax_lab.launch.compose import compose, recorded
from lorax_lab.record import read_record
from lorax_lab.spectra import intruders, svd
from lorax_lab.study.protocol import Arm
from lorax_lab.study.published import Afterwards, read_rows, write_rows

FULL, LORA, FROZEN = "full", "LoRA r=2", "full without embeddings"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Run]:
    folder = tmp_path_factory.mktemp("forgetting")
    words = words_of(save_causal(folder / "tiny-llama", tie_word_embeddings=True), write_table(folder / "answers.csv"))
    shared = [*words, f"runs_dir={folder / 'runs'}", "reference=false", "train.epochs=2", "train.precision=fp32"]
    for method in (("method=lora", "rank=2"), ("method=full", "train.learning_rate=1e-3")):
        ran(*shared, *method)
    found = [Run(compose(recorded(path.parent)), path.parent) for path in folder.glob("runs/*/record.json")]
    return {(FULL if run.config.rank is None else LORA, 0): run for run in found}


@pytest.fixture(scope="module")
def rows(runs: dict[tuple[str, int], Run]) -> dict[tuple[str, str], dict[str, Any]]:
    made = forgetting(runs, {"own": runs[FULL, 0].config.task}, FULL)
    return {(row["arm"], row["change"]): row for row in made}


def nats(row: dict[str, Any]) -> float:
    return float(row["nats"].sum() / row["tokens"].sum())


def test_before_and_after_are_what_the_runs_recorded(runs: Any, rows: Any) -> None:
    for arm in (FULL, LORA):
        recorded_as = read_record(runs[arm, 0].folder).completed
        assert nats(rows[BASE, BEFORE]) == pytest.approx(recorded_as.baselines["untrained/nats"], rel=1e-5)
        assert nats(rows[arm, TRAINED]) == pytest.approx(recorded_as.metrics["test/nats"], rel=1e-5)
    changes = (TRAINED, AT_NORM, WITHOUT_INTRUDERS, WITH_NOISE)
    of_full = {(FULL, MATRICES), (FULL, MATRICES_AT_NORM)}
    assert set(rows) == {(BASE, BEFORE)} | of_full | {(arm, change) for arm in (FULL, LORA) for change in changes}


NORMS = {(FULL, 0): 3.0, (LORA, 0): 1.0, (FROZEN, 0): 2.0, (FULL, 1): 5.0, (LORA, 1): 8.0}
"""Planted norms of the updates of two seeds, of which four fifths are the matrix's."""


class Norm:
    """A text whose loss is how far the model is from its start, in its matrix and in its bias."""

    groups = None

    def outputs(self, model: torch.nn.Module) -> torch.Tensor:
        moved = [model.q.weight - torch.eye(4), model.q.bias]
        return torch.tensor([[float(part.norm()), 1.0] for part in moved])


def test_an_update_is_brought_to_the_norm_of_each_other_arm_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.ModuleDict({"q": torch.nn.Linear(4, 4)}).requires_grad_(False)
    start = {"q.weight": torch.eye(4), "q.bias": torch.zeros(4)}
    base = SimpleNamespace(model=model, start=start, left={"q.weight": torch.eye(4).double()}, splits={"made": Norm()})
    monkeypatch.setattr(module, "_base", lambda *_: base)
    monkeypatch.setattr(module, "_intruders", lambda *_: {})
    shares = {"q.weight": 0.8 * torch.eye(4) / 2, "q.bias": 0.6 * torch.ones(4) / 2}
    monkeypatch.setattr(module, "_change", lambda norm, _: {key: norm * share for key, share in shares.items()})
    made: Any = [row for row in forgetting(NORMS, {}, FULL) if row["norm_of"]]  # type: ignore[arg-type]
    others = {FULL: (LORA, FROZEN), LORA: (FULL,), FROZEN: (FULL,)}
    placed = {(row["arm"], row["seed"], row["change"], row["norm_of"]): row for row in made}
    assert set(placed) == {
        (arm, seed, change, other)
        for arm, seed in NORMS
        for change in ((AT_NORM, MATRICES_AT_NORM) if arm == FULL else (AT_NORM,))
        for other in others[arm]
        if (other, seed) in NORMS
    }
    for (arm, seed, change, other), row in placed.items():
        norm, of_matrix = NORMS[other, seed], change == MATRICES_AT_NORM
        assert row["nats"] == pytest.approx((norm, 0) if of_matrix else (0.8 * norm, 0.6 * norm), rel=1e-5)
        assert row["factor"] == pytest.approx(norm / NORMS[arm, seed] / (0.8 if of_matrix else 1))


def test_the_matrices_alone_are_the_run_s_with_the_rest_as_it_was(runs: Any, rows: Any) -> None:
    run = runs[FULL, 0]
    base = _base(run, {"own": run.config.task})
    change = _change(run, base)
    matrices = {key: tensor for key, tensor in change.items() if "proj" in key}
    assert {"embed_tokens", "norm"} <= {key.split(".")[-2] for key in change.keys() - matrices.keys()}
    (alone,) = _rows(base, matrices, FULL, 0, MATRICES)
    assert nats(rows[FULL, MATRICES]) == nats(alone) != nats(rows[FULL, TRAINED])


def test_without_intruders_and_with_noise_of_their_size_the_loss_is_another_where_there_are_some(rows: Any) -> None:
    for arm in (FULL, LORA):
        intruding, noisy, trained = (rows[arm, change] for change in (WITHOUT_INTRUDERS, WITH_NOISE, TRAINED))
        assert intruding["removed"] == noisy["removed"]
        assert len({nats(row) for row in (intruding, noisy, trained)}) == (3 if intruding["removed"] else 1)
    assert rows[LORA, WITHOUT_INTRUDERS]["removed"] > 0


def test_intruders_are_those_that_peft_reduces() -> None:
    """The matrix that PEFT leaves with nothing of them is ours without them; their share that stays is its lambda."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora.intruders import reduce_intruder_dimension
    from torch import nn

    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(24, 20, bias=False))
    W0 = base[0].weight.detach().clone()
    made = get_peft_model(base, LoraConfig(r=20, lora_alpha=20, target_modules=["0"]))  # a rank that holds all
    layer = made.base_model.model[0]
    with torch.no_grad():
        layer.lora_B["default"].weight.copy_(torch.randn(20, 20) * torch.tensor([3.0, 2.0, *[0.0] * 18]))
    tuned = (W0 + layer.get_delta_weight("default")).detach()
    U, sigma, Vh = intruders(tuned, svd(W0)[0])
    assert 1 <= len(sigma) <= 2
    reduce_intruder_dimension(made, mitigation_lambda=0.0, logging_sink=None)
    left = (W0 + layer.get_delta_weight("intruder_reduced")).detach()
    torch.testing.assert_close(left.double(), tuned.double() - U * sigma @ Vh, atol=1e-4, rtol=0)


def test_noise_has_the_singular_values_of_what_is_taken_away_and_other_directions() -> None:
    W = torch.randn(12, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    U, sigma, Vh = (part[..., :3] if place < 2 else part[:3] for place, part in enumerate(svd(W)))
    left, values, right = random_like(U, sigma, Vh, torch.Generator().manual_seed(1))
    torch.testing.assert_close(svd(left.double() * values @ right.double())[1][:3], sigma, rtol=1e-5, atol=0)
    assert float((left.double().T @ U).norm()) < 1.5  # of √3 where they are the same


def test_without_a_change_nothing_intrudes() -> None:
    W0 = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    U = svd(W0)[0]
    assert len(intruders(W0, U)[1]) == 0
    np.testing.assert_array_equal(intruders(W0, U, among=0)[1].numpy(), [])


def test_the_figure_has_the_rise_of_the_loss_and_how_much_more_it_is_with_full_fine_tuning(
    rows: Any, tmp_path: Path
) -> None:
    """Two seeds, of which the second has twice the rise. An arm that is no LoRA is compared with nothing."""
    before = rows[BASE, BEFORE]
    second = [
        row | {"seed": 1, "nats": 2 * row["nats"] - before["nats"]} for key, row in rows.items() if key[0] != BASE
    ]
    frozen = [row | {"arm": FROZEN} for row in (*rows.values(), *second) if row["arm"] == LORA]
    write_rows(tmp_path, "forgetting", {"reviews": Afterwards([], [*rows.values(), *second, *frozen])})
    of_task = read_rows(tmp_path, "forgetting")["reviews"].rows
    write_rows(tmp_path, "forgetting", {"reviews": Afterwards([], of_task), "tweets": Afterwards([], second)})
    assert [row["tokens"] for row in read_rows(tmp_path, "forgetting")["reviews"].rows] == [
        r["tokens"] for r in of_task
    ]
    figure = FIGURES["forgetting"]
    assert figure.table(study()) is None
    in_one = [
        row | {"groups": np.zeros(len(before["nats"]), np.int32)} if row["arm"] == BASE else row for row in of_task
    ]
    arms = (*PROTOCOL.arms, Arm(FROZEN, ("method=full", "method.embeddings=false"), 1e-4))
    records = study(lambda cell: 0.8, dataclasses.replace(PROTOCOL, arms=arms))
    made = figure.table(dataclasses.replace(records, rows={"forgetting": of_task}))
    assert set(made["examples"]) == {before["groups"].max() + 1} == {len(before["nats"]) - 1}  # two are near duplicates
    grouped = figure.table(dataclasses.replace(records, rows={"forgetting": in_one}))
    assert set(grouped["examples"]) == {1}  # all are of one group
    np.testing.assert_allclose(grouped["mean"], made["mean"])
    by_place = made.set_index(["series", "arm"])
    rises = {key: 1.5 * (nats(row) - nats(before)) for key, row in rows.items()}
    places = {
        (AS_TRAINED, FULL): (FULL, TRAINED),
        (AS_TRAINED, LORA): (LORA, TRAINED),
        (AT_FULLS, LORA): (LORA, AT_NORM),
        (FULL_AT, LORA): (FULL, AT_NORM),
        (MATRICES_AT, LORA): (FULL, MATRICES_AT_NORM),
        (WITHOUT_INTRUDERS, LORA): (LORA, WITHOUT_INTRUDERS),
    }
    for place, key in places.items():
        assert by_place.loc[place, "mean"] == pytest.approx(rises[key], abs=1e-6)
    pairs = {
        AS_TRAINED: ((FULL, TRAINED), (LORA, TRAINED)),
        AT_FULLS: ((FULL, TRAINED), (LORA, AT_NORM)),
        FULL_AT: ((FULL, AT_NORM), (LORA, TRAINED)),
        MATRICES_AT: ((FULL, MATRICES_AT_NORM), (LORA, TRAINED)),
    }
    for series, (more, less) in pairs.items():
        assert by_place.loc[(series, LORA), "full_more"] == pytest.approx(rises[more] - rises[less], abs=1e-6)
    assert by_place.loc[AS_TRAINED].loc[[FULL, FROZEN], "full_more"].isna().all()
    beyond_noise = by_place.loc[WITHOUT_INTRUDERS].loc[LORA, "beyond_noise"]
    assert beyond_noise == pytest.approx(rises[LORA, WITHOUT_INTRUDERS] - rises[LORA, WITH_NOISE], abs=1e-6)
    assert by_place.loc[[AS_TRAINED, WITH_NOISE], "beyond_noise"].isna().all()
    picture = figure.draw(made)
    assert [len(axes.containers) for axes in picture.axes] == [7]
