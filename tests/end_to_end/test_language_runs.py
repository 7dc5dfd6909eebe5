"""Language models from the command line: what is recorded, shown and refused; the same steps by PEFT and Trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CONTROLLED, Lab, published
from language import KIND, causal_model, save_causal, write_table
from test_language_modeling import EXAMPLES, MODELS, padded_tokenizer, split_of
from test_tasks_laws import save_base
from torch import Tensor, nn

from lorax_lab.config import TrainConfig
from lorax_lab.errors import ConfigError
from lorax_lab.methods import METHODS
from lorax_lab.models import matrix_shapes, select
from lorax_lab.record import load_truncation, read_record
from lorax_lab.record.checkpoints import Checkpoints
from lorax_lab.record.folder import OUTPUTS, load_arrays, save_trained
from lorax_lab.streams import generator
from lorax_lab.train import make_accelerator, train
from lorax_lab.windows import contents


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("base") / "tiny-llama", tie_word_embeddings=True)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table") / "answers.csv")


@pytest.fixture
def words(base: Path, table: Path, tmp_path: Path) -> list[str]:
    """Overrides of a run of a second."""
    task = ["task=local", "task.kind=language_modeling", f"task.path={table}", "task.prompt=question"]
    sizes = ["task.train_examples=96", "task.validation_examples=24", "task.test_examples=24", "task.max_length=24"]
    place = ["train.device=cpu", "tracking=disabled", f"runs_dir={tmp_path / 'runs'}"]
    return [f"model={base}", *task, "task.label=answer", *sizes, *place]


def records(tmp_path: Path) -> dict[str, Any]:
    return {path.parent.name.split("-s0")[0]: read_record(path.parent) for path in tmp_path.glob("runs/*/record.json")}


def test_a_run_and_its_reference_are_trained_measured_cut_scored_and_recorded(
    lab_here: Lab, words: list[str], tmp_path: Path
) -> None:
    """With tied input and output embeddings, as SmolLM2 has them."""
    done = lab_here(*words, "rank=2", "task.metric=exact_match", "train.epochs=2")
    assert done.returncode == 0, done.stdout
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
    assert lora.parameters.trainable == sum(2 * sum(row["shape"]) for row in lora.matrices.values())
    cuts = load_truncation(tmp_path / "runs")
    whole = cuts[(cuts["part"] == "cut") & (cuts["k"] == cuts["k"].max())]
    assert whole["nats"].tolist() == [full.metrics["validation/nats"]]
    nothing = cuts[(cuts["part"] == "cut") & (cuts["k"] == 0)]
    assert nothing["nats"].item() > full.metrics["validation/nats"]
    folder = next((tmp_path / "runs").glob("*-full-*"))
    test = load_arrays(folder, OUTPUTS)["test"]
    assert test["outputs"].shape == (24, 3)
    assert set(test["labels"]) <= {" ".join(text.split()) for text in test["labels"]}
    shown = " ".join(done.stdout.split())
    assert f"before training, tiny-llama on local: untrained exact_match {0:.3f}, untrained nats" in shown
    assert "few_shot_4 nats" in shown
    flat = contents.summary(read_record(folder))
    assert "pseudo_values" in published(folder)
    assert flat["baseline/untrained/nats"] == full.baselines["untrained/nats"]
    assert lab_here(*words, "rank=2", "task.metric=exact_match", "train.epochs=2").returncode == 0


def test_plain_text_needs_no_prompt_and_a_trial_has_no_baselines(
    lab_here: Lab, words: list[str], tmp_path: Path
) -> None:
    plain = [word.replace("task.label=answer", "task.label=question") for word in words if "prompt" not in word]
    done = lab_here(*plain, "rank=2", "reference=false", "measure=trial")
    assert done.returncode == 0, done.stdout
    (record,) = records(tmp_path).values()
    assert list(record.completed.metrics) == ["validation/nats", "train/loss"]
    assert record.completed.baselines == {}


def test_controls_are_measured_by_nats(lab_here: Lab, words: list[str], tmp_path: Path) -> None:
    small = [word.replace("validation_examples=24", "validation_examples=4") for word in words]
    done = lab_here(*small, "method=full", "measure=controls", "task.few_shot=0")
    assert done.returncode == 0, done.stdout
    cuts = load_truncation(tmp_path / "runs")
    assert set(cuts["part"]) == {*CONTROLLED}
    assert np.isfinite(cuts["nats"]).all()
    (record,) = records(tmp_path).values()
    assert list(record.completed.baselines) == ["untrained/nats"]
    assert len(published(tmp_path / "runs" / record.run_id)["functional_pseudo_values"]) > 5


def test_a_language_model_has_no_head_of_its_own(lab_here: Lab, words: list[str]) -> None:
    done = lab_here(*words, "method=head")
    assert done.returncode == 2
    assert "method=head is not possible" in done.stdout
    assert "has no head of its own for task.kind=language_modeling; type method=lora" in done.stdout


def test_cut_prompts_are_counted_before_anything_trains(lab_here: Lab, words: list[str]) -> None:
    done = lab_here(*words, "task.max_length=8", "rank=2", "--dry-run")
    assert done.returncode == 0
    assert "prompts do not fit task.max_length=8: each is cut on its left" in done.stdout


def test_rows_that_are_in_no_split_are_counted(lab_here: Lab, words: list[str], table: Path, tmp_path: Path) -> None:
    first, answer = table.read_text().splitlines()[1].split(",")
    more = [f"{first},another", f'"",{answer}', f'" ",{answer}']
    (tmp_path / "more.csv").write_text("\n".join([*table.read_text().splitlines(), *more]) + "\n")
    done = lab_here(*words, f"task.path={tmp_path / 'more.csv'}", "rank=2,3", "-m", "--dry-run")
    assert done.stdout.count("note: task=local: rows left out: 2 blank, 2 conflicting (docs/tasks.md)") == 1, (
        done.stdout
    )
    assert "left out" not in lab_here(*words, "rank=2", "--dry-run").stdout


def change(path: Path, table: Path, answer: str) -> Path:
    """The table with one other answer."""
    head, first, *rows = table.read_text().splitlines()
    path.write_text("\n".join([head, f"{first.split(',')[0]},{answer}", *rows]) + "\n")
    return path


CANNOT = {
    "an encoder": ([], "is no causal language model: a bert reads what it should predict; type model=smollm2"),
    "an empty completion": ([], "task.label=answer is empty (1 of 200 rows); give it a label, or type"),
    "no column of completions": (["task.label=null"], "task=local needs task.label=… as well"),
    "a column of another kind": (["task.text=question"], "task.kind=language_modeling does not read task.text"),
    "completions without room": (["task.separator=' a very '", "task.max_length=4"],
        "completions have no room in task.max_length=4 tokens"),
    "more tokens than the model reads": (["task.max_length=5000"], ""),
    "a built-in task of another kind": (["task=sarcasm", "task.path=null", "task.prompt=null", "task.label=null"],
        "task.kind=language_modeling is not possible with task=sarcasm"),
}  # fmt: skip


@pytest.mark.parametrize("reason", CANNOT)
def test_what_cannot_be_is_refused_before_anything_trains(
    lab_here: Lab, words: list[str], reason: str, model_folder: Path, table: Path, tmp_path: Path
) -> None:
    more, message = CANNOT[reason]
    if reason == "an encoder":
        words = [f"model={model_folder}", *words[1:]]
    if reason == "an empty completion":
        words = [*words, f"task.path={change(tmp_path / 'changed.csv', table, '')}"]
    done = lab_here(*words, *more, "rank=2", *(["--dry-run"] if not message else []))
    assert (done.returncode, message in " ".join(done.stdout.split())) == (2 if message else 0, True), done.stdout
    assert not list(tmp_path.glob("runs/*"))


def test_a_model_of_two_parts_is_no_causal_model(lab_here: Lab, words: list[str], tmp_path: Path) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model("t5", vocab_size=32, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
    config.save_pretrained(tmp_path / "t5")
    done = lab_here(f"model={tmp_path / 't5'}", *words[1:], "rank=2")
    assert done.returncode == 2
    assert "is no model that transformers can read for this kind of task (CausalLM)" in " ".join(done.stdout.split())


def test_a_result_without_baselines_is_read(tmp_path: Path) -> None:
    """As every record before them was written."""
    from recorded import run_record

    from lorax_lab.record import record as store

    folder = tmp_path / "tiny-local-lora-r4-s0-0"
    store.write_record(folder, run_record())
    content = json.loads((folder / "record.json").read_text())
    del content["result"]["baselines"], content["sha256"]
    content["sha256"] = store._checksum(content)
    (folder / "record.json").write_text(store._text(content))
    assert read_record(folder).completed.baselines == {}


@pytest.mark.parametrize("kind", MODELS)
def test_peft_reads_the_adapter_as_that_of_a_causal_model(kind: str, tmp_path: Path) -> None:
    from peft import PeftModel, PeftModelForCausalLM

    model, batch = causal_model(kind), split_of(EXAMPLES, padded_tokenizer()).batch([0, 1, 2]).inputs
    before = KIND.loss(model, batch).item()
    for name in attached(model):
        nn.init.normal_(model.get_submodule(name).lora_B, generator=torch.Generator().manual_seed(1))
    settings_of = METHODS["lora"].settings(alpha=8.0)
    save_trained(tmp_path, METHODS["lora"].export(model, settings_of, "tiny"))
    read = PeftModel.from_pretrained(causal_model(kind), tmp_path)
    assert isinstance(read, PeftModelForCausalLM)
    assert read(**batch).loss.item() == pytest.approx(KIND.loss(model, batch).item(), rel=1e-5)
    assert KIND.loss(model, batch).item() != pytest.approx(before, rel=1e-3)


# ---- the same steps by PEFT and transformers' Trainer


BATCHES = [[0, 1], [2, 3], [4, 5], [0, 3], [1, 4], [2, 5]]
CONFIG = TrainConfig(
    learning_rate=1e-2, batch_size=2, epochs=1, max_steps=None, gradient_accumulation=2, schedule="constant",
    warmup=0.0, weight_decay=0.01, clip_norm=1.0, validations=0, precision="fp32", device="cpu", head=True,
    length_window=50, kernel="torch", checkpointing=False, dropout="torch",
)  # fmt: skip


def attached(model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Give the model rank-2 LoRA; returns the drawn A and B of each matrix."""
    settings_of, names = METHODS["lora"].settings(alpha=8.0), select(model, ["all-linear"])
    METHODS["lora"].attach(model, names, settings_of, 2, generator(0, "adapter"))
    layers = {name: model.get_submodule(name) for name in names}
    return {name: (layer.lora_A.detach().clone(), layer.lora_B.detach().clone()) for name, layer in layers.items()}


