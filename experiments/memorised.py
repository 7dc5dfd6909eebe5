"""Control: random labels that are learned. What rank does an update need that can only memorise?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from experiments import random_labels
from experiments.command import main
from experiments.study import Plan, full, lora
from lorax_lab.study.protocol import Protocol

QUESTION = """\
Labels drawn at random can only be memorised, and each costs one bit. With the head frozen, train accuracy as the score,
and the six matrices of the last layer to change, how do r* and k* grow with the number of labels? And what are they
where every layer changes?"""
PREDICTION = """\
(2026-11-27, before the study's runs, after six trials of one seed, without dropout: in the last layer 1,000 labels
seen 15 times end at a train accuracy of .972 with rank 1, .999 with rank 16 and 1.000 under full fine-tuning; in every
layer rank 1 memorises 250 labels in 12 passes.) Full fine-tuning memorises all three samples in the last layer, with
.98 or more. LoRA matches it at 250 labels from rank 1 on, at 1,000 from rank 8, at 4,000 only at rank 64 or not at all:
so r* grows with what is learned. k* of the full update grows too, and is 16 or more at 4,000. Where every layer
changes, rank 1 memorises 1,000 labels: r* is 1 and k* at most 8, as for a real task. Then a low r* of a task of some
thousand examples says nothing about the task, since noise has one as well. Refuted where r* is the same for all three
samples in the last layer, where rank 1 matches there at 4,000, where rank 64 falls short at 250, or where rank 1 falls
short in every layer. If k* is low at 4,000, a low k* says that updates are low-rank whatever is learned."""
COST = """\
About 32 runs a level, of which two run side by side, on 2 cores without units for bf16: a quarter of an hour at 250
labels, 40 minutes at 1,000, an hour and a quarter at 4,000; an hour at 1,000 in every layer."""

RANKS = (1, 8, 64)
WEIGHTS = "model.safetensors"
"""The last file that is written into the base's folder."""
LAYER = "layer.5."
"""MiniLM's last: the fewer matrices change, the sooner a rank is too low, and the less is computed."""
MATRICES = (
    *("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
    *("intermediate.dense", "output.dense"),
)
LEVELS = {
    "250 labels": (250, 20, True),
    "1000 labels": (1000, 15, True),
    "4000 labels": (4000, 8, True),
    "1000 labels in every layer": (1000, 12, False),
}
"""By name: the number of training examples, how often each is seen, and whether the last layer alone changes."""
BEGUN = ("250 labels", "1000 labels", "4000 labels")
"""What has begun; the study grows by the others, whatever comes out."""


def plan() -> Plan:
    """The grid."""
    arms = (full(1e-4, "method.others=false"), *(lora(rank, 6e-4) for rank in RANKS))
    fixed = ("task.memorise=true", "train.head=false", "task.pooling=mean")
    return Plan(
        protocol=Protocol(arms, factor=3.0, extensions=1),
        factors={"labels": {name: _overrides(name) for name in BEGUN}},
        common=(*fixed, "train.precision=fp32", "train.validations=1"),
        seconds={"trial": 90.0, "final": 120.0},
        figures=("answer", "sizes", "cost", "functional", "modules", "trials"),
        control_of="rank_sweep_2",
        prepare=_prepare,
    )


def _overrides(name: str) -> tuple[str, ...]:
    count, epochs, last = LEVELS[name]
    data = ("task=local", f"task.path={random_labels.table()}", "task.text=text", "task.label=label")
    sizes = ("task.name=random_labels", f"task.train_examples={count}", f"train.epochs={epochs}", f"model={_base()}")
    modules = ",".join(LAYER + matrix for matrix in MATRICES)
    return (*data, *sizes, *([f"method.target_modules=[{modules}]"] if last else []))


def _base() -> Path:
    from lorax_lab.data.assets import cache_folder

    return cache_folder() / "minilm-no-dropout"


def _prepare() -> None:
    from experiments.teacher import bert

    random_labels.write()
    if not (_base() / WEIGHTS).is_file():
        base = bert("minilm", 2)
        config = base.model.config
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
        base.processor.save_pretrained(_base())
        body: Any = base.model.base_model
        body.save_pretrained(_base())


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
