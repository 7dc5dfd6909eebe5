"""The rank study, third edition: r90 of LoRA, k90 of the full update and d90 of random subspaces, by one rule.

It grows task by task, since all of it takes many hours. A task's trials are made on one machine, and so are its final
runs. Cloze asks which of 24 words is missing in a headline.
"""

from experiments.rank_sweep_2 import cloze_table, write_cloze
from experiments.study import FULL, Plan, full, local, lora
from lorax_lab.study.protocol import Arm, Protocol

RANKS = (1, 2, 4, 8, 16, 24, 64)
DIMENSIONS = (100, 1_000, 10_000, 100_000, 1_000_000)
LOWEST_OF_FULL, LOWEST_OF_LORA = 1e-4, 7e-4
LOWEST_OF_SUBSPACES = dict(zip(DIMENSIONS, (1e-3, 1e-3, 1e-3, 3e-4, 2e-4), strict=True))
"""Lowest learning rates of the grids."""
FINAL_SEEDS = (0, 1, 2, 3, 4, 5, 6, 7)
FINAL = {FULL: ("measure=test_cuts",)}
COMMON = ("task.pooling=mean", "train.precision=fp32", "train.validations=1")
TWO_CLASSES = ("task.train_examples=1500", "task.validation_examples=1000", "task.test_examples=4000", "train.epochs=2")
OF_CLOZE = ("task.train_examples=2400", "task.validation_examples=500", "task.test_examples=1700", "train.epochs=3")
EACH = 250
"""Headlines of each word of cloze at most; in the second edition 180, and so fewer test examples."""


def plan() -> Plan:
    arms = (
        full(LOWEST_OF_FULL),
        *(lora(rank, LOWEST_OF_LORA) for rank in RANKS),
        *(subspace(dimension) for dimension in DIMENSIONS),
    )
    return Plan(
        protocol=protocol_of_the_third_edition(arms),
        factors={"task": tasks_of_the_third_edition()},
        common=COMMON,
        final=FINAL,
        prepare=lambda: write_cloze(EACH),
    )


def protocol_of_the_third_edition(arms: tuple[Arm, ...]) -> Protocol:
    """Three rates by factors of 3, two selection seeds, and a grid that grows until neither edge wins or ties."""
    return Protocol(
        arms,
        factor=3.0,
        selection_seeds=(100, 101),
        final_seeds=FINAL_SEEDS,
        extensions=4,
        loss_margin=0.03,
        ties_are_edges=True,
        better_reference=True,
    )


def tasks_of_the_third_edition() -> dict[str, tuple[str, ...]]:
    """Overrides by task, in the order in which the study grows: three of the second edition. All seven that were
    declared first would take over 16 hours."""
    return {
        "sarcasm": ("task=sarcasm", *TWO_CLASSES),
        "movie_reviews": ("task=movie_reviews", *TWO_CLASSES),
        "cloze": (*local(cloze_table(EACH)), "task.name=cloze", *OF_CLOZE),
    }


def subspace(dimension: int) -> Arm:
    """A random subspace of all adapted matrices, by a gather."""
    overrides = ("method=subspace", f"method.dimension={dimension}", "method.scale=weight")
    return Arm(f"subspace d={dimension}", overrides, LOWEST_OF_SUBSPACES[dimension])
