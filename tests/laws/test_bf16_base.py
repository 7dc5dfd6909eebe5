"""LoRA's frozen base, kept in bf16 where products are in bf16: the same bits as autocast over fp32, and fewer bytes."""

import copy

import pytest
import torch
from families import FAMILIES, Family
from torch import Tensor, nn

from lorax_lab.methods import METHODS
from lorax_lab.models import adaptable, keep_frozen_in_bf16, put_back, use_kernel

SETTINGS = METHODS["lora"].settings()
NO_AUTOCAST = ("DeBERTa",)
"""Families that transformers cannot run under autocast: their masks are too large for bf16."""


def attached(family: Family) -> nn.Module:
    model = family.model()
    METHODS["lora"].attach(model, list(adaptable(model)), SETTINGS, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B"):
                parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    return model


def step(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The loss, the outputs and the gradients of a step under autocast."""
    with torch.autocast("cpu", torch.bfloat16):
        out = model(**batch)
    out.loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return gradients | {"loss": out.loss.detach(), "outputs": out.logits.detach()}


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.name not in NO_AUTOCAST], ids=lambda family: family.name)
def test_the_bits_are_those_of_autocast(family: Family) -> None:
    model = attached(family)
    kept = copy.deepcopy(model)
    before = keep_frozen_in_bf16(kept)
    expected, got = step(model, family.batch), step(kept, family.batch)
    assert expected.keys() == got.keys()
    assert any(name.endswith("lora_A") for name in got)
    different = [name for name in got if not torch.equal(got[name], expected[name])]
    assert not different
    put_back(kept, before)
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in kept.state_dict().items())


def test_what_trains_what_is_shared_and_what_is_no_linear_layer_stays_fp32() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.out = nn.Embedding(8, 4), nn.Linear(4, 8, bias=False)
            self.out.weight = self.embedding.weight
            self.norm, self.head, self.frozen, self.part = nn.LayerNorm(4), *(nn.Linear(4, 4) for _ in range(3))

    model = Tied().requires_grad_(False)
    model.head.requires_grad_(True)
    model.part.bias.requires_grad_(True)
    use_kernel(model, "onednn")
    keep_frozen_in_bf16(model)
    in_bf16 = {name for name, p in model.named_parameters() if p.dtype == torch.bfloat16}
    assert in_bf16 == {"frozen.weight", "frozen.bias"}
