"""Adapters made to hurt their reader, and two models of which neither was tuned from the other."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES
from safetensors.torch import save_file

from lorax_lab.audit.__main__ import main
from lorax_lab.errors import ConfigError
from lorax_lab.methods import peft_format
from lorax_lab.methods.peft_files import PREFIX, SETTINGS, WEIGHTS
from lorax_lab.methods.peft_updates import read_adapter

NAME = "encoder.layer.0.attention.self.query"
SLOW = {r"(.*)(.*)(.*)(.*)(.*)(.*)(.*)\9\3.q": 4}
"""It tries every way to cut a name into nine parts."""
EXPONENTIAL = {r"(\w+\.?)+!": 4, r"((a|a)+)+b": 4, r"(.+)+[0-9]": 4}
"""Expressions that try 2^letters ways, by which Python's own `re` needs 20 s and more."""
SECONDS = 3.0


def adapter(folder: Path, rows: int = 2, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": "x"} | changes
    (folder / SETTINGS).write_text(json.dumps(settings))
    parts = {"lora_A": torch.ones(rows, 32), "lora_B": torch.ones(32, rows)}
    if settings["peft_type"] == "ADALORA":
        parts["lora_E"] = torch.ones(rows, 1)
    save_file({f"{PREFIX}{NAME}.{part}.weight": tensor for part, tensor in parts.items()}, folder / WEIGHTS)
    return folder


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "exponential patterns": ({"rank_pattern": EXPONENTIAL, "alpha_pattern": EXPONENTIAL}, ""),
    "a slow rank_pattern": ({"rank_pattern": SLOW}, "rank_pattern: one of its patterns needs more than"),
    "a slow alpha_pattern": ({"alpha_pattern": SLOW}, "alpha_pattern: one of its patterns needs more than"),
    "a pattern that is none": ({"rank_pattern": {"(": 4}}, r"rank_pattern=.*expected numbers by regular expression"),
    "a nested repeat": ({"rank_pattern": {"(((a{999}){999}){999}){999}": 4}}, "10000 counted repeats"),
    "a long pattern": ({"rank_pattern": {"a?" * 10**5: 4}}, "allowed are 1000 letters"),
    "patterns in a list": ({"rank_pattern": ["a"]}, "rank_pattern=.*expected numbers"),
    "a pattern's value": ({"rank_pattern": {".*": "many"}}, "r=many is not possible"),
    "a huge r": ({"r": 10**12}, "rank 2, but the settings give 1000000000000"),
    "r in words": ({"r": "two"}, "r=two is not possible"),
    "no r": ({"r": None}, "r=None is not possible"),
    "a negative r": ({"r": -2}, "r=-2 is not possible"),
    "an alpha of nan": ({"lora_alpha": float("nan")}, "lora_alpha=nan is not possible"),
    "an alpha in a list": ({"lora_alpha": [1]}, r"lora_alpha=\[1\] is not possible"),
    "a broken r": ({"r": 1.5}, "r=1.5 is not possible"),
    "another method": ({"peft_type": "EVIL"}, "peft_type=EVIL is not possible"),
    "AdaLoRA's patterns in a list": (
        {"peft_type": "ADALORA", "init_r": 2, "rank_pattern": ["a"]},
        "rank_pattern=|peft_type",
    ),
    "AdaLoRA's masks of words": (
        {"peft_type": "ADALORA", "init_r": 2, "rank_pattern": {f"{NAME}.lora_E": {"a": 1}}},
        "rank_pattern=|peft_type",
    ),
}


@pytest.mark.parametrize("read", [read_adapter, lambda folder: peft_format.read(folder, {NAME: (32, 32)})])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_adapter_is_refused_in_bounded_time(
    name: str, read: Callable[[Path], object], tmp_path: Path
) -> None:
    changes, words = HOSTILE[name]
    began = time.monotonic()
    if words:
        with pytest.raises(ConfigError, match=words) as refused:
            read(adapter(tmp_path / "it", **changes))
        assert "\n" not in str(refused.value)
    else:
        read(adapter(tmp_path / "it", **changes))
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("dropout", ["many", float("nan"), 1.5, -1, [0.1]])
def test_a_dropout_that_cannot_be_is_refused(tmp_path: Path, dropout: object) -> None:
    with pytest.raises(ConfigError, match=r"lora_dropout=.* is not possible"):
        peft_format.read(adapter(tmp_path / "it", lora_dropout=dropout), {NAME: (32, 32)})


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "null", "", "{", '{"peft_type": 5}', '{"r": ' + "9" * 5000])
def test_settings_that_are_none_are_refused(tmp_path: Path, content: str) -> None:
    (adapter(tmp_path / "it") / SETTINGS).write_text(content)
    with pytest.raises(ConfigError, match=SETTINGS):
        read_adapter(tmp_path / "it")


def test_the_command_line_of_an_audit_refuses_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    assert main([str(adapter(tmp_path / "it", rank_pattern=SLOW))]) == 2
    assert "error: " in capsys.readouterr().err
    assert time.monotonic() - began < SECONDS


def test_an_audit_of_strangers_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two families of one width and vocabulary have the output layer in common, and nothing else."""
    monkeypatch.chdir(tmp_path)
    families = {family.name: family for family in FAMILIES}
    families["Llama"].model().save_pretrained("llama")
    gpt2 = families["GPT-2"].model("AutoModelForCausalLM", tie_word_embeddings=False)
    gpt2.save_pretrained("gpt2")
    assert main(["gpt2", "llama", "--device", "cpu"]) == 2
    shown = capsys.readouterr().err
    assert "gpt2 and llama have 1 of 11 matrices in common, by name and shape; needed is half of them" in shown
    assert not (tmp_path / "audits").exists()


def test_a_base_and_a_model_with_another_head_and_vocabulary_are_no_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bert = next(family for family in FAMILIES if family.name == "BERT")
    bert.model("AutoModelForMaskedLM").save_pretrained("base")
    bert.model(vocab_size=70, num_labels=5).save_pretrained("tuned")
    assert main(["base", "tuned", "--device", "cpu"]) == 0
