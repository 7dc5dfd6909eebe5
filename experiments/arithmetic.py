"""The rank study of a language model: SmolLM2 learns sums and differences, and is scored in nats per token."""

from __future__ import annotations

from experiments.command import main
from experiments.study import FULL, Plan, full, lora
from lorax_lab.study.protocol import Protocol

RANKS = (1, 8, 16, 64)
MARGIN = 0.025
"""Nats per token. An answer has 4.1 tokens with its end, so that it is at worst a tenth less likely: e^(-.1) = .90."""


def plan() -> Plan:
    """The grid."""
    arms = (full(5e-5), *(lora(rank, 5e-4) for rank in RANKS))
    sizes = ("task.train_examples=500", "task.validation_examples=100", "task.test_examples=800")
    return Plan(
        protocol=Protocol(arms, margin=MARGIN),
        factors={"task": {"arithmetic": ("task=arithmetic", *sizes, "task.few_shot=0")}},
        common=("model=smollm2", "train.precision=fp32"),
        final={FULL: ("measure=controls",)},
        shared=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
