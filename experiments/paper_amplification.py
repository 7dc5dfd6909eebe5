"""Table 7 of the LoRA paper: does the update amplify directions that W has, but does not emphasise?"""

from __future__ import annotations

import sys

from experiments import paper, random_labels
from experiments.command import main
from experiments.paper_subspaces import DRAWN
from experiments.study import FULL, Plan

QUESTION = """\
By how much does the update amplify the directions of W that it uses? The LoRA paper gives 21.5 at rank 4 and 1.9 at
rank 64, for one matrix of GPT-3, beside a random matrix and W's own top directions (Table 7). Here are all matrices,
five seeds, the full update cut to r, and what a Gaussian update of the same norm would have."""
PREDICTION = """\
(2026-11-27, before the study's runs, and after a look at three seeds of the second edition's runs on movie_reviews at
r = 4, 8 and 64) The paper's order holds in the median over matrices: the factor lies between that of W's own top
directions, by far the lowest, and that of random ones. But it lies near the random end. LoRA's factor is within a third
of that of a Gaussian update of its norm at r = 4 and at r = 64: that it is large says that the update is large beside
what W does in few random directions, and not that it finds directions. The full update's factor is less than half of
its Gaussian's at r = 4. The factor falls from r = 4 to r = 64 by at least a factor of 4, as the Gaussian's does.
Refuted where LoRA's factor at r = 4 is above that of its Gaussian in the median of either task.
(2026-11-28, before factors were measured on labels drawn at random, and after those on sarcasm, where W is 2.51 times
as large in the top 4 directions of the full update as in those of a Gaussian, and 1.24 times in LoRA's;
`paper_subspaces` has shown what directions such runs share) With labels drawn at random W is still more than 1.75
times as large in the full update's top 4 directions, more than half of what the task has beyond noise: gradients lie
where W and its inputs are large, whatever the labels. In LoRA's top 4 it is 1.0 to 1.24 times as large. Refuted where
random labels have surely less than half of what sarcasm has in the full update: then the task makes it."""
COST = """\
About 25 runs, of which two run side by side for one to four minutes, and their updates decomposed in some minutes:
half an hour on 2 cores without units for bf16, less where the runs are there. As much again for labels drawn at
random."""

RANKS = (4, 64)


def plan() -> Plan:
    """The grid."""
    return paper.plan(
        (paper.lora(rank) for rank in RANKS),
        factors={"task": paper.TASKS | {"random labels": DRAWN}},
        figures=("amplification", "trials"),
        afterwards={"factors": paper.factors({FULL: RANKS} | {f"LoRA r={rank}": (rank,) for rank in RANKS})},
        prepare=random_labels.write,
    )


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
