"""How many labels drawn at random can a LoRA of one layer hold? Texts, classes, matrices and rank vary.

A text is the first four words of a headline, so that a step is short. The base is the first layer of MiniLM-L3. It has
no dropout, and its last norm is `SHARPER` times as large, or the frozen head could not be sure of a class. The study
grows sample by sample.

RULES (`analysis.study.figures.capacity`). A LoRA holds a sample where, in the mean over seeds, it gives `HELD` of the
labels right. Two published numbers are tried as rules of thumb of what is held:

- bits: N·log2(K) ≤ 2·P, for N texts, K classes and P numbers trained (Schulman 2025);
- counting: 1.35·K·N < Σ r(m + n) − r² over the matrices. It was derived as enough for training to find a minimum, and
  not as needed (arXiv 2605.03724).

Each constant is also fitted: cells are ordered by the rule's ratio, and every second one has a part in the fit. The
others test it.
"""

import math
import random
from pathlib import Path
from typing import Any

import torch

from experiments.planted import headlines
from experiments.study import Plan, local, lora
from experiments.teacher import bert, write_table
from lorax_lab.data.assets import cache_folder
from lorax_lab.study.protocol import Protocol

MODEL, SHARPER = "minilm_l3", 30.0
HEADLINES, WORDS, TEXTS = 14_000, 4, 9_000
BATCH = 64
SAMPLES = ((1000, 16), (2000, 4), (250, 64), (250, 16), (1000, 64), (2000, 16))
"""Texts and classes. The first and the second have as many bits, the first and the third one K·N."""
STEPS, SHORTER = 1920, (1000, 64)
"""The sample that is also trained for half as many steps: whether the others are at their plateau."""
LAYER = "layer.0."
ATTENTION = tuple(f"{LAYER}attention.{name}" for name in ("self.query", "self.key", "self.value", "output.dense"))
FEED_FORWARD = (f"{LAYER}intermediate.dense", f"{LAYER}output.dense")


def plan() -> Plan:
    arms = (
        lora(1, 1e-3, on(ATTENTION), name="attention r=1"),
        lora(1, 1e-3, on(FEED_FORWARD), name="feed-forward r=1"),
        lora(1, 1e-3, name="all r=1"),
        lora(2, 1e-3, name="all r=2"),
    )
    return Plan(
        protocol=Protocol(arms, arms[-1].name, factor=3.0, extensions=3, chosen_by_loss="log_loss"),
        factors={"sample": samples()},
        common=(
            *("task.memorise=true", "task.validation_examples=null", "task.test_examples=null", "train.head=false"),
            *(f"model={base()}", "task.pooling=mean", "train.precision=fp32", "train.validations=1"),
        ),
        figures=("capacity", "trials", "cost"),
        prepare=prepare,
    )


def on(matrices: tuple[str, ...]) -> str:
    """The override that adapts these matrices alone."""
    return f"method.target_modules=[{','.join(matrices)}]"


def samples() -> dict[str, tuple[str, ...]]:
    levels = {f"{texts} texts of {classes} classes": level(texts, classes, STEPS) for texts, classes in SAMPLES}
    texts, classes = SHORTER
    return levels | {f"{texts} texts of {classes} classes, half as long": level(texts, classes, STEPS // 2)}


def level(texts: int, classes: int, steps: int) -> tuple[str, ...]:
    """The overrides of a sample of so many texts, each of one of so many classes."""
    epochs = math.ceil(steps / math.ceil(texts / BATCH))
    sizes = (f"task.train_examples={texts}", f"train.batch_size={BATCH}", f"train.epochs={epochs}")
    return (*local(table(classes)), f"task.name=labels_of_{classes}", *sizes, f"train.max_steps={steps}")


def base() -> Path:
    """Where the model is kept."""
    return cache_folder() / "minilm-one-layer"


def table(classes: int) -> Path:
    """Where the texts with labels of so many classes are kept."""
    return cache_folder() / f"random-labels-{classes}.csv"


def prepare() -> None:
    """Write the tables and the model that are not there."""
    for classes in sorted({classes for _, classes in SAMPLES}):
        if not table(classes).is_file():
            draw = random.Random(classes)
            write_table(table(classes), [(text, f"{draw.randrange(classes):02}") for text in short_texts()])
    if not (base() / "model.safetensors").is_file():  # the last file that is written
        write_base(base())


def short_texts() -> list[str]:
    """The first words of headlines, each once."""
    words = [title.split()[:WORDS] for title in headlines(HEADLINES)]
    return list(dict.fromkeys(" ".join(first) for first in words if len(first) == WORDS))[:TEXTS]


def write_base(folder: Path, model: str = MODEL) -> None:
    """Write the model of one layer."""
    made = bert(model, 2)
    body: Any = made.model.base_model
    body.encoder.layer = body.encoder.layer[:1]
    body.config.num_hidden_layers = 1
    body.config.hidden_dropout_prob = body.config.attention_probs_dropout_prob = 0.0
    norm = body.encoder.layer[0].output.LayerNorm
    with torch.no_grad():
        norm.weight *= SHARPER
        norm.bias *= SHARPER
    made.processor.save_pretrained(folder)
    body.save_pretrained(folder)
