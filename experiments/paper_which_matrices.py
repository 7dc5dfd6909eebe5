"""Table 5 of the LoRA paper: which matrices should be adapted, at one budget of parameters?"""

from experiments import paper
from experiments.command import main
from experiments.study import Plan

OUT = tuple(f"{layer}.output.dense" for layer in paper.LAYERS)
BUDGET = {
    "query r=8": (8, ("query",)),
    "key r=8": (8, ("key",)),
    "value r=8": (8, ("value",)),
    "attention's output r=8": (8, ("attention.output.dense",)),
    "query and key r=4": (4, ("query", "key")),
    "query and value r=4": (4, ("query", "value")),
    "attention r=2": (2, paper.SETS["attention"]),
    "feed-forward in r=3": (3, ("intermediate.dense",)),
    "feed-forward out r=3": (3, OUT),
    "feed-forward r=2": (2, paper.SETS["feed-forward"]),
}
"""Rank and matrices by the arm's name: 36,864 parameters in the attention, 34,560 in one feed-forward type at rank 3,
46,080 in both at rank 2; all six types at rank 1 have 41,472."""


def plan() -> Plan:
    arms = [paper.lora(rank, name, targets, paper.lowest(targets)) for name, (rank, targets) in BUDGET.items()]
    arms.append(paper.lora(1, "all r=1"))
    return paper.plan(arms, figures=paper.FIGURES)


if __name__ == "__main__":
    raise SystemExit(main())
