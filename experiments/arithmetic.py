"""The rank study of a language model: SmolLM2 learns sums and differences, and is scored in nats per token."""

from __future__ import annotations

import sys
from dataclasses import replace

from experiments.command import main
from experiments.study import Plan
from lorax_lab.store.protocol import Arm, Protocol

QUESTION = """\
How low is the rank of the update by which a language model of 135 million parameters learns to add and subtract, and
what rank does LoRA need to match it in log loss?"""
PREDICTION = ""
COST = """\
40 runs, of which two run side by side for one to three minutes, and 3 with controls of some ten minutes: an hour on
2 cores."""

RANKS = (1, 8, 64)
FULL = "full"
MARGIN = 0.025
"""Nats per token. An answer has 4.1 tokens with its end, so that it is at worst a tenth less likely: e^(-.1) = .90."""


def plan(budget: str) -> Plan:
    """`small`: two ranks, a quarter of the examples."""
    arms = [Arm(FULL, ("method=full",), 2e-5)]
    arms += [Arm(f"LoRA r={rank}", ("method=lora", f"rank={rank}"), 5e-4) for rank in RANKS]
    protocol = Protocol(
        arms=tuple(arms),
        reference=FULL,
        rates=3,
        factor=2.0,
        selection_seeds=(100,),
        final_seeds=(0, 1, 2),
        margin=MARGIN,
    )
    sizes = ("task.train_examples=2000", "task.validation_examples=400", "task.test_examples=1500")
    whole = Plan(
        protocol=protocol,
        factors={"task": {"arithmetic": ("task=arithmetic", *sizes, "task.few_shot=0")}},
        common=("model=smollm2", "train.precision=bf16"),
        final={FULL: ("measure=controls",)},
        seconds={"trial": 60.0, "final": 90.0},
        shared=True,
    )
    if budget == "full":
        return whole
    few = tuple(arm for arm in arms if arm.rank in (None, 1, 8))
    sizes = ("task.train_examples=500", "task.validation_examples=200", "task.test_examples=400")
    return replace(
        whole,
        protocol=replace(protocol, arms=few, rates=2, final_seeds=(0, 1), extensions=0),
        factors={"task": {"arithmetic": ("task=arithmetic", *sizes, "task.few_shot=0")}},
        final={},
    )


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
