"""oneDNN's products in linear layers: exact, with right gradients. Kernel and precision are chosen by a trial."""

import copy
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import tiny_model
from torch import Tensor, nn
from torch.nn import functional as F

from lorax_lab.config import TrainConfig
from lorax_lab.errors import ConfigError
from lorax_lab.launch import fastest
from lorax_lab.launch.compose import compose
from lorax_lab.models import kernel, use_kernel

onednn = pytest.mark.skipif(not kernel.has_onednn(), reason="this build of torch has no oneDNN")


@pytest.fixture(autouse=True)
def no_size_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "SMALL", 0)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def forms(tensor: Tensor) -> list[Tensor]:
    """The same matrix, laid out in memory in different ways: plain, turned, with gaps, at an offset; of more dimensions
    plain and turned."""
    if tensor.ndim > 2:
        return [tensor, tensor.transpose(0, -2).contiguous().transpose(0, -2)]
    rows, columns = tensor.shape
    wide = torch.full((2 * rows + 1, 3 * columns + 1), float("nan"))
    gaps, offset = wide[::2][:rows, 1::3], wide.clone()[rows:][:rows, -columns:]
    return [tensor, tensor.t().contiguous().t(), gaps.copy_(tensor), offset.copy_(tensor)]


@onednn
@pytest.mark.parametrize(
    ("batch", "width", "out"), [((1,), 1, 1), ((7,), 1, 5), ((5,), 3, 1), ((33,), 65, 17), ((2, 3, 4), 8, 5)]
)
def test_the_output_and_every_gradient_are_those_of_torch(batch: tuple[int, ...], width: int, out: int) -> None:
    grads = [*forms(drawn(*batch, out, seed=4)), torch.ones(()).expand(*batch, out)]
    biases = [drawn(out, seed=3), None]
    parts = (forms(drawn(*batch, width, seed=1)), forms(drawn(out, width, seed=2)), biases, grads)
    for x, weight, bias, grad in itertools.product(*parts):
        results = []
        for function in (kernel.linear, F.linear):
            leaves = [tensor.detach().requires_grad_() for tensor in (x, weight, bias) if tensor is not None]
            y = function(*leaves)
            results.append([y, *torch.autograd.grad(y, leaves, grad)])
        for ours, theirs in zip(*results, strict=True):  # equal to rounding, relative to the largest value
            assert ours.shape == theirs.shape
            assert float((ours - theirs).detach().abs().max()) <= 2e-6 * max(float(theirs.detach().abs().max()), 1.0)


X, W, B = drawn(2, 4), drawn(3, 4, seed=1), drawn(3, seed=2)
NOT_ONEDNN: dict[str, tuple[Tensor, Tensor, Tensor | None]] = {
    "fp64": (X.double(), W.double(), B.double()), "bf16": (X.bfloat16(), W.bfloat16(), None),
    "no tokens": (X[:0], W, B), "no inputs": (X[:, :0], W[:, :0], B), "one dimension": (X[0], W, B),
    "a bias with gaps": (X, W, drawn(6, seed=2)[::2]), "a bias that is expanded": (X, W, torch.ones(()).expand(3)),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_ONEDNN)
def test_torch_multiplies_where_onednn_does_not_apply(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(kernel, "product")
    x, weight, bias = NOT_ONEDNN[case]
    assert torch.equal(kernel.linear(x, weight, bias), F.linear(x, weight, bias))
    with torch.autocast("cpu", torch.bfloat16):
        assert kernel.OneDnnLinear(4, 3)(X).dtype == torch.bfloat16


def test_only_the_class_of_plain_linear_layers_changes_and_changes_back() -> None:
    model = nn.ModuleDict({"bert": tiny_model(), "attention": nn.MultiheadAttention(4, 2)})
    before, names = copy.deepcopy(model.state_dict()), str(model)
    use_kernel(model, "onednn")
    assert type(model["attention"].out_proj) is not kernel.OneDnnLinear
    assert any(type(module) is kernel.OneDnnLinear for module in copy.deepcopy(model).modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    use_kernel(model, "torch")
    assert str(model) == names


def training(*words: str) -> TrainConfig:
    return compose(list(words)).train


@pytest.fixture
def trials(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where trials are kept; oneDNN is there."""
    monkeypatch.setattr(kernel, "has_onednn", lambda: True)
    yield cache
    fastest.chosen.cache_clear()


def choice(subject: str) -> str:
    """The choice of a process that has not asked yet."""
    fastest.chosen.cache_clear()
    if subject == "kernel":
        return fastest.kernel_of(training("train.device=cpu"))
    return fastest.settled(compose(["train.precision=auto", "train.device=cpu"])).train.precision


RATIOS = [("kernel", 0.5, "onednn"), ("kernel", 0.98, "torch"), ("kernel", None, "torch")]
RATIOS += [("precision", 0.8, "bf16"), ("precision", 0.9, "fp32")]


@pytest.mark.parametrize(("subject", "ratio", "chosen"), RATIOS)
def test_it_has_to_win_by_a_margin_and_the_trial_is_kept(
    subject: str, ratio: float | None, chosen: str, trials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = "onednn_ratio" if subject == "kernel" else "bf16_ratio"
    monkeypatch.setattr(fastest, trial, lambda: ratio)
    assert choice(subject) == chosen
    (path,) = trials.rglob(f"{subject}s/*.json")
    assert json.loads(path.read_text())["ratio"] == ratio
    monkeypatch.setattr(fastest, trial, lambda: pytest.fail("it was tried again"))
    assert choice(subject) == chosen


@onednn
def test_a_trial_leaves_chance_alone_and_what_is_not_exact_does_not_win(monkeypatch: pytest.MonkeyPatch) -> None:
    before, product = torch.get_rng_state(), kernel.product
    assert fastest.onednn_ratio() is not None
    assert torch.equal(before, torch.get_rng_state())
    monkeypatch.setattr(kernel, "product", lambda *parts: product(*parts).bfloat16().float())
    assert fastest.onednn_ratio() is None


def test_an_accelerator_is_known_by_its_units_and_needs_no_kernel(
    monkeypatch: pytest.MonkeyPatch, trials: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for units, chosen in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, units=units: units)
        assert fastest.settled(compose(["train.precision=auto"])).train.precision == chosen
    assert fastest.kernel_of(training()) == "torch"
    on_cpu = training("train.kernel=onednn", "train.device=cpu")
    assert fastest.kernel_of(on_cpu) == "onednn"
    with pytest.raises(ConfigError, match=r"train\.kernel=onednn"):
        fastest.kernel_of(training("train.kernel=onednn"))
    monkeypatch.setattr(kernel, "has_onednn", lambda: False)
    with pytest.raises(ConfigError, match=r"train\.kernel=onednn"):
        fastest.kernel_of(on_cpu)
    assert choice("kernel") == "torch"
