"""Laws that hold for every method, on a BERT and a GPT-2 (whose weights are stored (in, out)); and PEFT's format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import tiny_model
from torch import nn

from lorax_lab.config import MethodConfig
from lorax_lab.errors import ConfigError
from lorax_lab.methods import METHODS, count_parameters, full, lora, peft_format
from lorax_lab.models import adaptable, base_weights, delta_view, head_modules, is_head, select
from lorax_lab.spectra import LowRank, numerical_rank, singular_values
from lorax_lab.store.folder import save_trained
from lorax_lab.streams import generator

KINDS = ("bert", "gpt2", "llama")
TOKENS = torch.tensor([[2, 5, 9, 12, 7, 3], [2, 30, 22, 3, 0, 0]])
BATCH = {"input_ids": TOKENS, "attention_mask": (TOKENS != 0).long(), "labels": torch.tensor([0, 1])}
RANK = 4


def method_config(name: str, **changes: object) -> MethodConfig:
    plain = {"target_modules": "all-linear", "alpha": None, "dropout": None, "rslora": None}
    own = {"alpha": 8.0, "dropout": 0.0, "rslora": False} if name == "lora" else {}
    return MethodConfig(name=name, **(plain | own | changes))  # type: ignore[arg-type]


def attached(kind: str, name: str, **changes: object) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    model, config = tiny_model(kind), method_config(name, **changes)
    names = select(model, config.target_modules)
    base = base_weights(model, names)
    METHODS[name].attach(model, names, config, RANK if name == "lora" else None, generator(0, "adapter"))
    return model, base


def trained(kind: str, name: str, **changes: object) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    model, base = attached(kind, name, **changes)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model(**BATCH).loss.backward()
        optimizer.step()
    return model, base


def outputs(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(**BATCH).logits


everywhere = pytest.mark.parametrize(("kind", "name"), [(k, n) for k in KINDS for n in METHODS])


@everywhere
def test_the_update_is_zero_at_the_start(kind: str, name: str) -> None:
    before = outputs(tiny_model(kind))
    model, base = attached(kind, name)
    assert torch.equal(outputs(model), before)
    updates = METHODS[name].updates(model, base)
    assert list(updates) == list(base)
    assert all(singular_values(update).max() == 0 for update in updates.values())


@everywhere
def test_the_gradient_reaches_all_that_trains_and_nothing_else_changes(kind: str, name: str) -> None:
    before = {key: value.clone() for key, value in attached(kind, name)[0].state_dict().items()}
    model, _ = trained(kind, name)
    trainable = {key for key, p in model.named_parameters() if p.requires_grad}
    assert {key for key, p in model.named_parameters() if p.grad is not None} == trainable
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == trainable
    heads = head_modules(model)
    adapter = {key for key in trainable if not is_head(key, heads)}
    assert adapter == {key for key in adapter if ".lora_" in key} if name == "lora" else trainable == set(before)


@everywhere
def test_the_update_is_what_the_weights_changed_by(kind: str, name: str) -> None:
    model, base = trained(kind, name)
    updates = METHODS[name].updates(model, base)
    before = outputs(model)
    if name == "lora":
        lora.merge(model)
    for key, update in updates.items():
        module = model.get_submodule(key)
        weight = delta_view(module.base if isinstance(module, lora.LoRALinear) else module)
        dense = update.dense() if isinstance(update, LowRank) else update
        assert tuple(update.shape) == tuple(base[key].shape)
        torch.testing.assert_close(weight.double() - base[key].double(), dense, atol=1e-6, rtol=0)
        assert dense.abs().max() > 1e-4
    torch.testing.assert_close(outputs(model), before, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_lora_updates_have_at_most_the_rank_of_their_factors(kind: str) -> None:
    model, base = trained(kind, "lora")
    for update in lora.updates(model, base).values():
        assert isinstance(update, LowRank)
        sigma = torch.linalg.svdvals(update.dense())
        assert 1 <= numerical_rank(sigma, update.shape) <= RANK


@pytest.mark.parametrize("kind", KINDS)
def test_merging_twice_is_merging_once_and_unmerging_restores_the_bits(kind: str) -> None:
    model, base = trained(kind, "lora")
    before = outputs(model)
    lora.merge(model)
    once = outputs(model)
    lora.merge(model)
    assert torch.equal(outputs(model), once)
    assert not torch.equal(delta_view(next(iter(lora.lora_layers(model).values())).base), next(iter(base.values())))
    lora.unmerge(model)
    assert torch.equal(outputs(model), before)
    for key, layer in lora.lora_layers(model).items():
        assert torch.equal(delta_view(layer.base), base[key])


@pytest.mark.parametrize("kind", KINDS)
def test_detaching_gives_the_base_back(kind: str) -> None:
    model, base = trained(kind, "lora")
    lora.merge(model)
    lora.detach(model)
    assert list(adaptable(model)) == list(base)
    assert all(torch.equal(delta_view(module), base[key]) for key, module in adaptable(model).items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rslora", [False, True])
def test_our_adapter_loads_in_peft_with_the_same_outputs(kind: str, rslora: bool, tmp_path: Path) -> None:
    from peft import PeftModel

    model, _ = trained(kind, "lora", rslora=rslora)
    save_trained(tmp_path, METHODS["lora"].export(model, method_config("lora", rslora=rslora), "public/name"))
    theirs = PeftModel.from_pretrained(tiny_model(kind), tmp_path).eval()
    torch.testing.assert_close(outputs(theirs), outputs(model), atol=1e-6, rtol=1e-5)
    ours = tiny_model(kind)
    peft_format.load(ours, tmp_path)
    assert torch.equal(outputs(ours.eval()), outputs(model))
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "public/name"


@pytest.mark.parametrize("kind", KINDS)
def test_pefts_adapter_loads_in_ours_with_the_same_outputs(kind: str, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    names = select(tiny_model(kind), ["all-linear"])[:3]
    config = LoraConfig(
        task_type="SEQ_CLS", r=3, lora_alpha=6, target_modules=names, fan_in_fan_out=kind == "gpt2",
        alpha_pattern={names[0]: 9}, rank_pattern={names[1]: 2}, init_lora_weights=False,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = get_peft_model(tiny_model(kind), config).eval()
    theirs.save_pretrained(tmp_path)
    ours = tiny_model(kind)
    assert not torch.allclose(outputs(theirs), outputs(ours))
    peft_format.load(ours, tmp_path)
    torch.testing.assert_close(outputs(ours.eval()), outputs(theirs), atol=1e-6, rtol=1e-5)


def test_a_full_fine_tune_is_read_back_as_the_same_update(tmp_path: Path) -> None:
    for kind in KINDS:
        model, base = trained(kind, "full")
        save_trained(tmp_path, METHODS["full"].export(model, method_config("full"), kind))
        stored = full.stored_updates(tmp_path / "model.safetensors", tiny_model(kind), base)
        assert all(torch.equal(stored[key], update) for key, update in full.updates(model, base).items())


def test_parameters_are_counted_with_the_head_apart() -> None:
    model, base = attached("bert", "lora")
    expected = sum(RANK * sum(weight.shape) for weight in base.values())
    head = (32 * 32 + 32) + (32 * 2 + 2)
    counts = count_parameters(model)
    assert counts["adapter"] == expected
    assert counts["head"] == head
    assert counts["trainable"] == expected + head
    bare = sum(p.numel() for p in tiny_model("bert").parameters())
    assert counts["total"] == bare + expected
    assert count_parameters(attached("bert", "full")[0])["trainable"] == bare


def test_lora_starts_kaiming_uniform_from_its_own_stream() -> None:
    first, second = attached("bert", "lora")[0], attached("bert", "lora")[0]
    for one, other in zip(lora.lora_layers(first).values(), lora.lora_layers(second).values(), strict=True):
        assert torch.equal(one.lora_A, other.lora_A)
        bound = one.lora_A.shape[1] ** -0.5
        assert bound * 0.8 < one.lora_A.abs().max() <= bound
        assert not one.lora_B.any()


@pytest.mark.parametrize("stored", ["linear", "linear without bias", "conv1d"])
def test_the_fused_gradients_are_those_of_the_formula(stored: str) -> None:
    from transformers.pytorch_utils import Conv1D

    draw = generator(0, "test")
    base = Conv1D(7, 5) if stored == "conv1d" else nn.Linear(5, 7, bias=stored == "linear")
    layer = lora.LoRALinear(base, 3, 1.7).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    x = torch.randn(2, 4, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    plain = base(x) + 1.7 * (x @ layer.lora_A.t() @ layer.lora_B.t())
    torch.testing.assert_close(layer(x), plain)
    trainable = (x, layer.lora_A, layer.lora_B)
    cotangent = torch.randn(plain.shape, generator=draw, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad(layer(x), trainable, cotangent), torch.autograd.grad(plain, trainable, cotangent)
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.float()(x.float()).dtype == torch.bfloat16
    assert layer(x.float().detach()).shape == (2, 4, 7)


def test_a_models_own_change_of_the_output_in_place_is_differentiated() -> None:
    layer, x, other = lora.LoRALinear(nn.Linear(5, 7), 3, 1.7), torch.randn(2, 4, 5), torch.randn(2, 4, 7)
    torch.nn.init.normal_(layer.lora_B)
    y = layer(x)
    y += other  # as Falcon does with its attention's output
    y.square().sum().backward()
    found, layer.lora_B.grad = layer.lora_B.grad, None
    (layer(x) + other).square().sum().backward()
    torch.testing.assert_close(found, layer.lora_B.grad)


def test_dropout_acts_in_training_only() -> None:
    model, _ = trained("bert", "lora", dropout=0.5)
    assert torch.equal(outputs(model), outputs(model))
    layer = next(iter(lora.lora_layers(model).values())).train()
    x = torch.randn(5, 32)
    assert not torch.equal(layer(x), layer(x))


@pytest.mark.parametrize(
    ("targets", "count"), [(["query", "value"], 4), (["attention.output.dense"], 2), (["output.dense"], 4)]
)
def test_targets_are_chosen_by_the_ends_of_their_names(targets: list[str], count: int) -> None:
    assert len(select(tiny_model("bert"), targets)) == count


def test_the_pooler_and_the_classifier_are_no_targets() -> None:
    names = select(tiny_model("bert"), ["all-linear"])
    assert len(names) == 12
    assert not any("pooler" in name or "classifier" in name for name in names)


def test_a_target_that_matches_nothing_lists_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"method.target_modules=qery matches no matrix.*did you mean 'query'"):
        select(tiny_model("bert"), ["qery"])


def test_a_rank_above_the_matrix_is_refused() -> None:
    model = tiny_model("bert")
    with pytest.raises(ConfigError, match=r"rank=33 is above min\(out, in\) = 32 of .*type rank=32"):
        lora.attach(model, select(model, ["all-linear"]), method_config("lora"), 33, generator(0, "adapter"))


@pytest.mark.parametrize("damage", ["method", "dora", "shape", "rank", "nan", "head", "cut", "absent"])
def test_an_adapter_that_does_not_fit_is_refused_and_nothing_changes(damage: str, tmp_path: Path) -> None:
    model, _ = trained("bert", "lora")
    files = METHODS["lora"].export(model, method_config("lora"), "x")
    settings, tensors = files["adapter_config.json"], files["adapter_model.safetensors"]
    if damage == "method":
        settings["peft_type"] = "IA3"
    if damage == "dora":
        settings["use_dora"] = True
    if damage == "shape":
        tensors[next(key for key in tensors if "lora_A" in key)] = torch.zeros(4, 31)
    if damage == "rank":
        settings["r"] = 5
    if damage in ("nan", "head"):
        key = next(key for key in tensors if ("lora_B" if damage == "nan" else "classifier") in key)
        tensors[key] = torch.full_like(tensors[key], float("nan"))
    save_trained(tmp_path, files)
    path = tmp_path / "adapter_model.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:500])
    if damage == "absent":
        path.unlink()
    bare = tiny_model("bert")
    with pytest.raises(ConfigError, match=str(tmp_path)):
        peft_format.load(bare, tmp_path)
    assert torch.equal(outputs(bare), outputs(tiny_model("bert")))
