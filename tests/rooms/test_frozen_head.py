"""The head alone, trained to convergence on what the frozen base says of each example."""

import copy

import numpy as np
import pytest
import torch

from experiments.base_ranks import ranks_of_features, scores_of_cuts
from experiments.converged_heads import fitted
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose
from lorax_lab.models import adaptable, head_modules, load_base
from lorax_lab.tasks import load_task
from lorax_lab.tasks.frozen_head import STRENGTHS, fitted_head
from lorax_lab.tasks.split import Split, encode


def prepared(small_run: list[str], *more: str) -> tuple[torch.nn.Module, dict[str, Split]]:
    config = compose([*small_run, "method=full", *more])
    task = load_task(config.task)
    base = load_base(config.model, task.head, 0, task.kind.model_class, task.kind.processor_class)
    return base.model, encode(task, base.processor, base.sha256)


@pytest.mark.parametrize("pooling", ["mean", "own"])
def test_it_is_the_best_logistic_regression_on_what_the_models_head_reads(small_run: list[str], pooling: str) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    model, splits = prepared(small_run, f"task.pooling={pooling}")
    features = {}
    for name, split in splits.items():
        read = []
        for place in range(len(split.rows)):
            inputs = split.batch([place]).inputs
            with torch.no_grad():
                states = model.base_model(input_ids=inputs["input_ids"]).last_hidden_state[0]
            read.append(states.mean(0) if pooling == "mean" else states[0])
        features[name] = torch.stack(read).numpy()
    scale = StandardScaler().fit(features["train"])
    scaled = {name: scale.transform(rows) for name, rows in features.items()}
    heads = [LogisticRegression(C=C, max_iter=10_000).fit(scaled["train"], splits["train"].labels) for C in STRENGTHS]
    best = max(heads, key=lambda head: head.score(scaled["validation"], splits["validation"].labels))
    outputs = fitted_head(model, head_modules(model), splits)
    alike = outputs["test"].argmax(1) == best.predict(scaled["test"])
    assert alike.mean() > 0.95  # an example on the border may turn by rounding


def test_no_seed_and_no_pooler_has_a_part_in_it_and_the_model_stays_as_it_was(small_run: list[str]) -> None:
    model, splits = prepared(small_run, "task.pooling=own")
    before = {name: p.clone() for name, p in model.named_parameters()}
    first = fitted_head(model, head_modules(model), splits)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    torch.nn.init.normal_(model.base_model.pooler.dense.weight)
    np.testing.assert_array_equal(first["test"], fitted_head(model, head_modules(model), splits)["test"])


def test_a_base_that_is_cut_to_nothing_is_read_as_its_embeddings_and_put_back(small_run: list[str]) -> None:
    model, splits = prepared(small_run, "task.pooling=mean")
    before, names, task = copy.deepcopy(model.state_dict()), list(adaptable(model)), splits["test"].task

    def score() -> float:
        return task.score(fitted_head(model, head_modules(model), splits)["test"], splits["test"].labels)[task.metric]

    rows = [row for row in scores_of_cuts(model, names, task, splits, (0, 32)) if row["part"] == "cut"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert rows[1]["test"] == pytest.approx(score(), abs=0.02)  # all 32 directions
    features = list(ranks_of_features(model, splits["train"]))
    with torch.no_grad():
        for name in names:
            model.get_submodule(name).weight.zero_()
    assert rows[0]["test"] == pytest.approx(score(), abs=0.02)
    assert [row["layer"] for row in features] == [0, 1, 2]
    assert all(1 <= row["stable_rank"] <= row["effective_rank"] <= row["width"] == 32 for row in features)


def test_a_head_that_reads_every_token_has_none(small_run: list[str]) -> None:
    model, splits = prepared(small_run)
    assert fitted_head(model, ["score"], splits) is None
    assert fitted_head(model, [], splits) is None


def test_the_head_of_a_published_task_is_that_of_its_data(small_run: list[str]) -> None:
    config = compose([*small_run, "method=full"])
    task = load_task(config.task)
    line = {"run_id": "one", "inputs": {"data_sha256": task.data_sha256}}
    row = fitted(config, line)
    assert row["test"] == pytest.approx(row["correct"].mean())
    with pytest.raises(ConfigError, match="its data are other"):
        fitted(config, line | {"inputs": {"data_sha256": "another"}})
