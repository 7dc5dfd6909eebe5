"""Bases in 4 and 8 bits below LoRA: the run of LoRA on the rounded base, which stays as it is (`lorax_lab[quantized]`).

bitsandbytes works on a CPU too; tests/end_to_end/test_gpu.py compares a card with it.
"""

import copy
import json
from pathlib import Path

import pytest
import torch
from conftest import launched, ran, tiny_model
from test_methods import attach, train
from torch import nn

from lorax_lab.errors import ConfigError
from lorax_lab.export.__main__ import export
from lorax_lab.methods import METHODS, count_parameters, lora, quantized
from lorax_lab.methods.lora_layer import lora_layers
from lorax_lab.models import adaptable, shapes_of
from lorax_lab.spectra import LowRank

SETTINGS = METHODS["lora"].settings
LARGEST_ERROR = {4: 0.12, 8: 0.01}
"""Of a matrix of Gaussian entries, as a share of its norm."""
needs_bitsandbytes = pytest.mark.skipif(quantized.find_spec("bitsandbytes") is None, reason="no bitsandbytes here")


@needs_bitsandbytes
@pytest.mark.parametrize("bits", LARGEST_ERROR)
def test_the_biases_of_rounded_matrices_train_where_others_do(bits: int) -> None:
    model = attach("bert", "lora", SETTINGS(bits=bits, others=True))[0]
    biases = {name: layer.bias.clone() for name, layer in lora_layers(model).items()}
    train(model, 3)
    assert all(not torch.equal(layer.bias, biases[name]) for name, layer in lora_layers(model).items())


@needs_bitsandbytes
@pytest.mark.parametrize("bits", LARGEST_ERROR)
@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_lora_trains_on_the_rounded_base_which_stays_as_it_is(kind: str, bits: int) -> None:
    original, model = tiny_model(kind), attach(kind, "lora", SETTINGS(bits=bits))[0]
    assert count_parameters(model) == count_parameters(attach(kind, "lora", SETTINGS())[0])
    in_fp32 = copy.deepcopy(model)
    for name, layer in lora_layers(in_fp32).items():
        assert isinstance(layer.base, quantized.QuantizedLinear)
        rounded, weight = layer.base.weight, lora_layers(attach(kind, "lora", SETTINGS())[0])[name].base_weight
        assert 0 < float((rounded - weight).norm() / weight.norm()) < LARGEST_ERROR[bits]
        plain = nn.Linear(*rounded.t().shape)
        plain.weight, plain.bias = nn.Parameter(rounded, requires_grad=False), layer.base.bias
        layer.base = plain
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert len([name for name in before if name.endswith(("codes", "scales"))]) == 2 * len(adaptable(original))
    assert train(model, 3) == pytest.approx(train(in_fp32, 3), rel=1e-5)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    expected = lora.updates(in_fp32, {})
    for name, update in lora.updates(model, {}).items():
        assert isinstance(update, LowRank)
        assert float(update.dense().norm()) > 0
        torch.testing.assert_close(update.dense(), expected[name].dense(), atol=1e-4, rtol=0)
    with pytest.raises(ConfigError, match=f"{bits} bits"):
        lora.METHOD.merge(model)


@needs_bitsandbytes
def test_a_run_and_its_card_say_its_bits_and_its_adapter_is_in_peft_s_format(
    small_run: list[str], tmp_path: Path
) -> None:
    words = [*small_run, "rank=2", "reference=false", "train.max_steps=4", "method.bits=4,8,32", "-m"]
    ran(*words)
    store = Path(small_run[-1].partition("=")[2])
    records = [json.loads(path.read_text()) for path in store.glob("*/record.json")]
    assert sorted(record["config"]["method"].get("bits", 32) for record in records) == [4, 8, 32]
    for record in records:
        assert ("bitsandbytes" in record["versions"]) == ("bits" in record["config"]["method"])
        assert lora.read(store / record["run_id"], shapes_of(tiny_model("bert"))).factors
        export(store / record["run_id"], folder := tmp_path / record["run_id"])
        bits = record["config"]["method"].get("bits")
        assert (f"rounded to {bits} bits" in (folder / "README.md").read_text()) == (bits is not None)


def test_bits_are_refused_without_bitsandbytes_and_with_other_methods(
    monkeypatch: pytest.MonkeyPatch, small_run: list[str]
) -> None:
    assert "method.bits=3" in launched(*small_run, "method.bits=3").stdout
    assert "method=lora" in launched(*small_run, "method=full", "method.bits=4").stdout
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"method\.bits=4.*quantized"):
        lora.check(SETTINGS(bits=4), 2, {"a": (8, 8)})
