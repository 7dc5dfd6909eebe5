"""The rank study of a language model: SmolLM2 learns sums and differences, and is scored in nats per token."""

from __future__ import annotations

import sys

from experiments.command import main
from experiments.study import FULL, Plan, full, lora
from lorax_lab.study.protocol import Protocol

QUESTION = """\
How low is the rank of the update by which a language model of 135 million parameters learns to add and subtract, and
what rank does LoRA need to match it in log loss?"""
PREDICTION = """\
(2026-11-28, before the runs; the grids come from three runs on 512 examples in bf16 with seed 7, scored on validation,
which ended near .96 nats, and a full update of 64 examples kept most when cut to one direction) Full fine-tuning ends
between .85 and 1.05 nats per token. Rank 1 loses more than .05 nats against it, ranks 8 and 16 more than the margin,
and rank 64 matches: r* = 64, so that the hypothesis is not supported here, unlike in tasks of two classes (low is
called what is at most 12, a sixteenth of the key matrices' smaller side). The full update keeps its score when cut to
its top 16 directions, and not at 1. Refuted where rank 8 or 16 matches, or rank 64 does not, or the cut to 16 loses
more than the margin. All of this is what was declared before an earlier attempt of the same plan, whose records are
lost. Known of it: the best trials of ranks 1, 8, 16 and 64 had .973, .960, .952 and .967 nats on validation, full
fine-tuning .941; four full fine-tunes had .926, .968, .954 and .939 on test. No final run of LoRA and no cut was seen.
The trials speak against the part on rank 1, and it stays as it was."""
COST = """\
About 45 runs, of which two run side by side for two to five minutes, and 5 of them with controls of 20 to 35 minutes:
two hours on 2 cores, three without AVX-512; 4,000 examples would take most of a day."""

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
        seconds={"trial": 150.0, "final": 330.0},
        shared=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
