"""Control: random labels that are learned. What rank does an update need that can only memorise?"""

from __future__ import annotations

import sys
from dataclasses import replace

from experiments import random_labels
from experiments.command import main
from experiments.study import Plan
from lorax_lab.store.protocol import Arm, Protocol

QUESTION = """\
Labels drawn at random can only be memorised, and each costs one bit: with the head frozen, and train accuracy as the
score, how do r* and k* grow with the number of labels?"""
PREDICTION = """\
(2026-11-26, before the runs) Full fine-tuning memorises all three samples, with a train accuracy of .95 or more. LoRA
of rank 1 (some 41,000 parameters) has parameters enough for 4,000 bits, yet parameters are not what counts: it
memorises 250 labels as full fine-tuning does (r* = 1), not 1,000 (r* = 4), and is short by more than 10 points at 4,000
(r* = 16). So r* grows by about four when the number of labels does, and k* of the full update with it: at 4,000 labels
it takes 16 directions or more, at 250 at most 8. Refuted where r* is the same at all three sizes (then the rank
measures how long is trained, and not how much is learned), where rank 1 matches at 4,000 (then a low r* of any task
of this size says nothing, since even noise has one), or where rank 64 falls short at 250. If r* grows, a real task
of some thousand examples with an r* of 1 to 4 is learned by a rule that is simpler than its labels: its r* is to be
read beside that of as many random ones. If k* is low here too, a low k* says that the update is low-rank whatever is
learned."""
COST = """\
About 120 runs, of which two run side by side for one to five minutes, and 15 with controls: two and a quarter hours on
2 cores. A best rate at a grid's edge adds a quarter of an hour."""

RANKS = (1, 4, 16, 64)
FULL = "full"
EPOCHS = {250: 40, 1000: 20, 4000: 10}
"""By the number of training examples: the fewer, the more often each is seen."""


def plan(budget: str) -> Plan:
    """`small`: 250 labels, two ranks. The table is that of `random_labels`."""
    arms = (
        Arm(FULL, ("method=full",), 2e-5),
        *(Arm(f"LoRA r={rank}", ("method=lora", f"rank={rank}"), 2e-4) for rank in RANKS),
    )
    protocol = Protocol(
        arms=arms,
        reference=FULL,
        rates=3,
        factor=3.0,
        selection_seeds=(100,),
        final_seeds=(0, 1, 2, 3, 4),
        margin=0.05,
        extensions=1,
    )
    whole = Plan(
        protocol=protocol,
        factors={"labels": {f"{count} labels": _labels(count) for count in EPOCHS}},
        common=("task.memorise=true", "train.head=false", "task.pooling=mean", "train.precision=bf16"),
        final={FULL: ("measure=controls",)},
        seconds={"trial": 60.0, "final": 75.0},
        figures=("answer", "sizes", "cost", "functional", "modules", "trials"),
        control_of="rank_sweep",
        prepare=random_labels.write,
    )
    if budget == "full":
        return whole
    few = tuple(arm for arm in arms if arm.rank in (None, 1, 64))
    return replace(
        whole,
        protocol=replace(protocol, arms=few, final_seeds=(0, 1)),
        factors={"labels": {"250 labels": _labels(250)}},
        final={},
        seconds={"trial": 30.0, "final": 40.0},
    )


def _labels(count: int) -> tuple[str, ...]:
    data = ("task=local", f"task.path={random_labels.table()}", "task.text=text", "task.label=label")
    return (*data, "task.name=random_labels", f"task.train_examples={count}", f"train.epochs={EPOCHS[count]}")


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
