"""Language models from the command line: what is recorded, shown and refused; the same steps by PEFT and Trainer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bases import save_base
from conftest import ran
from language import EXAMPLES, KIND, MODELS, causal_model, save_causal, split_of, words_of, write_table
from torch import Tensor, nn

from lorax_lab.config import TrainConfig
from lorax_lab.errors import ConfigError
from lorax_lab.methods import METHODS
from lorax_lab.models import load_base, matrix_shapes, select
from lorax_lab.record import load_truncation, read_record
from lorax_lab.record.checkpoints import Checkpoints
from lorax_lab.record.folder import OUTPUTS, load_arrays, read_history
from lorax_lab.streams import generator
from lorax_lab.train import train


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Of a base with tied embeddings."""
    base = save_causal(tmp_path / "tiny-llama", tie_word_embeddings=True)
    return [*words_of(base, write_table(tmp_path / "answers.csv")), f"runs_dir={tmp_path / 'runs'}"]


def records(tmp_path: Path) -> dict[str, Any]:
    return {path.parent.name.split("-s0")[0]: read_record(path.parent) for path in tmp_path.glob("runs/*/record.json")}


def test_a_run_and_its_reference_are_trained_measured_cut_scored_and_recorded(words: list[str], tmp_path: Path) -> None:
    """With tied input and output embeddings, as SmolLM2 has them."""
    ran(*words, "rank=2", "task.metric=exact_match", "train.epochs=2")
    lora, full = (records(tmp_path)[f"tiny-llama-local-{name}"].completed for name in ("lora-r2", "full"))
    for result in (lora, full):
        assert list(result.metrics)[:2] == ["validation/exact_match", "validation/nats"]
        assert {"test/exact_match", "test/nats"} <= set(result.metrics)
        assert result.metrics["test/nats"] < result.baselines["untrained/nats"]
        assert len(result.matrices) == 14
        assert result.parameters.head == 0
        assert result.inputs.classes == []
    assert full.baselines["untrained/nats"] == pytest.approx(np.log(32), rel=0.05)
    names = [f"{name}/{metric}" for name in ("untrained", "few_shot_4") for metric in ("exact_match", "nats")]
    assert list(lora.baselines) == names
    assert lora.baselines == full.baselines
    assert lora.parameters.trainable == sum(2 * sum(matrix.shape) for matrix in lora.matrices.values())
    cuts = load_truncation(tmp_path / "runs")
    whole = cuts[(cuts["part"] == "cut") & (cuts["k"] == cuts["k"].max())]
    assert whole["nats"].tolist() == [full.metrics["validation/nats"]]
    nothing = cuts[(cuts["part"] == "cut") & (cuts["k"] == 0)]
    assert nothing["nats"].item() > full.metrics["validation/nats"]
    folder = next((tmp_path / "runs").glob("*-full-*"))
    outputs = load_arrays(folder, OUTPUTS)
    before, test = outputs["untrained/0"]["outputs"], outputs["test"]
    assert before[:, 0].sum() / before[:, 1].sum() == pytest.approx(full.baselines["untrained/nats"])
    assert test["outputs"].shape == before.shape == (24, 3)
    assert "untrained/0" not in load_arrays(next((tmp_path / "runs").glob("*-lora-*")), OUTPUTS)
    assert set(test["labels"]) <= {" ".join(text.split()) for text in test["labels"]}


@pytest.mark.parametrize("measure", ["curve", "trial"])
def test_the_weights_of_the_best_validation_are_measured_where_a_lower_score_is_better(
    words: list[str], tmp_path: Path, measure: str
) -> None:
    train_words = ["learning_rate=0.05", "schedule=constant", "validations=12", "epochs=2", "keep=best", "patience=1"]
    train_words += ["precision=fp32"]  # of another the scores are made anew
    settings_of = ["method=full", "task.metric=nats", f"measure={measure}", *(f"train.{word}" for word in train_words)]
    ran(*words, *settings_of)
    (record,), (folder,) = records(tmp_path).values(), (tmp_path / "runs").glob("*-full-*")
    curve = [row["validation/nats"] for row in read_history(folder)]
    assert curve.index(min(curve)) == len(curve) - 2 < 10
    assert record.completed.time.steps == len(curve)
    assert record.completed.metrics["validation/nats"] == min(curve)
    if measure == "curve":
        cuts = load_truncation(tmp_path / "runs")
        assert cuts[(cuts["part"] == "cut") & (cuts["k"] == cuts["k"].max())]["nats"].tolist() == [min(curve)]


