"""Dropout by random bytes: its share, its scale, its gradient, its stream."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import tiny_model
from torch import nn

from lorax_lab.models.kernel import ByteDropout, use_byte_dropout


@pytest.mark.parametrize("p", [0.1, 0.9, 0.001])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_share_to_a_256th_is_hidden_and_the_mean_stays(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(300, 1001, dtype=dtype)
    y = ByteDropout(p).train()(x)
    hidden = max(round(p * 256), 1) / 256
    share = float((y == 0).double().mean())
    assert abs(share - hidden) < 5 * (hidden * (1 - hidden) / x.numel()) ** 0.5
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / (1 - hidden), dtype=dtype).item()}
    rows = (y == 0).double().mean(1)
    assert rows.std() < 2 * (hidden * (1 - hidden) / 1001) ** 0.5  # no pattern along a row


def test_the_gradient_is_that_of_its_mask() -> None:
    x = torch.randn(7, 13, dtype=torch.float64, requires_grad=True)

    def drop(values: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return ByteDropout(0.3).train()(values)

    assert torch.autograd.gradcheck(drop, x)
    y = drop(x)
    y.sum().backward()
    scale = 256 / (256 - 77)
    torch.testing.assert_close(x.grad, (y != 0).double() * scale)


def test_masks_follow_the_stream_and_differ_from_call_to_call() -> None:
    layer, x = ByteDropout(0.5).train(), torch.ones(64, 64)
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)


def test_only_plain_layers_change() -> None:
    class Own(nn.Dropout):
        pass

    model = nn.ModuleDict({"bert": tiny_model("bert"), "own": Own(0.1)})
    count = sum(type(m) is nn.Dropout for m in model.modules())
    use_byte_dropout(model)
    other = copy.deepcopy(model)
    assert sum(type(m) is ByteDropout for m in other.modules()) == count > 0
    assert type(other["own"]) is Own
