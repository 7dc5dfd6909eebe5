"""Does LoRA bear large batches less well than full fine-tuning, whatever its rank (Schulman 2025)? Sarcasm at batches
of 16 and of 256, by the same passes over the same examples, and at batches of 16 that stop after as few steps.

RULE (`analysis.limits`): full fine-tuning's score less LoRA's at batches of 256, less the same at 16. The claim is
borne out where this is surely above 0 at each rank. Else it is refuted where it is surely below .015 at each.
"""

from experiments.rank_sweep_3 import COMMON, FINAL_SEEDS, LOWEST_OF_FULL, LOWEST_OF_LORA
from experiments.study import FULL, Plan, full, lora
from lorax_lab.study.protocol import Protocol

RANKS = (8, 64)
SMALL, LARGE = "train.batch_size=16", "train.batch_size=256"
BATCHES = {
    "batch 16": (SMALL,),
    "batch 256": (LARGE,),
    "batch 16, 24 steps": (SMALL, "train.max_steps=24"),
}
EXAMPLES = ("task.train_examples=3000", "task.validation_examples=4000", "task.test_examples=4000", "train.epochs=2")


def plan() -> Plan:
    arms = (full(LOWEST_OF_FULL), *(lora(rank, LOWEST_OF_LORA) for rank in RANKS))
    protocol = Protocol(
        arms, factor=3.0, selection_seeds=(100, 101), final_seeds=FINAL_SEEDS, extensions=3, ties_are_edges=True
    )
    return Plan(
        protocol=protocol,
        factors={"batch": BATCHES},
        common=("task=sarcasm", *EXAMPLES, *COMMON),
        final={FULL: ("measure=k90",)},  # every cut takes three times as long as the training, and is not asked for
        figures=("arms", "trials", "cost"),
    )
