"""The rank study: full fine-tuning against LoRA at six ranks, on two tasks."""

from __future__ import annotations

import sys

from experiments.command import main
from experiments.study import FULL, Plan, full, lora
from lorax_lab.study.protocol import Protocol

QUESTION = """\
How low is the rank of the update that fine-tuning makes, and what rank does LoRA need to match it?"""
PREDICTION = """\
(2026-11-25, before the runs) LoRA matches full fine-tuning within 2 points from rank 4 on, and rank 1 falls short of
that on neither task by more than 3 points. The full update's effective rank is above half of its null's, so the
spectrum will say "high rank"; cut to its top 8 directions in every matrix it keeps the whole update's score within 2
points, on both tasks. Independent seeds share fewer than 10 directions of a matrix above chance, most of them in
value and output matrices. The best learning rate of LoRA is 5 to 20 times that of full fine-tuning at every rank."""
COST = """\
About 180 runs of half a minute to a minute, and 10 with controls of some minutes each: 4 hours on 2 cores."""

RANKS = (1, 2, 4, 8, 16, 64)
SIZES = ("task.train_examples=3000", "task.validation_examples=1000", "task.test_examples=2000")


def plan() -> Plan:
    """The grid."""
    arms = (full(5e-5), *(lora(rank, 5e-4) for rank in RANKS))
    return Plan(
        protocol=Protocol(arms, rates=4, selection_seeds=(100, 101)),
        factors={"task": {name: (f"task={name}",) for name in ("movie_reviews", "sarcasm")}},
        common=SIZES,
        final={FULL: ("measure=controls",)},
        seconds={"trial": 35.0, "final": 80.0},
        shared=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
