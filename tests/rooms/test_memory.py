"""The ledger against sizes worked out by hand, and a step that did not happen against the same step that did."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lorax_lab.errors import ConfigError
from lorax_lab.memory import __main__ as entry
from lorax_lab.memory.architectures import architecture, skeleton
from lorax_lab.memory.ledger import CATEGORIES, Ledger, record_step
from lorax_lab.memory.predict import GIB, Prediction, Step, gpus_needed, sharded_peak
from lorax_lab.train import OPTIMIZERS, make_optimizer

IN, HIDDEN, ROWS = 1000, 500, 100


class TwoLayers(nn.Module):
    def __init__(self, frozen: bool) -> None:
        super().__init__()
        self.first = nn.Linear(IN, HIDDEN, bias=False).requires_grad_(not frozen)
        self.second = nn.Linear(HIDDEN, 1, bias=False)

    def forward(self, x: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(loss=self.second(torch.relu(self.first(x))).square().mean())


@pytest.mark.parametrize("frozen", [False, True])
def test_two_layers_by_hand(frozen: bool) -> None:
    model = TwoLayers(frozen)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=0.0, weight_decay=0.1, fused=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    measured = record_step(model, optimizer, {"x": torch.randn(ROWS, IN)}, nullcontext).ledger()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    by_category = measured.by_category
    assert list(by_category) == list(CATEGORIES)
    assert sum(by_category.values()) == measured.peak_bytes
    big, small = 4 * IN * HIDDEN, 4 * HIDDEN
    trained = small if frozen else big + small
    assert by_category["weights"] == big + small
    assert by_category["optimizer_states"] == pytest.approx(2 * trained, abs=16)
    if frozen:  # the peak is in the forward pass: before and after relu
        assert by_category["gradients"] == 0
        assert by_category["activations"] == 4 * ROWS * IN + 4 * ROWS * HIDDEN
        assert by_category["temporaries"] == 4 * ROWS * HIDDEN
    else:  # the peak is where the first layer's gradient appears
        assert by_category["gradients"] == trained
        assert by_category["activations"] - 4 * ROWS * IN < 64
        assert by_category["temporaries"] - 4 * ROWS * HIDDEN < 64


TEXT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 160, "vocab_size": 96}
TINY = {
    "bert": TEXT | {"model_type": "bert", "max_position_embeddings": 64},
    "gpt2": {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 96},
    "llama": TEXT | {"model_type": "llama", "num_key_value_heads": 2},
    "falcon": {"model_type": "falcon", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_kv_heads": 2, "new_decoder_architecture": True, "vocab_size": 96, "alibi": False, "bias": False},
    "vit": {"model_type": "vit", "image_size": 32, "patch_size": 8} | {k: TEXT[k] for k in list(TEXT)[:4]},
}


def step(model: str, rank: int | None = 8, **more: object) -> Step:
    settings = {"batch": 4, "sequence": 24, "optimizer": "adamw", "precision": "fp32", "attention": "sdpa"}
    settings |= {"checkpointing": False, "head": "auto", "target_modules": "all-linear"}
    return Step(**({"model": model, "rank": rank} | settings | more))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in TINY.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(content))
    return tmp_path


CELLS = [
    *[(kind, rank, {}) for kind in TINY for rank in (None, 8)],
    *[(kind, rank, {"checkpointing": True}) for kind in ("bert", "llama") for rank in (None, 1)],
    *[("llama", rank, {"precision": precision}) for rank in (None, 8) for precision in ("bf16", "bf16-true", "nf4")],
    *[(kind, 8, {"precision": "nf4", "checkpointing": True}) for kind in ("bert", "gpt2", "falcon")],
    ("llama", 8, {"precision": "nf4", "target_modules": ["q_proj"]}),
    *[("gpt2", 64, {"attention": attention, "batch": 1, "sequence": 64}) for attention in ("eager", "flash")],
    *[("bert", None, {"optimizer": optimizer, "head": "lm"}) for optimizer in OPTIMIZERS],
]


@pytest.mark.parametrize(
    ("kind", "rank", "more"),
    [pytest.param(*cell, marks=() if cell in (CELLS[::3]) else pytest.mark.slow) for cell in CELLS],
)
def test_the_prediction_is_what_a_real_step_takes(folder: Path, kind: str, rank: int | None, more: dict) -> None:
    asked = step(str(folder / kind), rank, **({"sequence": None} if kind == "vit" else {}) | more)
    model = asked.build().train()
    optimizer = make_optimizer(model, asked.optimizer, 0.0, 0.0)
    real = record_step(model, optimizer, asked.make_batch(), asked.autocast).ledger()
    assert asked.predict().ledger == real


PUBLISHED = {
    "gpt2": 124_439_808, "gpt2-xl": 1_557_611_200, "gpt3-175b": 174_604_259_328, "smollm2-135m": 134_515_008,
    "llama-2-7b": 6_738_415_616, "llama-2-13b": 13_015_864_320, "llama-2-70b": 68_976_648_192,
    "llama-3.2-1b": 1_235_814_400, "llama-3.2-3b": 3_212_749_824, "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496, "mistral-7b": 7_248_023_552, "falcon-180b": 179_522_565_120,
    "qwen2.5-7b": 7_615_616_512, "qwen3-8b": 8_190_735_360, "gemma-2-2b": 2_614_341_888,
    "minilm": 22_713_216 + 2 * 385,  # with a head of two classes
    "roberta-base": 124_645_632 - 590_592 + 768 * 769 + 2 * 769,  # without the pooler, with the head's two layers
    "roberta-large": 355_359_744 - 1_049_600 + 1024 * 1025 + 2 * 1025,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    with FakeTensorMode():
        model = skeleton(architecture(name), "eager", torch.bfloat16)
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]


def test_attention_that_transformers_has_not_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"attention=flash .*model=gemma-2-2b: .* type attention=eager"):
        step("gemma-2-2b", attention="flash").predict()
    with FakeTensorMode():
        assert step("gemma-2-2b", attention="eager").build().config._attn_implementation == "eager"


def test_gpus_by_hand() -> None:
    ledger = Ledger(100 * GIB, {}, "backward", (1,))
    found = Prediction(ledger, [(90 * GIB, 10 * GIB), (20 * GIB, 15 * GIB)], 2 * GIB, 0, 0)
    assert sharded_peak(found, 1) == 100 * GIB
    assert sharded_peak(found, 9) == 22 * GIB
    assert sharded_peak(found, 90) == 15 * GIB + -(-20 * GIB // 90) + 2 * GIB
    assert {gib: gpus_needed(found, gib) for gib in (18, 24, 48, 141)} == {18: None, 24: 9, 48: 3, 141: 1}


BAD = ["batch=0", "rank=65", "rank=x", "rank=null", "sequence=65", "sequence=null", "precision=bf16-mixed"]
BAD += ["optimizer=adam", "attention=flush", "head=mlm", "checkpointing=maybe", "bach=3", "batch", "batch=null"]
BAD += ["model=lama-2-7b", "model=${oc.env:HOME}", "--rank", "rank={a: 1}", "model={_target_: canary.call}"]


@pytest.mark.parametrize("word", BAD)
def test_a_wrong_word_is_named(folder: Path, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [word] if word.startswith("model") else [f"model={folder / 'bert'}", "sequence=32", word]
    assert entry.main(given) == 2
    error = capsys.readouterr().err
    assert word.split("=")[0] in error
    assert word.split("=")[-1].split(":")[0].strip("{$") in error or word == "rank=65"


CONFIGS = {
    '{"model_type": "mamba9", "hidden_size": 8}': "model_type=mamba9", '{"hidden_size": 8}': "model_type=None",
    '{"model_type": "segformer"}': "segformer has no image_size", '{"model_type": "gemma3"}': "no vocab_size",
    "[1": "config.json", '{"model_type": "t5"}': "encoder-decoder", '{"model_type": "mixtral"}': "experts",
    '{"model_type": "bert", "hidden_size": "wide"}': "hidden_size=wide in .* whole numbers",
}  # fmt: skip


@pytest.mark.parametrize("content", CONFIGS)
def test_a_configuration_that_cannot_be_used_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=CONFIGS[content]):
        architecture(str(tmp_path))


def test_any_json_file_is_read_and_how_it_was_quantized_is_not(tmp_path: Path) -> None:
    settings = {"model_type": "bert", "hidden_size": 24, "quantization_config": {"quant_method": "bitsandbytes"}}
    (tmp_path / "q.json").write_text(json.dumps(settings))
    config = architecture(str(tmp_path / "q.json")).config
    assert config.hidden_size == 24
    assert not hasattr(config, "quantization_config")


def test_the_table_has_full_and_each_rank(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lorax_lab.console import console

    with console.capture() as shown:
        assert entry.main([f"model={folder / 'llama'}", "rank=1,8", "batch=2", "sequence=16"]) == 0
    text = shown.get()
    for word in ("LoRA r=1", "LoRA r=8", "peak", "temporaries", "141 GiB GPUs"):
        assert word in text
    assert entry.main(["--help"]) == 0
    assert "llama-2-70b" in capsys.readouterr().out


def test_four_bits_by_hand(folder: Path) -> None:
    """Llama-3-8B: 32 layers of 218,103,808 weights take half a byte and 1/64 of an fp32 scale each."""
    matrices, vectors, rank = 32 * 218_103_808, 65 * 4096, 16
    factors = 32 * rank * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = step("llama-3-8b", rank, precision="nf4").build()
        rounded = [buffer for name, buffer in model.named_buffers() if name.endswith(("codes", "scales"))]
        held = sum(tensor.nbytes for tensor in [*model.parameters(), *rounded])
    assert held == matrices // 2 + 4 * matrices // 64 + 2 * (2 * 128256 * 4096 + vectors) + 4 * factors
    full = step(str(folder / "llama"), None, precision="nf4").predict()
    assert full == step(str(folder / "llama"), None, precision="bf16-true").predict()
