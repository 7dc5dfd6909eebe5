"""The rank study: full fine-tuning against LoRA at six ranks, on two tasks."""

from experiments.study import FULL, Plan, full, lora
from lorax_lab.study.protocol import Protocol

RANKS = (1, 2, 4, 8, 16, 64)
SIZES = ("task.train_examples=3000", "task.validation_examples=1000", "task.test_examples=2000")


def plan() -> Plan:
    arms = (full(5e-5), *(lora(rank, 5e-4) for rank in RANKS))
    return Plan(
        protocol=Protocol(arms, rates=4, selection_seeds=(100, 101)),
        factors={"task": {name: (f"task={name}",) for name in ("movie_reviews", "sarcasm")}},
        common=SIZES,
        final={FULL: ("measure=controls",)},
    )
