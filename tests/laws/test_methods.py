"""Laws that hold for every method, on three kinds of model (GPT-2 stores weights (in, out)); LoRA; PEFT's format.

PEFT's own methods are held to all of them on BERT; tests/laws/test_methods_peft.py has the other kinds.
"""

import copy
import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_config, tiny_model
from recorded import measured_rows
from torch import nn

from lorax_lab.config import LEFT_OUT_OF_METHODS, MethodConfig
from lorax_lab.errors import ConfigError
from lorax_lab.methods import METHODS, lora, method_named
from lorax_lab.methods.lora_layer import lora_layers
from lorax_lab.models import adaptable, base_weights, delta_view, head_modules, is_head, select, shapes_of
from lorax_lab.record.folder import save_trained
from lorax_lab.spectra import LowRank
from lorax_lab.streams import generator

KINDS = ("bert", "gpt2", "llama")
TOKENS = torch.tensor([[2, 5, 9, 12, 7, 3], [2, 30, 22, 3, 0, 0]])
BATCH = {"input_ids": TOKENS, "attention_mask": (TOKENS != 0).long(), "labels": torch.tensor([0, 1])}
RANK = 4
ALPHA = 8.0
ENDS = {"bert": ("query", "value"), "gpt2": ("c_attn", "c_fc"), "llama": ("q_proj", "v_proj")}
"""Of two types of matrices."""
SIZES = {
    "block_size": 16, "boft_block_size": 4, "group_size": 8, "n_frequency": 50, "num_subspaces": 2, "num_vectors": 16,
    "oft_block_size": 8, "r": 8, "sparsity": 0.9, "u": 4, "vector_length": 16,
}  # fmt: skip
"""Settings that fit matrices of 32 × 32, for the methods that have them."""

ADAPTS_NOTHING = ("head", "embeddings", "norms_and_biases")
"""Methods that change no matrix of the body."""


def method_config(name: str, **changes: object) -> MethodConfig:
    own = {field.name for field in dataclasses.fields(METHODS[name].settings)}
    return METHODS[name].settings(**{key: value for key, value in SIZES.items() if key in own} | changes)


def lora_config(**changes: object) -> MethodConfig:
    return method_config("lora", **({"alpha": ALPHA} | changes))


Made = tuple[nn.Module, dict[str, torch.Tensor]]
"""A model with a method, and the weights of its base."""


def attach(kind: str, name: str, config: MethodConfig | None = None, steps: int = 0) -> Made:
    """The method attached, and trained so many steps."""
    model, method, config = tiny_model(kind), METHODS[name], config or method_config(name)
    names = select(model, config.target_modules)
    base = base_weights(model, names)
    method.attach(model, names, config, RANK if method.has_rank else None, generator(0, "adapter"))
    train(model, steps)
    return model, base


def train(model: nn.Module, steps: int, optimizer: Any = torch.optim.AdamW, rate: float = 1e-2) -> list[float]:
    """The loss of each step."""
    optimizer, losses = optimizer([p for p in model.parameters() if p.requires_grad], lr=rate), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(**BATCH).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


made = cache(attach)


def attached(kind: str, name: str) -> Made:
    return copy.deepcopy(made(kind, name))


def trained(kind: str, name: str, config: MethodConfig | None = None) -> Made:
    return attach(kind, name, config, steps=3) if config else copy.deepcopy(made(kind, name, steps=3))


def outputs(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(**BATCH).logits


def dense(update: torch.Tensor | LowRank) -> torch.Tensor:
    return update.dense() if isinstance(update, LowRank) else update


def weights(model: nn.Module, names: list[str]) -> dict[str, torch.Tensor]:
    """What stands in the place of each matrix now, (out, in)."""
    modules = {name: model.get_submodule(name) for name in names}
    stored = {name: getattr(module, "get_base_layer", lambda own=module: own)() for name, module in modules.items()}
    return {name: delta_view(module).detach().clone() for name, module in stored.items()}


OWN = [name for name in METHODS if "/" not in name]
everywhere = pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in KINDS for name in (METHODS if kind == KINDS[0] else OWN)]
)
each = pytest.mark.parametrize("name", METHODS)


