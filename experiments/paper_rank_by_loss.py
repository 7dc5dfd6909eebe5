"""Table 18 of the LoRA paper: rank by log loss, which tells ranks apart that accuracy does not."""

from __future__ import annotations

import sys

from experiments import paper
from experiments.command import main
from experiments.study import Plan

QUESTION = """\
How does the log loss on test fall with LoRA's rank, from 1 to 256, and where does it stop? The LoRA paper's validation
loss falls from 1.23 to 1.16 and stops at rank 16 (Table 18), with one seed."""
PREDICTION = """\
(2026-11-27, before the runs) On both tasks the log loss falls from rank 1 to rank 16 by .02 to .06 nats, and from
there by less than .01. By log loss r* is at most 16 on movie_reviews and 64 on sarcasm, and it is not smaller than by
accuracy on either. Rank 256 is not surely better than rank 16. Refuted where the loss still falls by more than .01 from
rank 16 to rank 256 on either task, or where it is lowest at rank 4 or below."""
COST = """\
About 80 runs on sarcasm, of which two run side by side for one to four minutes: an hour on 2 cores, by the time of
the runs of `paper_subspaces`, less where runs of another study are there. It grows by movie_reviews, at about as
much."""

RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def plan() -> Plan:
    """The grid."""
    arms = (paper.lora(rank) for rank in RANKS)
    return paper.plan(arms, factors={"task": paper.TASKS}, figures=("losses", "answer", "cost", "trials"))


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
