"""Table 18 of the LoRA paper: rank by log loss, which tells ranks apart that accuracy does not."""

from experiments import paper
from experiments.command import main
from experiments.study import Plan

RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def plan() -> Plan:
    arms = (paper.lora(rank) for rank in RANKS)
    return paper.plan(arms, factors={"task": paper.TASKS}, figures=("losses", "answer", "cost", "trials"))


if __name__ == "__main__":
    raise SystemExit(main())