@everywhere
def test_the_update_at_the_start_is_what_the_method_says(kind: str, name: str) -> None:
    before = outputs(tiny_model(kind))
    model, base = attached(kind, name)
    updates = METHODS[name].updates(model, base)
    assert list(updates) == list(base)
    size = max(float(dense(update).norm() / base[key].norm()) for key, update in updates.items())
    moved = float((outputs(model) - before).abs().max())
    held = {
        "zero": size == 0 and moved == 0,
        "rounding": size < 1e-6 and moved < 1e-6,
        "drawn": size > 1e-4 and moved > 0,
    }
    assert held[METHODS[name].start], (size, moved)


@everywhere
def test_the_gradient_reaches_all_that_trains_and_nothing_else_changes(kind: str, name: str) -> None:
    start, base = attached(kind, name)
    before = {key: value.clone() for key, value in [*start.named_parameters(), *start.named_buffers()]}
    model, _ = made(kind, name, steps=3)  # a copy would have no gradients
    trainable = {key for key, p in model.named_parameters() if p.requires_grad}
    assert {key for key, p in model.named_parameters() if p.grad is not None} == trainable
    now = [*model.named_parameters(), *model.named_buffers()]
    changed = {key for key, value in now if not torch.equal(value, before[key])}
    assert changed == trainable
    heads = head_modules(model)
    head = {key for key, _ in tiny_model(kind).named_parameters() if is_head(key, heads)}
    assert head == trainable & {key for key, _ in model.named_parameters() if is_head(key, heads)} != set()
    own = {key for key in trainable if not is_head(key, heads)}
    assert bool(own) == METHODS[name].trains_body
    if METHODS[name].is_reference:
        assert trainable == {key for key, _ in start.named_parameters()} == set(tiny_model(kind).state_dict())
    else:  # the base's own matrices are frozen, to the bit, by what changed above
        assert name in ADAPTS_NOTHING or all(any(key.startswith(f"{matrix}.") for matrix in base) for key in own)


@everywhere
def test_an_update_has_its_rank_and_is_what_merging_adds_and_unmerging_takes_away(kind: str, name: str) -> None:
    method, (model, base) = METHODS[name], trained(kind, name)
    updates, unmerged = method.updates(model, base), weights(model, list(base))
    before, rank = outputs(model), RANK if method.has_rank else None
    table = measured_rows(updates, base, method.update_dtype)  # as the record has it
    for key, update in updates.items():
        most = method.most_rank(method_config(name), rank, tuple(update.shape))
        assert (name not in ADAPTS_NOTHING) <= table[key]["numerical_rank"] <= most <= min(update.shape)
    METHODS[name].merge(model)
    for key, weight in weights(model, list(base)).items():
        update = dense(updates[key])
        assert tuple(update.shape) == tuple(base[key].shape)
        torch.testing.assert_close(weight.double() - base[key].double(), update, atol=1e-6, rtol=0)
        assert bool(update.abs().max() > 1e-6) == (name not in ADAPTS_NOTHING)
    once = outputs(model)
    torch.testing.assert_close(once, before, atol=1e-5, rtol=1e-4)
    METHODS[name].merge(model)
    assert torch.equal(outputs(model), once)
    METHODS[name].unmerge(model)
    assert torch.equal(outputs(model), before)
    assert all(torch.equal(weight, unmerged[key]) for key, weight in weights(model, list(base)).items())


