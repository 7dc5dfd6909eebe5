"""Table 5 of the LoRA paper: which matrices should be adapted, at one budget of parameters?"""

from __future__ import annotations

import sys

from experiments import paper
from experiments.command import main
from experiments.study import Plan

QUESTION = """\
Which matrices should LoRA adapt, if it may train about 37,000 parameters? The LoRA paper asked this of the attention
alone (Table 5) and found that two types at rank 4 do better than one at rank 8; here are the feed-forward matrices too,
all six types, and full fine-tuning."""
PREDICTION = """\
(2026-11-27, before the runs) At one budget the choice matters less than the paper's Table 5 says: the four arms with
one type of attention matrix differ by less than 2 points, query and key being the lowest, and every arm with two or
four types is within 1 point of the best single type. The paper's order, query and value above query and key, holds in
the mean on both tasks and is not told apart by the intervals. The feed-forward matrices, at rank 3 in one of them or
rank 2 in both, do at least as well as any attention arm, and all six types at rank 1 as well as these. No arm matches
full fine-tuning on sarcasm; some do on movie_reviews. Refuted where a single type of attention matrix is the best arm
on both tasks, or where the feed-forward arms are more than a point below the best attention arm on both."""
COST = """\
About 95 runs on sarcasm, of which two run side by side for one to four minutes: an hour on 2 cores, by the time of
the runs of `paper_subspaces`. It grows by movie_reviews, at about as much."""

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
    """The grid."""
    arms = [paper.lora(rank, name, targets, paper.lowest(targets)) for name, (rank, targets) in BUDGET.items()]
    arms.append(paper.lora(1, "all r=1"))
    return paper.plan(arms, figures=paper.FIGURES)


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
