"""PEFT's methods: all are here or left out with a reason; the numbers are PEFT's; what PEFT refuses is refused."""

import dataclasses
import json
import pickle
import warnings
from pathlib import Path

import peft
import pytest
import torch
from conftest import tiny_model
from families import BY_NAME
from recorded import measured_rows
from test_methods import BATCH, RANK, attach, dense, method_config, outputs, trained, weights
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from lorax_lab.config.identity import science
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose, spell_out
from lorax_lab.methods import METHODS, method_named
from lorax_lab.methods.peft_bridge import PREFIX, update_of
from lorax_lab.methods.peft_settings import settings_of
from lorax_lab.methods.peft_table import LEFT_OUT, TABLE
from lorax_lab.models import shapes_of
from lorax_lab.record.checkpoints import Checkpoints, Position
from lorax_lab.record.folder import save_trained

PEFTS = [name for name in METHODS if name.startswith(PREFIX)]
NO_SCALER = torch.amp.GradScaler("cpu", enabled=False)
each = pytest.mark.parametrize("name", PEFTS)


def rank_of(name: str) -> int | None:
    return RANK if METHODS[name].has_rank else None


def test_every_method_of_peft_is_here_or_refused_with_a_reason() -> None:
    here = {entry.type for entry in TABLE.values()} | {name.upper() for name in LEFT_OUT}
    assert {kind.value for kind in peft.PeftType} <= here
    assert not TABLE.keys() & LEFT_OUT.keys()
    for name, reason in LEFT_OUT.items():
        with pytest.raises(ConfigError) as caught:
            method_named(PREFIX + name)
        assert reason in str(caught.value)


@each
def test_factors_are_the_merged_weight_in_fp64_and_so_is_what_is_read_while_merged(name: str) -> None:
    """Where the frozen weight was rounded after its start was taken out, but for that rounding."""
    model, base = trained("bert", name)
    updates = METHODS[name].updates(model, base)
    error = 1e-6 if METHODS[name].start == "rounding" or METHODS[name].update_dtype == torch.float32 else 1e-14
    for key, update in updates.items():
        merged = update_of(model.get_submodule(key), False, base[key])
        assert (dense(update) - merged).abs().max() <= error
    METHODS[name].merge(model)
    for key, update in METHODS[name].updates(model, base).items():
        torch.testing.assert_close(dense(update), dense(updates[key]), atol=error, rtol=0)


@each
def test_the_precision_of_an_update_is_what_the_method_says(name: str) -> None:
    """Merged with all its parts in fp64, a method that computes in fp64 makes no number of fewer bits."""

    class Fewer(TorchDispatchMode):
        seen = False

        def __torch_dispatch__(
            self, func: object, types: object, args: tuple = (), kwargs: dict | None = None
        ) -> object:
            result = func(*args, **(kwargs or {}))
            given = {t.dtype for t in tree_iter(args) if isinstance(t, torch.Tensor)}
            made = {t.dtype for t in tree_iter(result) if isinstance(t, torch.Tensor)}
            self.seen |= torch.float64 in given and bool(made & {torch.float32, torch.complex64})
            return result

    model, base = trained("bert", name)
    layer = model.get_submodule(next(iter(base))).double().eval()
    with Fewer() as fewer, torch.no_grad():
        layer.merge()
    assert fewer.seen == (METHODS[name].update_dtype == torch.float32)


def assert_merging_adds_the_updates(name: str, model: nn.Module, base: dict[str, torch.Tensor]) -> None:
    updates, before = METHODS[name].updates(model, base), outputs(model)
    METHODS[name].merge(model)
    for key, weight in weights(model, list(base)).items():
        torch.testing.assert_close(weight.double() - base[key].double(), dense(updates[key]), atol=2e-6, rtol=0)
    torch.testing.assert_close(outputs(model), before, atol=1e-5, rtol=1e-4)


@each
def test_gpt2s_matrices_are_adapted_as_any_others_or_refused_with_pefts_reason(name: str) -> None:
    reason = ""
    try:
        METHODS[name].check(method_config(name), rank_of(name), shapes_of(tiny_model("gpt2")))
    except ConfigError as error:
        reason = str(error)
    if reason:
        assert all(part in reason for part in (f"method={name} ", "transformer.h.0.attn.c_attn", "PEFT says: "))
        return
    model, base = trained("gpt2", name)
    assert_merging_adds_the_updates(name, model, base)


@each
def test_draws_come_from_the_runs_stream_and_leave_torchs_own_alone(name: str) -> None:
    before = torch.get_rng_state()
    first, same = attach("bert", name)[0], attach("bert", name)[0]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), same.parameters(), strict=True))
    own = zip(first.named_buffers(), same.named_buffers(), strict=True)
    assert all(torch.equal(p, q) for (_, p), (_, q) in own)


