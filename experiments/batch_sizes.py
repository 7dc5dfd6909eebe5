"""Does LoRA bear large batches less well than full fine-tuning, whatever its rank (Schulman 2025)? Sarcasm at three
batch sizes, each with rates of its own, by the same passes over the same examples.

RULE (`analysis.limits`): full fine-tuning's score less LoRA's, the mean over the ranks, at the largest batch less that
at the smallest. The claim is borne out where this is surely above 0, and refuted where it is surely below .015.
"""

from __future__ import annotations

from experiments.command import main
from experiments.rank_sweep_3 import COMMON, LOWEST_OF_FULL, LOWEST_OF_LORA
from experiments.study import Plan, full, lora
from lorax_lab.study.protocol import Protocol

SIZES, RANKS = (16, 64, 256), (8, 64)
EXAMPLES = ("task.train_examples=3000", "task.validation_examples=1000", "task.test_examples=4000", "train.epochs=2")


def plan() -> Plan:
    """The grid."""
    arms = (full(LOWEST_OF_FULL), *(lora(rank, LOWEST_OF_LORA) for rank in RANKS))
    return Plan(
        protocol=Protocol(arms, factor=3.0, final_seeds=(0, 1, 2, 3, 4, 5), extensions=3, ties_are_edges=True),
        factors={"batch": {f"batch {size}": (f"train.batch_size={size}",) for size in SIZES}},
        common=("task=sarcasm", *EXAMPLES, *COMMON),
        figures=("arms", "trials", "cost"),
    )


if __name__ == "__main__":
    raise SystemExit(main())