def test_plain_text_needs_no_prompt_and_a_trial_has_no_baselines(words: list[str], tmp_path: Path) -> None:
    plain = [word.replace("task.label=answer", "task.label=question") for word in words if "prompt" not in word]
    ran(*plain, "rank=2", "reference=false", "measure=trial")
    (record,) = records(tmp_path).values()
    assert list(record.completed.metrics) == ["validation/nats", "train/loss"]
    assert record.completed.baselines == {}


# ---- the same steps by PEFT and transformers' Trainer


BATCHES = [[0, 1], [2, 3], [4, 5], [0, 3], [1, 4], [2, 5]]
CONFIG = TrainConfig(
    learning_rate=1e-2, batch_size=2, epochs=1, max_steps=None, gradient_accumulation=2, schedule="constant",
    warmup=0.0, weight_decay=0.01, clip_norm=1.0, validations=0, precision="fp32", device="cpu", head=True,
    length_window=50, kernel="torch", checkpointing=False,
)  # fmt: skip


def model_of(kind: str) -> tuple[nn.Module, Any]:
    """A tiny model with random weights, or the real one in double precision, as AdamW makes of a small gradient's
    rounding a step; and its tokenizer."""
    if kind in MODELS:
        return causal_model(kind, tie_word_embeddings=True), None
    base = load_base(kind, {}, 0, KIND.model_class, KIND.processor_class)
    return base.model.double(), base.processor


def losses_of_trainer(
    kind: str, lora: dict[str, Tensor] | None, inputs: list[dict[str, Tensor]], rate: float, out: Path
) -> tuple[list[float], nn.Module]:
    """Trainer's loss of each step on the batches as they are, and the trained model: PEFT's, where LoRA starts from the
    A that are given, or a bare one."""
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainingArguments

    model = model_of(kind)[0].train()
    if lora is not None:
        settings = LoraConfig(
            task_type="CAUSAL_LM", r=2, lora_alpha=8, target_modules=list(lora), fan_in_fan_out=kind == "gpt2"
        )
        model = get_peft_model(model, settings)
        for name, a in lora.items():
            model.base_model.model.get_submodule(name).lora_A.default.weight.data.copy_(a)
    arguments = TrainingArguments(
        output_dir=str(out), per_device_train_batch_size=1, gradient_accumulation_steps=2, max_steps=3,
        learning_rate=rate, lr_scheduler_type="constant", weight_decay=0.01, max_grad_norm=1.0, logging_steps=1,
        report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True, train_sampling_strategy="sequential",
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=inputs, data_collator=lambda batch: batch[0])
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row], model


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("kind", [*MODELS, pytest.param("smollm2", marks=[pytest.mark.network, pytest.mark.slow])])
def test_the_losses_are_those_of_peft_and_trainer(kind: str, method: str, tmp_path: Path) -> None:
    """Three steps of two batches of unlike numbers of tokens: each step's loss is the mean over its tokens."""
    model, tokenizer = model_of(kind)
    split = split_of(EXAMPLES, tokenizer)
    batches = [split.batch(group) for group in BATCHES]
    names, drawn = select(model, ["all-linear"]), None
    rank, settings, rate = (2, {"alpha": 8.0}, 1e-2) if method == "lora" else (None, {}, 1e-3)
    rate *= 1 if kind in MODELS else 0.1
    METHODS[method].attach(model, names, METHODS[method].settings(**settings), rank, generator(0, "adapter"))
    if rank:
        drawn = {name: model.get_submodule(name).lora_A.detach().clone() for name in names}
    config, never = replace(CONFIG, learning_rate=rate), Checkpoints(tmp_path / "run", {}, None, print)
    result = train(model, lambda _: batches, KIND.loss, config, 0, dict, len, (), never)
    losses, theirs = losses_of_trainer(kind, drawn, [batch.inputs for batch in batches], rate, tmp_path)
    assert [row["train/loss"] for row in result.history] == pytest.approx(losses, rel=1e-5)
    assert losses[2] < losses[0]
    if rank:
        for name in names:
            ours, peft = model.get_submodule(name), theirs.base_model.model.get_submodule(name)
            torch.testing.assert_close(ours.lora_A, peft.lora_A.default.weight, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(ours.lora_B, peft.lora_B.default.weight, rtol=1e-4, atol=1e-6)
    else:
        for ours, bare in zip(model.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(ours, bare, rtol=1e-4, atol=1e-6)


def test_an_encoder_and_half_of_a_model_are_no_causal_models(model_folder: Path, tmp_path: Path) -> None:
    """A decoder without its encoder trains, but half of its matrices have no gradient."""
    for place in (model_folder, save_base("speech_recognition", model_folder, tmp_path / "tiny-whisper")):
        with pytest.raises(ConfigError, match=f"model={place}"):
            matrix_shapes(str(place), KIND.model_class)
