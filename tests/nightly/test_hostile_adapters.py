"""Adapters and files made to hurt their reader, and two models of which neither was tuned from the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES
from safetensors.torch import save_file

from lorax_lab.audit.__main__ import main
from lorax_lab.audit.checkpoint import open_checkpoint
from lorax_lab.errors import ConfigError
from lorax_lab.methods import lora
from lorax_lab.methods.adapters import PREFIX, SETTINGS, WEIGHTS, read_adapter

NAME = "encoder.layer.0.attention.self.query"


def adapter(folder: Path, rows: int = 2, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": "x"} | changes
    (folder / SETTINGS).write_text(json.dumps(settings))
    parts = {"lora_A": torch.ones(rows, 32), "lora_B": torch.ones(32, rows)}
    if settings["peft_type"] == "ADALORA":
        parts["lora_E"] = torch.ones(rows, 1)
    save_file({f"{PREFIX}{NAME}.{part}.weight": tensor for part, tensor in parts.items()}, folder / WEIGHTS)
    return folder


NAN = float("nan")
HOSTILE: list[tuple[str, dict[str, Any]]] = [
    ("rank_pattern", {"rank_pattern": {"(": 4}}),
    ("rank_pattern", {"rank_pattern": {"a?" * 10**5: 4}}),
    ("rank_pattern", {"rank_pattern": ["a"]}),
    ("alpha_pattern", {"alpha_pattern": "a"}),
    *(("r=", {"r": value}) for value in ("two", None, -2, 1.5, 0, True)),
    ("r=many", {"rank_pattern": {".*": "many"}}),
    ("rank 2", {"r": 10**12}),
    *(("lora_alpha=", {"lora_alpha": value}) for value in (NAN, [1], "2", None)),
    ("peft_type=EVIL", {"peft_type": "EVIL"}),
    ("rank_pattern|peft_type", {"peft_type": "ADALORA", "init_r": 2, "rank_pattern": ["a"]}),
    ("rank_pattern|peft_type", {"peft_type": "ADALORA", "init_r": 2, "rank_pattern": {f"{NAME}.lora_E": {"a": 1}}}),
]


@pytest.mark.parametrize("read", [read_adapter, lambda folder: lora.read(folder, {NAME: (32, 32)})])
@pytest.mark.parametrize(("named", "changes"), HOSTILE)
def test_a_hostile_adapter_is_refused(
    named: str, changes: dict[str, Any], read: Callable[[Path], object], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=named) as refused:
        read(adapter(tmp_path / "it", **changes))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("dropout", ["many", NAN, 1.5, -1, [0.1]])
def test_a_dropout_that_cannot_be_is_refused(tmp_path: Path, dropout: object) -> None:
    with pytest.raises(ConfigError, match="lora_dropout="):
        lora.read(adapter(tmp_path / "it", lora_dropout=dropout), {NAME: (32, 32)})


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_wrong_byte_is_read_or_refused_never_a_crash(suffix: str, tmp_path: Path) -> None:
    file, tensors = tmp_path / f"it.{suffix}", {"a.weight": torch.randn(5, 4), "b.weight": torch.randn(3, 3)}
    (save_file if suffix == "safetensors" else torch.save)(tensors, file)
    content, refused = file.read_bytes(), 0
    for place in range(0, len(content), 1 if suffix == "safetensors" else 3):
        file.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            for tensor in open_checkpoint(str(file)).tensors.values():
                tensor.double().sum()
        except ConfigError:
            refused += 1
    assert refused > 50


def test_an_audit_of_unrelated_models_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two families of one width and vocabulary have the output layer in common, and nothing else."""
    monkeypatch.chdir(tmp_path)
    families = {family.name: family for family in FAMILIES}
    families["Llama"].model().save_pretrained("llama")
    families["GPT-2"].model("AutoModelForCausalLM", tie_word_embeddings=False).save_pretrained("gpt2")
    assert main(["gpt2", "llama", "--device", "cpu"]) == 2
    assert "1 of 11 matrices" in capsys.readouterr().err
    assert not (tmp_path / "audits").exists()


def test_a_base_and_a_model_with_another_head_and_vocabulary_are_related(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bert = next(family for family in FAMILIES if family.name == "BERT")
    bert.model("AutoModelForMaskedLM").save_pretrained("base")
    bert.model(vocab_size=70, num_labels=5).save_pretrained("tuned")
    assert main(["base", "tuned", "--device", "cpu"]) == 0
