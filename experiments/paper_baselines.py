"""In the place of the LoRA paper's Table 8: what a task can be solved with while no attention or feed-forward matrix is
updated."""

from __future__ import annotations

import sys
from dataclasses import replace

from experiments import paper
from experiments.command import main
from experiments.study import FULL, Plan
from lorax_lab.study.protocol import Arm

QUESTION = """\
What does each task's score come to without any update of a matrix: with nothing trained but the head, with the
embeddings, with norms and biases (much as in BitFit)? Beside them full fine-tuning and LoRA of rank 1, and the same
with the usual head in the place of the linear probe."""
PREDICTION = """\
(2026-11-27, before the study's runs, and after trials with one seed on sarcasm's validation: the probe .74, the usual
head alone .66, embeddings .82, norms and biases .82, LoRA of rank 1 .85, full .87) The order is the same on test and on
movie_reviews: the probe is 5 to 15 points below full fine-tuning, embeddings close a third to two thirds of that, and
norms and biases, with 13,056 parameters, as much or more. They stay more than 2 points below LoRA of rank 1, which
trains three times as many, on sarcasm. The usual head, an untrained pooler of 147,840 parameters over the first token
beside the linear layer, is more than 4 points below the probe when it is trained alone, and within a point of it when
all is trained. Refuted where norms and biases match LoRA of rank 1 on both tasks, or where the usual head alone is
above the probe on either."""
COST = """\
About 90 runs on sarcasm, of which two run side by side for half a minute to four minutes: an hour on 2 cores, by the
time of the runs of `paper_subspaces`. It grows by movie_reviews, at about as much."""

PROBE, EMBEDDINGS, NORMS = "head alone", "embeddings alone", "norms and biases alone"
USUAL = "task.pooling=own"


def plan() -> Plan:
    """The grid."""
    arms = (
        Arm(FULL, ("method=full",), 3e-5),
        Arm(PROBE, ("method=head",), 1e-3),
        Arm(EMBEDDINGS, ("method=embeddings",), 5e-4),
        Arm(NORMS, ("method=norms_and_biases",), 5e-4),
        Arm("LoRA r=1", ("method=lora", "rank=1"), 4e-4),
    )
    pooled = {f"{name} with the usual head": (*overrides, USUAL) for name, overrides in paper.BEGUN.items()}
    linear = {name: (*overrides, *paper.COMMON[:1]) for name, overrides in paper.BEGUN.items()}
    plan = paper.plan((), factors={"task": linear | pooled}, common=paper.COMMON[1:], figures=paper.FIGURES)
    return replace(plan, protocol=replace(plan.protocol, arms=arms, rates=4, factor=3.0))  # one grid for either head


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