@everywhere
def test_what_is_saved_and_loaded_is_the_same(kind: str, name: str, tmp_path: Path) -> None:
    method, (model, base) = METHODS[name], trained(kind, name)
    files = method.export(model, method_config(name), "public/name")
    assert method.weights in files
    files = {file: json.loads(json.dumps(part)) if file.endswith("json") else part for file, part in files.items()}
    save_trained(tmp_path, files)
    bare = tiny_model(kind)
    saved = method.saved_updates(tmp_path, bare, base)
    assert torch.equal(outputs(bare), outputs(tiny_model(kind)))
    updates = method.updates(model, base)
    assert {key: type(update) for key, update in saved.items()} == {key: type(u) for key, u in updates.items()}
    assert all(torch.equal(dense(saved[key]), dense(update)) for key, update in updates.items())
    method.load(bare, tmp_path)
    assert torch.equal(outputs(bare.eval()), outputs(model))
    again = method.updates(bare, base)
    assert all(torch.equal(dense(again[key]), dense(update)) for key, update in updates.items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_full_fine_tune_reads_the_same_once_lora_is_attached(kind: str, tmp_path: Path) -> None:
    """As in a run that is compared with its reference; GPT-2's layers lie turned below LoRA's."""
    full, (model, base) = METHODS["full"], trained(kind, "full")
    save_trained(tmp_path, full.export(model, method_config("full"), "public/name"))
    bare = tiny_model(kind)
    saved = full.saved_updates(tmp_path, bare, base)
    METHODS["lora"].attach(bare, list(base), lora_config(), RANK, generator(0, "adapter"))
    assert all(torch.equal(saved[key], update) for key, update in full.updates(model, base).items())


@each
def test_a_file_cut_short_is_refused_and_the_model_stays_as_it_was(name: str, tmp_path: Path) -> None:
    method, (model, _) = METHODS[name], trained("bert", name)
    save_trained(tmp_path, method.export(model, method_config(name), "public/name"))
    path = tmp_path / method.weights
    path.write_bytes(path.read_bytes()[: min(500, path.stat().st_size // 2)])
    bare = tiny_model("bert")
    with pytest.raises(ConfigError, match=method.weights):
        method.load(bare, tmp_path)
    assert torch.equal(outputs(bare), outputs(tiny_model("bert")))


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_can_stay_as_pretrained_and_the_target_matrices_can_train_alone(kind: str) -> None:
    model, _ = attach(kind, "full", METHODS["full"].settings(embeddings=False))
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    embeddings = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Embedding)}
    assert frozen == {f"{name}.weight" for name in embeddings} != set()
    model, names = attach(kind, "full", METHODS["full"].settings(others=False))
    heads = head_modules(model)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name in trained if not is_head(name, heads)} == {f"{name}.weight" for name in names} < trained


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_the_body_is_every_parameter_of_its_sort(kind: str) -> None:
    """Known of each model by the names of its parameters; together with the matrices they are all there is."""
    model, heads = tiny_model(kind), head_modules(tiny_model(kind))
    body = {name for name, _ in model.named_parameters() if not is_head(name, heads)}
    own: dict[str, set[str]] = {}
    for name in ("embeddings", "norms_and_biases"):
        started, _ = attached(kind, name)
        own[name] = {key for key, p in started.named_parameters() if p.requires_grad} & body
    known = ("embeddings.weight", "wte.weight", "wpe.weight", "embed_tokens.weight")
    assert own["embeddings"] == {name for name in body if name.endswith(known)}
    assert own["norms_and_biases"] == body - own["embeddings"] - {f"{name}.weight" for name in adaptable(model)}


def test_a_model_without_the_part_is_refused() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False))
    with pytest.raises(ConfigError, match="method=embeddings is not possible: the model has no embeddings; type "):
        METHODS["embeddings"].attach(model, [], method_config("embeddings"), None, generator(0, "adapter"))


@each
def test_a_method_is_known_by_one_name_and_its_defaults_are_one_fact(name: str) -> None:
    """But for settings that are newer than records without them, which stand for what was done before."""
    from lorax_lab.launch.compose import compose

    assert method_named(name) is METHODS[name]
    assert METHODS[name].settings().name == name
    older = {key.removeprefix("method."): value for key, value in LEFT_OUT_OF_METHODS.get(name, {}).items()}
    assert dataclasses.replace(compose([f"method={name}"]).method, **older) == METHODS[name].settings()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("case", ["plain", "ranks of their own", "others train"])
def test_our_adapter_loads_in_peft_with_the_same_outputs(kind: str, rslora: bool, case: str, tmp_path: Path) -> None:
    from peft import PeftModel

    ranks = dict(zip(ENDS[kind], (2, 6), strict=True)) if case == "ranks of their own" else {}
    others = case == "others train"
    config = lora_config(rslora=rslora, ranks=[f"{end}:{rank}" for end, rank in ranks.items()], others=others)
    model, base = trained(kind, "lora", config)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert not others or frozen == {f"{name}.base.weight" for name in base}
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    for name, layer in lora_layers(model).items():
        rank = ranks.get(name.rpartition(".")[2], RANK)
        assert len(layer.lora_A) == rank
        assert layer.scaling == ALPHA / (rank**0.5 if rslora else rank)
    save_trained(tmp_path, METHODS["lora"].export(model, config, "public/name"))
    theirs = PeftModel.from_pretrained(tiny_model(kind), tmp_path).eval()
    torch.testing.assert_close(outputs(theirs), outputs(model), atol=1e-6, rtol=1e-5)
    ours = tiny_model(kind)
    lora.load(ours, tmp_path)
    assert torch.equal(outputs(ours.eval()), outputs(model))
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "public/name"