@each
def test_what_is_saved_loads_in_peft_with_the_same_outputs(name: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model, _ = trained("bert", name)
    save_trained(tmp_path, METHODS[name].export(model, method_config(name), "public/name"))
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "public/name"
    theirs = PeftModel.from_pretrained(tiny_model("bert"), tmp_path).eval()
    torch.testing.assert_close(outputs(theirs), outputs(model), atol=2e-6, rtol=1e-5)


def test_an_adapter_of_another_method_is_refused(tmp_path: Path) -> None:
    model, _ = trained("bert", "peft/oft")
    save_trained(tmp_path, METHODS["peft/oft"].export(model, method_config("peft/oft"), "x"))
    with pytest.raises(ConfigError, match=r"peft_type=OFT is not possible; allowed: BOFT"):
        METHODS["peft/boft"].load(tiny_model("bert"), tmp_path)


def adalora() -> tuple[nn.Module, dict[str, torch.Tensor], torch.optim.Optimizer]:
    model, base = attach("bert", "peft/adalora", method_config("peft/adalora", tinit=1, tfinal=2, deltaT=4))
    return model, base, torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)


def adalora_steps(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    method = METHODS["peft/adalora"]
    for step in steps:
        with torch.autocast("cpu", torch.bfloat16):
            penalty = method.penalty(model)  # in fp32 all the same
        (model(**BATCH).loss + penalty).backward()
        optimizer.step()
        method.stepped(model, step + 1, 8)
        optimizer.zero_grad()


def test_adalora_is_pefts_own_training_loop() -> None:
    ours, base, optimizer = adalora()
    adalora_steps(ours, optimizer, range(8))
    theirs, _, optimizer = adalora()
    tuner = theirs.peft_attached.wrapper.base_model
    tuner.rankallocator.reset_ipt()
    tuner.rankallocator.set_total_step(8)
    for step in range(1, 9):
        tuner(**BATCH).loss.backward()
        optimizer.step()
        tuner.update_and_allocate(step)
        optimizer.zero_grad()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=name)
    patterns = [model.peft_attached.wrapper.active_peft_config.rank_pattern for model in (ours, theirs)]
    assert patterns[0] == patterns[1]
    left = [int((p != 0).sum()) for name, p in ours.named_parameters() if "lora_E" in name]
    assert sum(left) == RANK * len(base)
    assert max(left) <= 1.5 * RANK


@pytest.mark.parametrize("cut", [3, 7])
def test_adalora_resumes_to_the_same_bits(cut: int, tmp_path: Path) -> None:
    at_once, _, optimizer = adalora()
    adalora_steps(at_once, optimizer, range(8))
    first, _, optimizer = adalora()
    store = Checkpoints(tmp_path, {}, 0.0, print)
    adalora_steps(first, optimizer, range(cut))
    store.save(first, optimizer, NO_SCALER, Position(step=cut))
    again, _, optimizer = adalora()
    assert store.load(again, optimizer, NO_SCALER).step == cut
    adalora_steps(again, optimizer, range(cut, 8))
    assert all(torch.equal(p, q) for p, q in zip(again.parameters(), at_once.parameters(), strict=True))


def test_a_schedule_without_a_step_for_cutting_is_refused() -> None:
    model, _, _ = adalora()
    with pytest.raises(ConfigError, match=r"method.tinit=1 method.tfinal=2 leave none of 3 steps"):
        METHODS["peft/adalora"].stepped(model, 1, 3)


