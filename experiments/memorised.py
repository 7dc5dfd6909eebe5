"""Control: random labels that are learned. What rank does an update need that can only memorise?"""

from pathlib import Path
from typing import Any

from experiments import random_labels
from experiments.study import Plan, full, local, lora
from experiments.teacher import bert
from lorax_lab.data.assets import cache_folder
from lorax_lab.study.protocol import Protocol

RANKS = (1, 8, 64)
LAYER = "layer.5."
"""MiniLM's last: the fewer matrices change, the sooner a rank is too low, and the less is computed."""
MATRICES = (
    *("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
    *("intermediate.dense", "output.dense"),
)
EPOCHS = {250: 20, 1000: 15, 4000: 8}
"""How often each example is seen, by the number of training examples."""


def plan() -> Plan:
    arms = (full(1e-4, "method.others=false"), *(lora(rank, 6e-4) for rank in RANKS))
    fixed = ("task.memorise=true", "train.head=false", "task.pooling=mean")
    return Plan(
        protocol=Protocol(arms, factor=3.0, extensions=1),
        factors={"labels": {f"{count} labels": _overrides(count) for count in EPOCHS}},
        common=(*fixed, "train.precision=fp32", "train.validations=1"),
        figures=("answer", "sizes", "cost", "functional", "modules", "trials"),
        control_of="rank_sweep_2",
        prepare=_prepare,
    )


def _overrides(count: int) -> tuple[str, ...]:
    sizes = (f"task.train_examples={count}", f"train.epochs={EPOCHS[count]}", f"model={_base()}")
    modules = ",".join(LAYER + matrix for matrix in MATRICES)
    table = local(random_labels.table())
    return (*table, "task.name=random_labels", *sizes, f"method.target_modules=[{modules}]")


def _base() -> Path:
    return cache_folder() / "minilm-no-dropout"


def _prepare() -> None:
    random_labels.write()
    if not (_base() / "model.safetensors").is_file():  # the last file that is written
        base = bert("minilm", 2)
        config = base.model.config
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
        base.processor.save_pretrained(_base())
        body: Any = base.model.base_model
        body.save_pretrained(_base())