def test_an_output_layer_that_shares_its_weight_is_saved_with_what_trains_beside_lora(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    def bare() -> Any:
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(tiny_config("gpt2")).eval()

    config, model = lora_config(others=True, target_modules=["c_attn"]), bare()
    METHODS["lora"].attach(model, select(model, config.target_modules), config, RANK, generator(0, "adapter"))
    matrices = {f"{name}.weight" for name in adaptable(bare())}
    assert not any(p.requires_grad for name, p in model.named_parameters() if name.replace(".base.", ".") in matrices)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator(0, "test")))
    save_trained(tmp_path, METHODS["lora"].export(model, config, "public/name"))
    with pytest.warns(UserWarning, match="tie_word_embeddings"):
        theirs = PeftModel.from_pretrained(bare(), tmp_path).eval()
    torch.testing.assert_close(theirs(TOKENS).logits, model(TOKENS).logits, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("ranks", "named"),
    [("query:4", "query:4"), (["query"], "query"), (["query:0"], "query:0"), (["qury:4"], "qury"),
     (["query:33"], "33 is above .* 32 of .*query"), (["query:2", "self.query:3"], "query several ranks")],
)  # fmt: skip
def test_ranks_that_cannot_be_are_refused(ranks: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        lora.check(lora_config(ranks=ranks), RANK, shapes_of(tiny_model("bert")))
    with pytest.raises(ConfigError, match=r"rank=17 .* 16 of b; type rank=16"):
        lora.check(lora_config(), 17, {"a": (32, 64), "b": (64, 16)})


def test_lora_starts_kaiming_uniform_from_its_own_stream() -> None:
    first, second = attach("bert", "lora")[0], attach("bert", "lora")[0]
    for one, other in zip(lora_layers(first).values(), lora_layers(second).values(), strict=True):
        assert torch.equal(one.lora_A, other.lora_A)
        bound = one.lora_A.shape[1] ** -0.5
        assert bound * 0.8 < one.lora_A.abs().max() <= bound
        assert not one.lora_B.any()


def test_the_update_of_a_full_fine_tune_is_exact_beyond_fp32(tmp_path: Path) -> None:
    model, method = tiny_model("bert"), METHODS["full"]
    names = select(model, ["query"])
    base = base_weights(model, names)
    with torch.no_grad():
        for name in names:
            delta_view(model.get_submodule(name)).mul_(1 + 2e-7)  # by an ulp or two, which fp32's difference may lose
            base[name] = base[name] * 3  # the difference of these has more bits than fp32 holds
    save_trained(tmp_path, method.export(model, method_config("full"), "base"))
    for updates in (method.updates(model, base), method.saved_updates(tmp_path, tiny_model("bert"), base)):
        for name, update in updates.items():
            assert update.dtype == torch.float64
            assert torch.equal(base[name].double() + update, delta_view(model.get_submodule(name)).double())


@pytest.mark.parametrize("damage", ["pissa", "dropout", "shape", "head"])
def test_an_adapter_that_does_not_fit_is_refused_and_nothing_changes(damage: str, tmp_path: Path) -> None:
    model, _ = trained("bert", "lora")
    files = METHODS["lora"].export(model, lora_config(), "x")
    settings, tensors = files["adapter_config.json"], files["adapter_model.safetensors"]
    A, head = (next(key for key in tensors if part in key) for part in ("lora_A", "classifier"))
    settings |= {"pissa": {"init_lora_weights": "pissa"}, "dropout": {"lora_dropout": 1.5}}.get(damage, {})
    tensors |= {"shape": {A: torch.zeros(4, 31)}, "head": {head: tensors[head] * torch.nan}}.get(damage, {})
    save_trained(tmp_path, files)
    bare = tiny_model("bert")
    with pytest.raises(ConfigError, match=str(tmp_path)):
        lora.load(bare, tmp_path)
    assert torch.equal(outputs(bare), outputs(tiny_model("bert")))
