"""In the place of the LoRA paper's Table 8: what a task can be solved with while no matrix is updated."""

from __future__ import annotations

import sys

from experiments import paper
from experiments.command import main
from experiments.study import Plan
from lorax_lab.store.protocol import Arm

QUESTION = """\
What does each task's score come to without any update of a matrix: with nothing trained but the head, with the
embeddings, with norms and biases (much as in BitFit)? Beside them full fine-tuning and LoRA of rank 1, and the same
with the usual head in the place of the linear probe."""
PREDICTION = """\
(2026-11-27, before the runs) With the linear head, the probe alone is 5 to 15 points below full fine-tuning, the
embeddings close a third to two thirds of that, and norms and biases, with 13,056 parameters, two thirds or more:
they come within 3 points of full fine-tuning on both tasks and within 2 of LoRA of rank 1, which trains three times as
many. With the usual head, an untrained pooler of 147,840 parameters beside the linear layer, the head alone gains more
than 3 points over the linear probe. Refuted where norms and biases are more than 3 points below LoRA of rank 1 on both
tasks, or where the usual head gains less than a point on both."""
COST = """\
About 160 runs, of which two run side by side for 5 to 50 s: three quarters of an hour on 2 cores."""

PROBE, EMBEDDINGS, NORMS = "head alone", "embeddings alone", "norms and biases alone"
USUAL = "task.pooling=own"


def plan(budget: str) -> Plan:
    """`small`: one task, one arm, a tenth of the examples."""
    arms = (
        Arm(PROBE, ("method=head",), 4e-3),
        Arm(EMBEDDINGS, ("method=embeddings",), 1e-3),
        Arm(NORMS, ("method=norms_and_biases",), 2e-3),
        paper.lora(1),
    )
    pooled = {f"{name} with the usual head": (*overrides, USUAL) for name, overrides in paper.TASKS.items()}
    linear = {name: (*overrides, *paper.COMMON[:1]) for name, overrides in paper.TASKS.items()}
    tasks = {"task": linear | pooled}
    whole = Plan(paper.protocol(arms), tasks, paper.COMMON[1:], paper.SECONDS, figures=paper.FIGURES)
    return whole if budget == "full" else paper.smaller(whole, (PROBE,))


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