def peft_losses(kind: str, inputs: list[dict[str, Tensor]], drawn: dict[str, tuple[Tensor, Tensor]], out: Path) -> Any:
    """Trainer's loss of each step on the batches as they are, and the trained A and B."""
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainingArguments

    adapter = LoraConfig(
        task_type="CAUSAL_LM", r=2, lora_alpha=8, target_modules=list(drawn), fan_in_fan_out=kind == "gpt2"
    )
    model = get_peft_model(causal_model(kind, tie_word_embeddings=True).train(), adapter)
    layers = {name: model.base_model.model.get_submodule(name) for name in drawn}
    for name, (a, b) in drawn.items():
        layers[name].lora_A.default.weight.data.copy_(a)
        layers[name].lora_B.default.weight.data.copy_(b)
    arguments = TrainingArguments(
        output_dir=str(out), per_device_train_batch_size=1, gradient_accumulation_steps=2, max_steps=3,
        learning_rate=1e-2, lr_scheduler_type="constant", weight_decay=0.01, max_grad_norm=1.0, logging_steps=1,
        report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True, train_sampling_strategy="sequential",
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=inputs, data_collator=lambda batch: batch[0])
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    trained = {n: (layer.lora_A.default.weight, layer.lora_B.default.weight) for n, layer in layers.items()}
    return losses, trained


