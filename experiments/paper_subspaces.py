"""Figures 3, 4, 6, 7 and 8 of the LoRA paper: which directions do updates share?"""

from experiments import paper, random_labels
from experiments.study import Plan, local

RANKS = (8, 64)
R8, R64 = (f"LoRA r={rank}" for rank in RANKS)

PAIRS = paper.pairs(R8, R64)
SIZES = ("task.train_examples=3000", "task.validation_examples=400", "task.test_examples=600")
DRAWN = (*local(random_labels.table()), "task.name=random_labels", *SIZES)
"""A task of labels that were drawn at random."""


def plan() -> Plan:
    return paper.plan(
        (paper.lora(rank) for rank in RANKS),
        factors={"task": paper.TASKS | {"random labels": DRAWN}},
        afterwards={"similarities": paper.similarities(PAIRS)},
        figures=(*paper.SHARED, "trials"),
        prepare=random_labels.write,
    )
