"""oneDNN's products in linear layers: exact, with right gradients, chosen by a trial that nothing damaged decides."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Lab, tiny_model
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from lorax_lab import console
from lorax_lab.config import TrainConfig
from lorax_lab.errors import ConfigError
from lorax_lab.launch import fastest
from lorax_lab.launch.compose import compose
from lorax_lab.launch.plan import run_of
from lorax_lab.methods import METHODS
from lorax_lab.methods.lora_layer import LoRALinear
from lorax_lab.models import adaptable, kernel, select, use_kernel
from lorax_lab.record.record import read_record
from lorax_lab.streams import generator

onednn = pytest.mark.skipif(not kernel.has_onednn(), reason="this build of torch has no oneDNN")
SHAPES = [(1, 4, 4), (1, 1, 1), (7, 1, 5), (5, 3, 1), (16, 32, 64), (33, 65, 17), (100, 384, 96)]
"""Tokens, in, out."""


@pytest.fixture(autouse=True)
def no_size_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "SMALL", 0)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def forms(tensor: Tensor) -> dict[str, Tensor]:
    """The same matrix, laid out in memory in different ways."""
    rows, columns = tensor.shape
    wide = torch.full((2 * rows + 1, 3 * columns + 1), float("nan"))
    gaps, offset = wide[::2][:rows, 1::3], wide.clone()[rows:][:rows, -columns:]
    gaps.copy_(tensor)
    offset.copy_(tensor)
    return {"plain": tensor, "turned": tensor.t().contiguous().t(), "gaps": gaps, "offset": offset}


def close(ours: Tensor, theirs: Tensor, rtol: float = 2e-6) -> None:
    """Equal to rounding, relative to the largest value."""
    assert ours.shape == theirs.shape
    ours, theirs = ours.detach(), theirs.detach()
    assert float((ours - theirs).abs().max()) <= rtol * max(float(theirs.abs().max()), 1.0)


def results(function: Any, x: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor) -> list[Tensor]:
    """The output, and the gradient of everything that has one."""
    leaves = [t.detach().requires_grad_() for t in (x, weight, bias) if t is not None]
    y = function(*leaves)
    return [y, *torch.autograd.grad(y, leaves, grad)]


@onednn
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_output_and_every_gradient_are_those_of_torch(shape: tuple[int, int, int], has_bias: bool) -> None:
    tokens, width, out = shape
    bias = drawn(out, seed=3) if has_bias else None
    for x in forms(drawn(tokens, width, seed=1)).values():
        for weight in forms(drawn(out, width, seed=2)).values():
            for grad in forms(drawn(tokens, out, seed=4)).values():
                pairs = zip(*(results(f, x, weight, bias, grad) for f in (kernel.linear, F.linear)), strict=True)
                for ours, theirs in pairs:
                    close(ours, theirs)


@onednn
@pytest.mark.parametrize("batch", [(3,), (2, 3), (2, 3, 4), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("turned", [False, True])
def test_dimensions_of_the_batch_are_kept(batch: tuple[int, ...], turned: bool) -> None:
    x, weight, bias = drawn(*batch, 8), drawn(5, 8, seed=1), drawn(5, seed=2)
    x = x.transpose(0, -2).contiguous().transpose(0, -2) if turned else x
    for grad in (drawn(*batch, 5, seed=3), torch.ones(()).expand(*batch, 5)):
        for ours, theirs in zip(*(results(f, x, weight, bias, grad) for f in (kernel.linear, F.linear)), strict=True):
            close(ours, theirs)


def test_the_formulas_are_the_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """By finite differences in fp64, with torch's product in place of oneDNN's."""
    monkeypatch.setattr(kernel, "product", F.linear)
    inputs = [drawn(2, 3, 4).double(), drawn(5, 4, seed=1).double(), drawn(5, seed=2).double()]
    assert torch.autograd.gradcheck(kernel._Linear.apply, [t.requires_grad_() for t in inputs])


@onednn
@pytest.mark.parametrize(
    "needs", [(True, False, False), (False, True, False), (False, False, True), (True, True, False)]
)
def test_only_what_is_asked_for_gets_a_gradient_and_is_kept(needs: tuple[bool, bool, bool]) -> None:
    inputs = [drawn(6, 4), drawn(3, 4, seed=1), drawn(3, seed=2)]
    grads, kept = [], []
    for function in (kernel.linear, F.linear):
        leaves = [t.clone().requires_grad_(need) for t, need in zip(inputs, needs, strict=True)]
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=saved: (s.append(t.numel()), t)[1], lambda t: t):
            function(*leaves).square().sum().backward()
        grads.append([leaf.grad for leaf in leaves])
        kept.append(sorted(saved))
    assert [g is not None for g in grads[0]] == list(needs)
    for ours, theirs in zip(*grads, strict=True):
        if ours is not None:
            close(ours, theirs)
    assert kept[0] == kept[1]


@onednn
def test_an_output_can_be_added_to_in_place() -> None:
    """Also one of several dimensions, for which oneDNN returns a view."""
    layer = LoRALinear(kernel.OneDnnLinear(4, 3), 2, 1.0)
    for function in (kernel.OneDnnLinear(4, 3), layer):
        x = drawn(2, 5, 4).requires_grad_()
        y = function(x)
        assert not y._is_view()
        y += 1
        y.sum().backward()
        assert x.grad is not None


@onednn
def test_a_second_derivative_is_refused_and_not_wrong() -> None:
    x = drawn(2, 4).requires_grad_()
    (grad,) = torch.autograd.grad(kernel.OneDnnLinear(4, 3)(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


X, W, B = drawn(2, 4), drawn(3, 4, seed=1), drawn(3, seed=2)
NOT_ONEDNN: dict[str, tuple[Tensor, Tensor, Tensor | None]] = {
    "fp64": (X.double(), W.double(), B.double()),
    "bf16": (X.bfloat16(), W.bfloat16(), None),
    "no tokens": (X[:0], W, B),
    "no outputs": (X, W[:0], B[:0]),
    "no inputs": (X[:, :0], W[:, :0], B),
    "one dimension": (X[0], W, B),
    "a bias with gaps": (X, W, drawn(6, seed=2)[::2]),
    "a bias that is expanded": (X, W, torch.ones(()).expand(3)),
    "a meta device": (X.to("meta"), W.to("meta"), B.to("meta")),
}


@pytest.mark.parametrize("case", NOT_ONEDNN)
def test_torch_multiplies_where_onednn_does_not_apply(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(kernel, "product")
    x, weight, bias = NOT_ONEDNN[case]
    ours, theirs = kernel.linear(x, weight, bias), F.linear(x, weight, bias)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    if not ours.is_meta:
        assert torch.equal(ours, theirs)


@onednn
def test_torch_makes_small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    made, product = [], kernel.product
    monkeypatch.setattr(kernel, "product", lambda *parts: made.append(1) or product(*parts))
    monkeypatch.setattr(kernel, "SMALL", 2 * 4 * 3)
    kernel.linear(X, W, B)
    kernel.linear(X[:1], W, B)
    assert len(made) == 1


@onednn
def test_a_matrix_with_gaps_is_copied_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first token of each text is, which a pooler reads: oneDNN's product would be many times slower."""
    seen, product = [], kernel.product

    def watched(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        seen.extend([x, weight])
        return product(x, weight, bias)

    monkeypatch.setattr(kernel, "product", watched)
    x, grad = drawn(6, 5, 4).requires_grad_(), drawn(6, 7, 3)[:, 0]
    for layer in (kernel.OneDnnLinear(4, 3), LoRALinear(kernel.OneDnnLinear(4, 3), 2, 1.0)):
        layer(x[:, 0]).backward(grad)
        with torch.no_grad():
            layer(x[:, 0])
    assert len(seen) == 2 * (3 + 1 + 2 + 1)
    assert all(matrix.is_contiguous() or matrix.t().is_contiguous() for matrix in seen)


@pytest.mark.parametrize(("x", "weight", "bias"), [(X, W[:, :3], None), (X, W, B[:2]), (X, W.double(), None)])
def test_sizes_that_do_not_fit_have_torchs_error(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    with pytest.raises(RuntimeError) as theirs:
        F.linear(x, weight, bias)
    with pytest.raises(RuntimeError) as ours:
        kernel.linear(x, weight, bias)
    assert str(ours.value) == str(theirs.value)


@onednn
def test_autocast_stays_torchs() -> None:
    layer = kernel.OneDnnLinear(4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(X).dtype == torch.bfloat16
    assert layer(X).dtype == torch.float32


def batch_of(model: nn.Module) -> dict[str, Tensor]:
    ids = torch.randint(4, 60, (5, 9), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([0, 1, 0, 1, 1])}


def trained(model: nn.Module) -> dict[str, Tensor]:
    """The loss, and the gradient of every parameter that has one."""
    model.zero_grad()
    loss = model(**batch_of(model)).loss
    loss.backward()
    return {"loss": loss.detach()} | {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@onednn
@pytest.mark.parametrize("method", ["full", "lora", "lora with dropout", "peft/lora"])
@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
def test_a_whole_model_has_the_same_loss_and_gradients(kind: str, method: str) -> None:
    name, dropout = method.split()[0], 0.3 if "dropout" in method else 0.0
    config = compose([f"method={name}", *(["rank=2"] if name != "full" else [])])
    if dropout:
        config.method.dropout = dropout
    seen = {}
    for used in ("torch", "onednn"):
        model = tiny_model(kind)
        use_kernel(model, used)
        METHODS[name].attach(model, select(model, ["all-linear"]), config.method, config.rank, generator(0, "adapter"))
        with torch.no_grad():
            for parameter in (p for n, p in model.named_parameters() if "lora_B" in n):
                parameter.copy_(drawn(*parameter.shape) / 10)
        model.train(bool(dropout))
        torch.manual_seed(0)
        seen[used] = trained(model)
        assert any(isinstance(m, kernel.OneDnnLinear) for m in model.modules()) == (used == "onednn")
    assert seen["torch"].keys() == seen["onednn"].keys()
    for key, theirs in seen["torch"].items():
        close(seen["onednn"][key], theirs)


@onednn
@pytest.mark.parametrize("bias", [True, False])
def test_loras_layer_is_the_same_merged_and_unmerged(bias: bool) -> None:
    plain = LoRALinear(nn.Linear(24, 40, bias=bias), 3, 1.7)
    with torch.no_grad():
        plain.lora_A.copy_(drawn(3, 24))
        plain.lora_B.copy_(drawn(40, 3))
    fast = copy.deepcopy(plain)
    use_kernel(fast, "onednn")
    x, grad = drawn(2, 7, 24, seed=1), drawn(2, 7, 40, seed=2)
    outputs = []
    for layer in (plain, fast):
        own = x.clone().requires_grad_()
        y = layer(own)
        parts = [y, *torch.autograd.grad(y, [own, layer.lora_A, layer.lora_B], grad)]
        layer.merge()
        parts += [layer(x)]
        layer.unmerge()
        outputs.append([*parts, layer(x)])
    for ours, theirs in zip(outputs[1], outputs[0], strict=True):
        close(ours, theirs)
    close(outputs[1][-2], outputs[1][0], 1e-5)


@onednn
def test_oneDNN_is_really_what_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    """In all three products of a layer, and in both of LoRA's with the frozen weight."""
    made, product = [], kernel.product

    def counted(*parts: Any) -> Tensor:
        made.append(parts[0].shape)
        return product(*parts)

    monkeypatch.setattr(kernel, "product", counted)
    x = drawn(2, 5, 4).requires_grad_()
    kernel.OneDnnLinear(4, 3)(x).sum().backward()
    assert len(made) == 3
    made.clear()
    LoRALinear(kernel.OneDnnLinear(4, 3), 2, 1.0)(x).sum().backward()
    assert len(made) == 2
    made.clear()
    LoRALinear(nn.Linear(4, 3), 2, 1.0)(x).sum().backward()
    with torch.inference_mode():
        kernel.OneDnnLinear(4, 3)(X)
    assert len(made) == 1


@onednn
def test_only_the_class_of_plain_linear_layers_changes_and_changes_back() -> None:
    class Own(nn.Linear):
        pass

    model = nn.ModuleDict({"bert": tiny_model(), "own": Own(4, 4), "attention": nn.MultiheadAttention(4, 2)})
    before, names, targets = copy.deepcopy(model.state_dict()), str(model), list(adaptable(model["bert"]))
    use_kernel(model, "onednn")
    assert type(model["own"]) is Own
    assert sum(type(m) is kernel.OneDnnLinear for m in model.modules()) == sum(
        type(m) is nn.Linear for m in tiny_model().modules()
    )
    for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model["bert"]))):
        assert any(type(m) is kernel.OneDnnLinear for m in other.modules())
    assert list(adaptable(model["bert"])) == targets
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    use_kernel(model, "torch")
    assert str(model) == names


# ------------------------------------------------------------------ the choice


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A cache folder of the test's own, where oneDNN has won; the file in which the trial is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LORAX_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fastest, "onednn_ratio", lambda: 0.5)
    monkeypatch.setattr(kernel, "has_onednn", lambda: True)
    assert anew() == "onednn"
    (path,) = tmp_path.rglob("kernels/*.json")
    yield path
    fastest.chosen.cache_clear()


def anew() -> str:
    """The choice of a process that has not asked yet."""
    fastest.chosen.cache_clear()
    return fastest.kernel_of(training("train.device=cpu"))


@onednn
def test_a_trial_leaves_chance_alone() -> None:
    before, ratio = torch.get_rng_state(), fastest.onednn_ratio()
    assert ratio is not None
    assert 0.01 < ratio < 100
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("ratio", "chosen"), [(0.5, "onednn"), (0.98, "torch"), (1.5, "torch"), (None, "torch")])
def test_onednn_has_to_win_by_a_margin(
    ratio: float | None, chosen: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.unlink()
    monkeypatch.setattr(fastest, "onednn_ratio", lambda: ratio)
    assert anew() == chosen
    monkeypatch.setattr(fastest, "onednn_ratio", lambda: pytest.fail("it was tried again"))
    assert anew() == chosen
    assert json.loads(place.read_text())["ratio"] == ratio


@onednn
def test_products_that_are_not_exact_or_fail_do_not_win(monkeypatch: pytest.MonkeyPatch) -> None:
    product = kernel.product

    def rounded(*parts: Any) -> Tensor:
        return product(*parts).bfloat16().float()

    def failing(*parts: Any) -> Tensor:
        raise RuntimeError("could not create a primitive")

    for wrong in (rounded, failing):
        monkeypatch.setattr(kernel, "product", wrong)
        assert fastest.onednn_ratio() is None


@pytest.mark.parametrize("content", ["", "onednn", "null", '{"kernel": "cuda"}', '{"kernel": 1}', '{"machine": {}}'])
def test_a_file_that_names_no_kernel_is_tried_again(content: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write_text(content)
    monkeypatch.setattr(fastest, "onednn_ratio", lambda: 1.5)
    assert anew() == "torch"
    assert json.loads(place.read_text())["kernel"] == "torch"


def test_a_folder_that_cannot_be_written_is_no_obstacle(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.unlink()
    place.parent.rmdir()
    place.parent.write_text("")
    assert anew() == "onednn"


def test_the_one_who_was_first_decides(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = place.read_text()
    place.unlink()

    def another_is_faster() -> float:
        place.write_text(content)
        return 2.0

    monkeypatch.setattr(fastest, "onednn_ratio", another_is_faster)
    assert anew() == "onednn"


def training(*words: str) -> TrainConfig:
    return compose(list(words)).train


def test_an_accelerator_multiplies_as_it_did(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fastest.kernel_of(training("train.device=cpu", "train.kernel=torch")) == "torch"
    assert fastest.kernel_of(training("train.device=cuda")) == "torch"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert fastest.kernel_of(training()) == "torch"
    with pytest.raises(ConfigError, match=r"train\.kernel=onednn"):
        fastest.check_processor(training("train.kernel=onednn"))
    fastest.check_processor(training("train.kernel=onednn", "train.device=cpu"))


def test_a_build_without_it_refuses_it_and_chooses_torch(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(kernel, "has_onednn", lambda: False)
    with pytest.raises(ConfigError, match=r"train\.kernel=onednn"):
        fastest.check_processor(training("train.kernel=onednn", "train.device=cpu"))
    assert anew() == "torch"  # whatever is kept


def test_a_kernel_makes_no_other_run(small_run: list[str]) -> None:
    assert len({run_of(compose([*small_run, f"train.kernel={k}"])).run_id for k in ("auto", "torch", "onednn")}) == 1


# ------------------------------------------------------------------ whole runs


def only(overrides: list[str]) -> Path:
    store = Path(next(word for word in overrides if word.startswith("runs_dir=")).partition("=")[2])
    (folder,) = {path.parent for path in store.glob("tiny-bert-*/record.json")}
    return folder


@onednn
@pytest.mark.parametrize("used", ["torch", "onednn"])
@pytest.mark.parametrize("method", ["method=full", "method=lora"])
def test_a_run_that_goes_on_ends_in_the_same_bits_and_says_what_multiplied(
    used: str, method: str, small_run: list[str], lab_here: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = [method, *(["rank=2", "method.dropout=0.1"] if method == "method=lora" else [])]
    overrides = [*small_run, *words, "reference=false", "checkpoint_seconds=0", f"train.kernel={used}"]
    whole = [*overrides, f"runs_dir={tmp_path / 'whole'}"]
    whole.remove(next(word for word in whole if word.startswith("runs_dir=")))
    assert lab_here(*whole).returncode == 0
    on_step, steps, product, made = console.Steps.__call__, list[int](), kernel.product, list[int]()

    def watched(self: Any, at: int, *rest: Any) -> None:
        on_step(self, at, *rest)
        steps.append(at)
        if len(steps) == 3:
            raise KeyboardInterrupt

    def counted(*parts: Any) -> Tensor:
        made.append(1)
        return product(*parts)

    monkeypatch.setattr(console.Steps, "__call__", watched)
    monkeypatch.setattr(kernel, "product", counted)
    assert lab_here(*overrides).returncode == 130
    assert lab_here(*overrides).returncode == 0
    assert steps == [1, 2, 3, 4, 5, 6]
    assert bool(made) == (used == "onednn")
    before, after = read_record(only(whole)), read_record(only(overrides))
    assert before.hardware == after.hardware
    assert after.hardware["kernel"] == used
    assert before.completed.metrics == after.completed.metrics
    weights = [load_file(path) for path in sorted(only(whole).glob("*.safetensors"))]
    others = [load_file(path) for path in sorted(only(overrides).glob("*.safetensors"))]
    assert weights
    for ours, theirs in zip(weights, others, strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours | theirs)


@onednn
@pytest.mark.parametrize("change", ["kernel", "threads"])
def test_a_run_goes_on_only_under_the_same_arithmetic(
    change: str, small_run: list[str], lab_here: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*small_run, "rank=2", "reference=false", "train.max_steps=4", "checkpoint_seconds=0"]
    on_step, steps = console.Steps.__call__, list[int]()

    def watched(self: Any, at: int, *rest: Any) -> None:
        on_step(self, at, *rest)
        steps.append(at)
        if len(steps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(console.Steps, "__call__", watched)
    assert lab_here(*overrides, "train.kernel=torch").returncode == 130
    if change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    done = lab_here(*overrides, f"train.kernel={'onednn' if change == 'kernel' else 'torch'}")
    assert done.returncode == 0, done.stdout
    assert f"is of another {change}; training starts from the beginning" in " ".join(done.stdout.split())
    assert steps == [1, 2, 1, 2, 3, 4]
