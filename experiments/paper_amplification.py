"""Table 7 of the LoRA paper: does the update amplify directions that W has, but does not emphasise?"""

from experiments import paper, random_labels
from experiments.paper_subspaces import DRAWN
from experiments.study import FULL, Plan

RANKS = (4, 64)


def plan() -> Plan:
    return paper.plan(
        (paper.lora(rank) for rank in RANKS),
        factors={"task": paper.TASKS | {"random labels": DRAWN}},
        figures=("amplification", "trials"),
        afterwards={"factors": paper.factors({FULL: RANKS} | {f"LoRA r={rank}": (rank,) for rank in RANKS})},
        prepare=random_labels.write,
    )
