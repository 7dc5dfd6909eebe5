"""Activation checkpointing: less is held, and nothing else changes."""

from pathlib import Path

import pytest
from conftest import ran
from here import plan

from lorax_lab.errors import ConfigError
from lorax_lab.launch.plan import check
from lorax_lab.record import read_record


@pytest.mark.parametrize("method", [["method=full"], ["rank=2", "reference=false", "method.dropout=0.2"]])
def test_a_run_with_checkpointing_has_the_same_bits_and_holds_less(
    method: list[str], small_run: list[str], tmp_path: Path
) -> None:
    results = {}
    for on in ("false", "true"):
        store = tmp_path / on
        ran(*small_run, *method, "train.max_steps=4", f"train.checkpointing={on}", f"runs_dir={store}")
        (folder,) = store.glob("tiny-bert*")
        results[on] = folder.name, read_record(folder).completed
    (name, plain), (same_name, checkpointed) = results.values()
    assert name == same_name
    weights = [file for file in plain.files if file.endswith(".safetensors")]
    assert weights
    assert {file: plain.files[file] for file in weights} == {file: checkpointed.files[file] for file in weights}
    assert plain.metrics == checkpointed.metrics
    held = [result.memory.by_category["activations"] for result in (plain, checkpointed)]
    assert held[1] < 0.7 * held[0]


def test_a_model_whose_layers_nobody_knows_is_refused_before_anything_trains(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorax_lab.models.skeleton import without_weights

    runs = plan([*small_run, "method=full", "train.checkpointing=true"])
    check(runs)
    model = without_weights(runs[0].config.model, "AutoModelForSequenceClassification")
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    with pytest.raises(ConfigError, match=r"train\.checkpointing=true"):
        check(runs)
