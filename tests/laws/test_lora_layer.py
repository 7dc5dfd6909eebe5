"""The layer that adds a low-rank update: its output and gradients are those of the formula, whatever multiplies."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorax_lab.methods import lora_layer
from lorax_lab.methods.lora_layer import LoRALinear, lora_layers, merged_weight
from lorax_lab.models import kernel
from lorax_lab.models.matrices import Turned
from lorax_lab.spectra import LowRank
from lorax_lab.streams import generator


@pytest.fixture(autouse=True)
def nothing_is_left_from_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """New memory holds no number, so that what is not written is seen."""
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, *shape: self.new_full(shape, torch.nan))


def drawn(layer: nn.Module) -> Any:
    """The layer with random parameters."""
    with torch.no_grad():
        for index, parameter in enumerate(layer.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator(index, "test"), dtype=parameter.dtype))
    return layer


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes the number of rows of what oneDNN multiplies, which it does of every size."""
    if not kernel.has_onednn():
        pytest.skip("this build of torch has no oneDNN")
    rows: list[int] = []
    product = kernel.product

    def noted(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rows.append(len(x))
        return product(x, weight, bias)

    monkeypatch.setattr(kernel, "product", noted)
    monkeypatch.setattr(kernel, "SMALL", 1)
    return rows


@pytest.mark.parametrize("stored", ["linear", "linear without bias", "conv1d"])
def test_the_fused_gradients_are_those_of_the_formula(stored: str) -> None:
    from transformers.pytorch_utils import Conv1D

    draw = generator(0, "test")
    base = Conv1D(7, 5) if stored == "conv1d" else nn.Linear(5, 7, bias=stored == "linear")
    layer = LoRALinear(base, 3, 1.7).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    x = torch.randn(2, 4, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    plain = base(x) + 1.7 * (x @ layer.lora_A.t() @ layer.lora_B.t())
    torch.testing.assert_close(layer(x), plain)
    biases = [] if layer.bias is None else [layer.bias]
    trainable = (x, layer.lora_A, layer.lora_B, *biases)
    cotangent = torch.randn(plain.shape, generator=draw, dtype=torch.float64)
    exact = [plain, *torch.autograd.grad(plain, trainable, cotangent)]
    torch.testing.assert_close(list(torch.autograd.grad(layer(x), trainable, cotangent)), exact[1:])
    x, layer = x.detach().float().requires_grad_(), layer.float()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        apart = base(x) + F.linear(F.linear(x, layer.lora_A) * layer.scaling, layer.lora_B)
    trainable = (x, layer.lora_A, layer.lora_B, *biases)
    rounded = [[out, *torch.autograd.grad(out, trainable, cotangent.to(out.dtype))] for out in (y, apart)]
    for fused, separate, value in zip(*rounded, exact, strict=True):
        assert fused.dtype == separate.dtype
        assert (fused - value).norm() <= max((separate - value).norm(), 2.0**-8 * value.norm())


def test_a_models_own_change_of_the_output_in_place_is_differentiated() -> None:
    layer, x, other = LoRALinear(nn.Linear(5, 7), 3, 1.7), torch.randn(2, 4, 5), torch.randn(2, 4, 7)
    torch.nn.init.normal_(layer.lora_B)
    y = layer(x)
    y += other  # as Falcon does with its attention's output
    y.square().sum().backward()
    found, layer.lora_B.grad = layer.lora_B.grad, None
    (layer(x) + other).square().sum().backward()
    torch.testing.assert_close(found, layer.lora_B.grad)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "calls"), [(kernel.OneDnnLinear, [8, 8]), (nn.Linear, [])])
def test_onednn_multiplies_forward_and_backward_where_the_base_asks_for_it(
    kind: type[nn.Linear], calls: list[int], bias: bool, products: list[int]
) -> None:
    base = kind(5, 7, bias=bias)
    layer, x = drawn(LoRALinear(base, 3, 1.7)), torch.randn(2, 4, 5, generator=generator(0, "x"), requires_grad=True)
    y = layer(x)
    assert products == calls[:1]
    (grad,) = torch.autograd.grad(y.square().sum(), x)
    assert products == calls
    plain = F.linear(x, base.weight, base.bias) + 1.7 * (x @ layer.lora_A.t() @ layer.lora_B.t())
    torch.testing.assert_close(y, plain)
    torch.testing.assert_close(grad, torch.autograd.grad(plain.square().sum(), x)[0], atol=1e-3, rtol=1e-4)


