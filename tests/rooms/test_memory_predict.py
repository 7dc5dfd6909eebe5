"""A step that did not happen against the same step that did, and against published figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from analysis.__main__ import main as analysis
from lorax_lab.errors import ConfigError
from lorax_lab.memory import __main__ as entry
from lorax_lab.memory import grids
from lorax_lab.memory.architectures import PRESETS, architecture, skeleton
from lorax_lab.memory.gpus import GIB, RESERVED, gpus_needed, sharded_peak
from lorax_lab.memory.instruments import measure, measure_apart
from lorax_lab.memory.ledger import CATEGORIES, Ledger
from lorax_lab.memory.overrides import steps
from lorax_lab.memory.predict import OPTIMIZERS, Prediction
from lorax_lab.memory.step import Step

TEXT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 160, "vocab_size": 96}
TINY = {
    "bert": TEXT | {"model_type": "bert", "max_position_embeddings": 64},
    "gpt2": {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 96},
    "llama": TEXT | {"model_type": "llama", "num_key_value_heads": 2},
    "falcon": {"model_type": "falcon", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_kv_heads": 2, "new_decoder_architecture": True, "vocab_size": 96, "alibi": False, "bias": False},
    "vit": {"model_type": "vit", "image_size": 32, "patch_size": 8} | {k: TEXT[k] for k in list(TEXT)[:4]},
}
MILLION = 10**6


def step(model: str, rank: int | None = 8, **more: object) -> Step:
    settings = {"batch": 4, "sequence": 24, "optimizer": "adamw", "precision": "fp32", "attention": "sdpa"}
    settings |= {"checkpointing": False, "head": "auto", "target_modules": "all-linear"}
    return Step(**({"model": model, "rank": rank} | settings | more))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in TINY.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(content))
    return tmp_path


CELLS = [
    *[(kind, rank, {}) for kind in TINY for rank in (None, 8)],
    *[(kind, rank, {"checkpointing": True}) for kind in ("bert", "llama") for rank in (None, 1)],
    *[("llama", rank, {"precision": precision}) for rank in (None, 8) for precision in ("bf16", "bf16-true")],
    *[("gpt2", 64, {"attention": attention, "batch": 1, "sequence": 64}) for attention in ("eager", "flash")],
    *[("bert", None, {"optimizer": optimizer, "head": "lm"}) for optimizer in OPTIMIZERS],
]


@pytest.mark.parametrize(
    ("kind", "rank", "more"),
    [pytest.param(*cell, marks=() if cell in (CELLS[::3]) else pytest.mark.slow) for cell in CELLS],
)
def test_the_prediction_is_what_a_real_step_takes(folder: Path, kind: str, rank: int | None, more: dict) -> None:
    asked = step(str(folder / kind), rank, **({"sequence": None} if kind == "vit" else {}) | more)
    real, predicted = measure(asked), asked.predict()
    assert predicted.ledger == real.ledger
    assert real.allocator == pytest.approx(real.ledger.peak_bytes, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [None, 8])
def test_a_process_holds_what_is_predicted(rank: int | None) -> None:
    asked = step("minilm", rank, batch=8, sequence=64)
    real, predicted = measure_apart(asked), asked.predict()
    assert predicted.ledger == real.ledger
    assert real.process is None or real.process == pytest.approx(predicted.ledger.peak_bytes, rel=0.05)


PUBLISHED = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "gpt3-175b": 174_604_259_328,
    "smollm2-135m": 134_515_008,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "falcon-180b": 179_522_565_120,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "minilm": 22_713_216 + 2 * 385,  # with a head of two classes
    "roberta-base": 124_645_632 - 590_592 + 768 * 769 + 2 * 769,  # without the pooler, with the head's two layers
    "roberta-large": 355_359_744 - 1_049_600 + 1024 * 1025 + 2 * 1025,
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        model = skeleton(architecture(name), "flash", torch.bfloat16)
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]


@pytest.mark.slow
def test_the_known_figures_at_seven_billion() -> None:
    """16 bytes for each trained parameter and 4 or 2 for each frozen one: 112, 29.12 and 15.12 GB at 7 B and 1 %."""
    whole = step("llama-2-7b", None, batch=1, sequence=16, attention="flash")
    count = PUBLISHED["llama-2-7b"]
    assert whole.predict().ledger.peak_bytes == pytest.approx(16 * count, rel=1e-3)
    for precision, frozen in (("fp32", 4), ("bf16-true", 2)):
        lora = step("llama-2-7b", 64, batch=1, sequence=16, attention="flash", precision=precision).predict()
        static = max(inside for inside, _ in lora.moments)
        assert static == pytest.approx(frozen * count + 16 * lora.trained, rel=1e-3)
    assert pytest.approx((112, 29.12, 15.12)) == (16 * 7, 4 * 7 + 16 * 0.07, 2 * 7 + 16 * 0.07)


@pytest.mark.slow
def test_gpt3_with_r_4_on_query_and_value() -> None:
    """A GPT-2 joins query, key and value in one matrix, whose r = 4 has as many parameters as two of r = 4 apart."""
    asked = step("gpt3-175b", 4, batch=1, sequence=16, precision="bf16-true", target_modules=["attn.c_attn"])
    found = asked.predict()
    assert found.trained == 18_874_368
    assert found.stored / 2 == pytest.approx(36 * 2**20)  # two bytes each: the paper's 35 MB
    assert max(inside for inside, _ in found.moments) == pytest.approx(350e9, rel=0.01)
    full = replace(asked, rank=None).predict()
    assert full.ledger.peak_bytes / 2**40 == pytest.approx(1.27, abs=0.01)  # the paper's 1.2 TB, were all in two bytes


def test_gpus_by_hand() -> None:
    ledger = Ledger(100 * GIB, {}, "backward", (1,))
    found = Prediction(ledger, [(90 * GIB, 10 * GIB), (20 * GIB, 15 * GIB)], 2 * GIB, 0, 0)
    assert sharded_peak(found, 1) == 100 * GIB
    assert sharded_peak(found, 9) == 22 * GIB
    assert sharded_peak(found, 90) == 15 * GIB + -(-20 * GIB // 90) + 2 * GIB
    assert {gib: gpus_needed(found, gib) for gib in (18, 24, 48, 141)} == {18: None, 24: 9, 48: 3, 141: 1}
    assert RESERVED == GIB


def test_the_moments_are_those_that_no_other_exceeds_in_both(folder: Path) -> None:
    found = step(str(folder / "bert"), None).predict()
    inside, outside = zip(*found.moments, strict=True)
    assert list(inside) == sorted(set(inside), reverse=True)
    assert list(outside) == sorted(set(outside))
    assert len(found.moments) > 2
    assert max(a + b for a, b in found.moments) == found.ledger.peak_bytes


def test_flash_keeps_no_scores(folder: Path) -> None:
    flash, sdpa, eager = (
        step(str(folder / "bert"), sequence=64, attention=attention).predict().ledger.by_category["activations"]
        for attention in ("flash", "sdpa", "eager")
    )
    scores = 2 * 4 * 4 * 64 * 64 * 4  # layers, examples, heads, tokens, tokens, bytes
    assert sdpa - flash > scores
    assert eager - flash > scores


@pytest.mark.slow
def test_a_lower_rank_takes_less_and_checkpointing_too(folder: Path) -> None:
    peaks = [step(str(folder / "llama"), rank).predict().ledger.peak_bytes for rank in (1, 8, 32)]
    assert peaks == sorted(set(peaks))
    kept, again = (step(str(folder / "llama"), checkpointing=c, attention="flash").predict() for c in (False, True))
    assert again.ledger.by_category["activations"] < kept.ledger.by_category["activations"]


@pytest.mark.parametrize(
    ("name", "matrix", "vector"), [("adam8bit", 2 * (150_000 + 4 * 586), 4000), ("lion", 600_000, 2000)]
)
def test_states_by_hand(name: str, matrix: int, vector: int) -> None:
    """A 500 × 300 matrix of bf16 and its bias: a byte and 1/256 of an fp32 for each value, twice; fp32 below 4,096."""
    layer = torch.nn.Linear(300, 500).bfloat16()
    optimizer = OPTIMIZERS[name](list(layer.parameters()))
    optimizer.step()
    held = [sum(t.nbytes for t in optimizer.state[p].values()) for p in (layer.weight, layer.bias)]
    assert held == [matrix, vector]


@pytest.mark.parametrize("name", ["adam8bit", "lion"])
def test_states_are_those_that_bitsandbytes_keeps(name: str) -> None:
    optim = pytest.importorskip("bitsandbytes").optim
    layer = torch.nn.Linear(300, 500)
    real = {"adam8bit": optim.AdamW8bit, "lion": optim.Lion32bit}[name](layer.parameters(), lr=0.0)
    ours = OPTIMIZERS[name](list(layer.parameters()))
    layer(torch.randn(2, 300)).sum().backward()
    real.step()
    ours.step()
    sizes = [
        sorted(t.numel() * t.element_size() for p in layer.parameters() for k, t in o.state[p].items()
               if isinstance(t, torch.Tensor) and not k.startswith("qmap"))
        for o in (real, ours)
    ]  # fmt: skip
    assert sizes[0] == sizes[1]


BAD = {
    "batch=0": "batch=0 is not possible",
    "rank=65": "type rank=64",
    "rank=x": "could not be converted to Integer",
    "rank=null": "type a rank",
    "rank=1,2": "type -m",
    "sequence=65": "type sequence=64",
    "sequence=null": "type a number of tokens",
    "precision=bf16-mixed": "type precision=bf16",
    "precision=b16": "did you mean 'bf16'",
    "optimizer=adam": "'adamw'",
    "attention=flush": "'flash'",
    "head=mlm": "allowed: auto, classifier, lm",
    "target_modules=[foo]": "matches no matrix",
    "bach=3": "did you mean 'batch'",
    "batch": "key=value",
    "model=lama-2-7b": "did you mean 'llama-2-7b'",
    "model=${oc.env:HOME}": "plain values",
    "--rank": "is not possible",
}


@pytest.mark.parametrize("word", BAD)
def test_a_wrong_word_is_one_clear_message(folder: Path, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [word] if word.startswith("model") else [f"model={folder / 'bert'}", "sequence=32", word]
    assert entry.main(given) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert BAD[word] in said


CONFIGS = {
    '{"model_type": "mamba9", "hidden_size": 8}': "model_type=mamba9 is no architecture",
    '{"hidden_size": 8}': "has no model_type",
    "[1": "is no configuration",
    '{"model_type": "t5"}': "encoder-decoder",
    '{"model_type": "mixtral"}': "experts",
    '{"model_type": "bert", "hidden_size": "wide"}': "hidden_size=wide in .* whole numbers",
}


@pytest.mark.parametrize("content", CONFIGS)
def test_a_configuration_that_cannot_be_used_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=CONFIGS[content]):
        architecture(str(tmp_path))


def test_the_table_has_full_and_each_rank(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lorax_lab.console import console

    with console.capture() as shown:
        assert entry.main([f"model={folder / 'llama'}", "rank=1,8", "batch=2", "sequence=16", "-m"]) == 0
    text = shown.get()
    for word in ("LoRA r=1", "LoRA r=8", "peak", "temporaries", "141 GiB GPUs"):
        assert word in text
    assert entry.main(["--help"]) == 0
    assert "llama-2-70b" in capsys.readouterr().out


def test_a_grid_is_every_combination(folder: Path) -> None:
    asked = steps([f"model={folder / 'llama'}", "rank=1,8", "batch=1,2,4"], multirun=True)
    assert len({(s.rank, s.batch) for s in asked}) == 6


@pytest.mark.slow
def test_the_figures_are_drawn_from_predictions(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(folder / "llama")
    grid = [(batch, sequence) for batch in (1, 2, 4) for sequence in (8, 16, 32)]
    small = {
        "step_presets": lambda: [step(str(folder / kind), rank) for kind in ("bert", "llama") for rank in (None, 8)],
        "step_batches": lambda: [step(name, rank, batch=b, sequence=s) for b, s in grid for rank in (None, 8)],
        "step_ranks": lambda: [step(name, rank) for rank in (None, 1, 2, 4)],
    }
    assert small.keys() == grids.GRIDS.keys()
    monkeypatch.setattr(grids, "GRIDS", small)
    monkeypatch.chdir(tmp_path)
    assert entry.main(["--tables", "tables"]) == 0
    assert "type: python -m analysis step tables" in capsys.readouterr().out
    written = {name: (tmp_path / "tables" / f"{name}.csv").read_bytes() for name in small}
    assert analysis(["step", "tables", "--out", "figures"]) == 0
    for figure in small:
        for kind in ("png", "pdf", "csv"):
            assert (tmp_path / "figures" / f"{figure}.{kind}").stat().st_size > 300
        assert (tmp_path / "figures" / f"{figure}.csv").read_bytes() == written[figure]
    table = pd.read_csv(tmp_path / "figures" / "step_ranks.csv")
    assert list(table["peak"]) == [asked.predict().ledger.peak_bytes for asked in small["step_ranks"]()]
    assert (table[list(CATEGORIES)].sum(axis=1) == table["peak"]).all()
    for words, message in (
        (["--tables", "tables", "rank=8"], "leave it out"),
        (["--tables"], "type --tables FOLDER"),
        (["--tables", "rank=8"], "type --tables FOLDER"),
        (["--tables", "-m"], "type --tables FOLDER"),
    ):
        assert entry.main(words) == 2
        assert message in capsys.readouterr().err
    assert analysis(["step", "nowhere"]) == 2
    assert "python -m lorax_lab.memory --tables FOLDER" in capsys.readouterr().err


def test_what_no_run_can_have_is_said_to_be_predicted_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = [f"model={folder / 'llama'}", "sequence=4", "batch=1"]
    entry.main([*own, "precision=bf16"])
    assert "Predicted only" not in capsys.readouterr().out
    entry.main([*own, "precision=bf16-true", "optimizer=adam8bit", "checkpointing=true"])
    stated = "Predicted only: optimizer=adam8bit, precision=bf16-true; `python -m lorax_lab.run` has"
    assert stated in capsys.readouterr().out
