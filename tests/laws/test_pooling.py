"""A head that reads the mean of the last layer: what it computes, what it trains, and where it cannot be."""

from pathlib import Path

import pytest
import torch
from families import FAMILIES, Family
from torch import nn

from lorax_lab.errors import ConfigError
from lorax_lab.models import adaptable, head_modules, load_base
from lorax_lab.models.base import check_mean, read_mean

HEAD = {"num_labels": 2, "problem_type": "single_label_classification", "by_mean": True}
SEQUENCES = [f for f in FAMILIES if f.model_class == "AutoModelForSequenceClassification" and f.kind != "t5"]


@pytest.mark.parametrize("family", SEQUENCES, ids=lambda family: family.name)
def test_the_logits_are_those_of_the_mean_of_real_tokens(family: Family) -> None:
    model = family.model(problem_type="single_label_classification")
    matrices = list(adaptable(model))
    read_mean(model)
    assert list(adaptable(model)) == matrices
    assert head_modules(model) == ["classifier"]
    size = model.config.hidden_size
    assert {n: p.shape for n, p in model.classifier.named_parameters()} == {"weight": (2, size), "bias": (2,)}
    batch = dict(family.batch) | {"attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])}
    labels = batch.pop("labels")
    with torch.no_grad():
        hidden = getattr(model, model.base_model_prefix)(**batch).last_hidden_state
        out = model(**batch, labels=labels)
    means = torch.stack([hidden[0].mean(0), hidden[1, :3].mean(0)])
    torch.testing.assert_close(out.logits, means @ model.classifier.weight.T + model.classifier.bias)
    torch.testing.assert_close(out.loss, nn.functional.cross_entropy(out.logits, labels))


@pytest.mark.parametrize("kind", ["whisper", "t5"])
def test_a_model_of_two_halves_is_refused(kind: str) -> None:
    family = next(f for f in FAMILIES if f.kind == kind)
    with pytest.raises(ConfigError, match=r"task\.pooling=mean: model=tiny has no body .*; type task\.pooling=own"):
        check_mean("tiny", family.model())


def test_the_head_is_drawn_from_the_seed_and_the_body_is_the_same(model_folder: Path) -> None:
    one, again, other = (load_base(str(model_folder), HEAD, seed).model for seed in (0, 0, 1))
    own = load_base(str(model_folder), {k: v for k, v in HEAD.items() if k != "by_mean"}, 0).model
    assert torch.equal(one.classifier.weight, again.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert not one.classifier.bias.any()
    theirs = own.state_dict()
    shared = [key for key in one.state_dict() if not key.startswith("classifier.")]
    assert shared
    assert all(torch.equal(one.state_dict()[key], theirs[key]) for key in shared)
    assert sum(p.numel() for p in one.classifier.parameters()) == 2 * one.config.hidden_size + 2