@pytest.mark.parametrize("kind", MODELS)
def test_the_losses_are_those_of_peft_and_trainer(kind: str, tmp_path: Path) -> None:
    """Three steps of two batches of unlike numbers of tokens: each step's loss is the mean over its tokens."""
    split = split_of(EXAMPLES, padded_tokenizer())
    batches = [split.batch(group) for group in BATCHES]
    model = causal_model(kind, tie_word_embeddings=True)
    drawn = attached(model)
    never = Checkpoints(tmp_path / "run", {}, None, print)
    result = train(
        model, lambda _: batches, KIND.loss, CONFIG, 0, make_accelerator(CONFIG), dict, lambda *_: None, never
    )
    losses, trained = peft_losses(kind, [batch.inputs for batch in batches], drawn, tmp_path)
    assert [row["train/loss"] for row in result.history] == pytest.approx(losses, rel=1e-5)
    assert losses[2] < losses[0]
    for name, (a, b) in trained.items():
        layer = model.get_submodule(name)
        torch.testing.assert_close(layer.lora_A, a, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(layer.lora_B, b, rtol=1e-4, atol=1e-6)


def test_half_of_a_model_is_refused(model_folder: Path, tmp_path: Path) -> None:
    """A decoder without its encoder trains, but half of its matrices have no gradient."""
    place = save_base("speech_recognition", model_folder, tmp_path / "tiny-whisper")
    with pytest.raises(ConfigError, match=r"is a whisper, whose decoder reads its encoder.*model=smollm2"):
        matrix_shapes(str(place), KIND.model_class)