def test_onednn_does_not_read_a_bias_with_gaps(products: list[int]) -> None:
    base = kernel.OneDnnLinear(5, 7)
    base.bias = nn.Parameter(torch.randn(14)[::2])
    drawn(LoRALinear(base, 3, 1.7))(torch.randn(2, 4, 5))
    assert not products


@pytest.mark.parametrize("trains", [True, False])
def test_w0_is_frozen_and_a_bias_trains_where_it_did(trains: bool) -> None:
    base = nn.Linear(5, 7)
    base.bias.requires_grad_(trains)
    layer = drawn(LoRALinear(base, 3, 1.7))
    assert tuple(layer.shape) == (7, 5)
    assert {name: p.requires_grad for name, p in layer.named_parameters()} == {
        "base.weight": False, "base.bias": trains, "lora_A": True, "lora_B": True
    }  # fmt: skip
    layer(torch.randn(2, 4, 5)).sum().backward()  # inputs of a first layer need no gradient
    assert (base.bias.grad is not None) == trains
    update = layer.delta()
    assert (update.scaling, update.shape) == (1.7, (7, 5))
    assert torch.equal(update.B, layer.lora_B)
    from transformers.pytorch_utils import Conv1D

    assert isinstance(LoRALinear(Conv1D(7, 5), 3, 1.7).shape, Turned)


def test_dropout_acts_on_the_adapters_inputs_alone_and_only_in_training() -> None:
    layer, x = drawn(LoRALinear(nn.Linear(5, 7), 3, 1.7, dropout=0.5)), torch.randn(2, 4, 5)

    def expected(kept: Tensor) -> Tensor:
        return layer.base(x) + F.linear(F.linear(kept, layer.lora_A) * 1.7, layer.lora_B)

    torch.manual_seed(0)
    y = layer(x)
    torch.manual_seed(0)
    assert torch.equal(y, expected(F.dropout(x, 0.5)))
    assert not torch.allclose(y, expected(x))
    torch.testing.assert_close(layer.eval()(x), expected(x))


@pytest.mark.parametrize(("dropout", "training"), [(0.0, True), (0.5, False)])
def test_without_dropout_the_fused_product_is_what_runs(dropout: float, training: bool) -> None:
    layer = LoRALinear(nn.Linear(5, 7), 3, 1.7, dropout).train(training)
    assert "_Fused" in type(layer(torch.randn(2, 5)).grad_fn).__name__


def test_a_rounded_base_multiplies_itself_in_the_dtype_of_the_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_layer, "QuantizedLinear", nn.Linear)
    layer, x = drawn(LoRALinear(nn.Linear(5, 7), 3, 1.7, dropout=0.5)).eval(), torch.randn(2, 4, 5).double()
    layer.base.double()
    update = F.linear(F.linear(x, layer.lora_A.double()) * 1.7, layer.lora_B.double())
    torch.testing.assert_close(layer(x), layer.base(x) + update)
    torch.testing.assert_close(layer.train(False)(x), layer(x))


@pytest.mark.parametrize("stored", ["linear", "conv1d"])
def test_a_merge_writes_w0_and_the_update_once_and_takes_them_out_to_the_bit(stored: str) -> None:
    from transformers.pytorch_utils import Conv1D

    layer, x = drawn(LoRALinear(Conv1D(7, 5) if stored == "conv1d" else nn.Linear(5, 7), 3, 1.7)), torch.randn(2, 4, 5)
    before, whole, y = layer.base.weight.clone(), layer.weight.detach().clone(), layer(x)
    for _ in range(2):
        layer.merge()
        assert layer.merged
        torch.testing.assert_close(layer.base.weight, whole)
        assert torch.equal(layer.weight, layer.base.weight)
        torch.testing.assert_close(layer(x), y)
    for _ in range(2):
        layer.unmerge()
        assert not layer.merged
        assert torch.equal(layer.base.weight, before)


def test_a_merged_weight_has_the_dtype_of_the_base() -> None:
    update = LowRank(torch.randn(7, 3).double(), torch.randn(3, 5).double(), 1.7)
    merged = merged_weight(torch.zeros(7, 5), update)
    torch.testing.assert_close(merged, update.dense().float())


def test_a_layer_is_known_by_its_dotted_name() -> None:
    layer = LoRALinear(nn.Linear(5, 7), 3, 1.7)
    assert lora_layers(nn.ModuleDict({"inner": nn.ModuleList([nn.Linear(5, 7), layer])})) == {"inner.1": layer}
