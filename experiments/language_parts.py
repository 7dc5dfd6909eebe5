"""Which part of a language model learns Turkish, at equal numbers, and how few numbers of a random subspace do? It is
a control of `experiments.language`; its full fine-tuning and its LoRA of rank 8 have that study's settings.

The attention's matrices at rank 33 train as many numbers as the feed-forward ones at rank 20. In a subspace a weight
changes by as much as a number of z (`method.scale=weight`).
"""

from experiments.language import COMMON, LOWEST_OF_FULL, LOWEST_OF_LORA, MARGIN, TURKISH, tasks
from experiments.language_texts import prepare
from experiments.study import FULL, Plan, full, lora
from lorax_lab.study.protocol import Arm, Protocol

ATTENTION, FEED_FORWARD = (33, "q_proj,k_proj,v_proj,o_proj"), (20, "gate_proj,up_proj,down_proj")
"""The rank, and the matrices that are adapted."""
LARGEST_RANK = 192
"""Keys and values have 192 rows, so no larger rank."""
DIMENSIONS = (10_000, 100_000, 1_000_000)
LOWEST_OF_SUBSPACES = (2.7e-3, 9e-4, 9e-4)


def plan() -> Plan:
    parts = {"attention": ATTENTION, "feed-forward": FEED_FORWARD}
    arms = (
        full(LOWEST_OF_FULL),
        *(lora(rank, LOWEST_OF_LORA) for rank in (8, LARGEST_RANK)),
        *(
            lora(rank, LOWEST_OF_LORA, f"method.target_modules=[{matrices}]", name=f"{part} r={rank}")
            for part, (rank, matrices) in parts.items()
        ),
        lora(8, LOWEST_OF_LORA / 3, "method.others=true", name="LoRA r=8, with all else trained"),
        *(subspace(*sizes) for sizes in zip(DIMENSIONS, LOWEST_OF_SUBSPACES, strict=True)),
    )
    return Plan(
        protocol=Protocol(arms, factor=3.0, extensions=2, margin=MARGIN),
        factors={"task": {TURKISH: tasks()[TURKISH]}},
        common=COMMON,
        final={FULL: ("measure=test_cuts",)},
        figures=("arms", "trials", "cost"),
        control_of="language",
        against=("feed-forward r=20", "LoRA r=8"),
        prepare=prepare,
    )


def subspace(dimension: int, lowest: float) -> Arm:
    """So many numbers of a random subspace, with the lowest rate of their grid."""
    overrides = ("method=subspace", f"method.dimension={dimension}", "method.scale=weight")
    return Arm(f"subspace d={dimension}", overrides, lowest)