@each
def test_a_checkpoint_holds_what_trains_once_and_puts_it_back(name: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model, _ = trained("bert", name)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    store = Checkpoints(tmp_path, {}, 0.0, print)
    store.save(model, optimizer, NO_SCALER, Position(step=1))
    saved = load_file(next(tmp_path.rglob("state.safetensors")))
    trainable = {f"model/{key}" for key, p in model.named_parameters() if p.requires_grad}
    assert trainable <= saved.keys()
    assert not any(key.endswith("base_layer.weight") for key in saved)
    fresh, _ = attach("bert", name)
    optimizer = torch.optim.AdamW([p for p in fresh.parameters() if p.requires_grad], lr=1e-2)
    assert store.load(fresh, optimizer, NO_SCALER)
    assert torch.equal(outputs(fresh.eval()), outputs(model))


@each
def test_settings_have_pefts_names_and_those_in_the_file_are_hashed(name: str) -> None:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as KINDS

    kind = next(kind for key, kind in KINDS.items() if key.value == TABLE[name.removeprefix(PREFIX)].type)
    theirs, fields = {field.name for field in dataclasses.fields(kind)}, dataclasses.fields(settings_of(name))
    assert {field.name for field in fields} - {"name"} <= theirs
    settings = settings_of(name)()
    assert pickle.loads(pickle.dumps(settings)) == settings  # as they are handed to a worker
    config = compose([f"method={name}"])
    hashed = science(config, "m", "d")["method"]
    assert hashed.keys() == {field.name for field in fields if "neutral" not in field.metadata}


@pytest.mark.parametrize(
    "words",
    ["method=peft/dorra", "method=peft/dora method.lora_alhpa=4", "method=peft/dora method.bias=all",
     "method=peft/dora method.alpha=4", "method=peft/lora method.init_lora_weights=pissa",
     "method=peft/deft method.decomposition_method=svd", "method=peft/oft rank=8", "method=peft/dora rank=null",
     "method=peft/lora method.lora_dropout=1.5",
     "method=peft/lora method.lora_alpha=0", "method=peft/vera method.d_initial=nan",
     "method=peft/miss method.init_weights=maybe", "method=peft/adalora method.deltaT=0"],
)  # fmt: skip
def test_bad_settings_are_refused_in_our_words(words: str) -> None:
    key = words.split()[-1].removeprefix("method.").partition("=")[0]
    with pytest.raises(ConfigError, match=key) as caught:
        compose(spell_out(words.split()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes", "rank"),
    [
        ("peft/hra", {}, 3), ("peft/dora", {}, 40), ("peft/adalora", {"beta1": 2.0}, 4),
        ("peft/c3a", {"block_size": 24}, None),
        ("peft/oft", {"oft_block_size": 7}, None), ("peft/boft", {"boft_block_size": 5}, None),
        ("peft/fourierft", {"n_frequency": 10**6}, None),
    ],
)  # fmt: skip
def test_what_a_model_does_not_allow_is_refused_before_it_trains(
    name: str, changes: dict[str, object], rank: int | None
) -> None:
    refused = pytest.raises(ConfigError, match=next(iter(changes), "rank"))
    with warnings.catch_warnings(action="ignore"), refused:  # as a user has them; pytest makes errors of them
        METHODS[name].check(method_config(name, **changes), rank, shapes_of(tiny_model("bert")))


@each
def test_every_number_that_is_trained_was_drawn(name: str) -> None:
    """No setting of the start leaves what memory happens to hold."""
    torch.use_deterministic_algorithms(True, warn_only=True)  # new memory is filled with nan
    try:
        for key in ("init_weights", "init_ia3_weights"):
            for value in (True, False):
                if not hasattr(method_config(name), key):
                    continue
                try:
                    model, _ = attach("bert", name, method_config(name, **{key: value}))
                except ConfigError:
                    continue
                assert all(p.isfinite().all() for p in model.parameters()), (key, value)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("peft/gralora", {"hybrid_r": 2}), ("peft/miss", {"init_weights": "bat"}),
        ("peft/miss", {"init_weights": "mini", "mini_r": 2}),
        ("peft/glora", {"config_A_B": "vector"}), ("peft/lokr", {"decompose_both": True, "decompose_factor": 4}),
        ("peft/oft", {"coft": True, "block_share": True, "eps": 1e-3}),
        ("peft/peanut", {"depth": 2, "act_fn": "tanh"}),
        ("peft/psoft", {"psoft_svd": "lowrank", "ab_svd_init": "pissa_init"}),
        ("peft/dora", {"use_rslora": True, "lora_dropout": 0.5}),
    ],
)  # fmt: skip
def test_the_update_is_right_with_other_settings_too(name: str, changes: dict[str, object]) -> None:
    config = method_config(name, **changes)
    method, (model, base) = METHODS[name], trained("bert", name, config)
    model.eval()
    updates = method.updates(model, base)
    table = measured_rows(updates, base, method.update_dtype)
    for key, update in updates.items():
        assert table[key]["numerical_rank"] <= method.most_rank(config, rank_of(name), tuple(update.shape))
    assert_merging_adds_the_updates(name, model, base)


@pytest.mark.parametrize("name", ["peft/lora", "peft/oft"])
def test_mambas_weights_that_are_read_and_not_called_are_refused(name: str) -> None:
    shapes = shapes_of(BY_NAME["Mamba"].model())
    config, rank = method_config(name), 2 if METHODS[name].has_rank else None
    for end in ("dt_proj", "x_proj", "out_proj"):
        chosen = {key: shape for key, shape in shapes.items() if key.endswith(end)}
        with pytest.raises(ConfigError, match=rf"mixer.{end}: Mamba reads the weight .*target_modules=\[in_proj\]"):
            METHODS[name].check(config, rank, chosen)
    METHODS[name].check(config, rank, {key: shape for key, shape in shapes.items() if key.endswith("in_proj")})
