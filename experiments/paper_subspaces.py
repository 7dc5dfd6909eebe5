"""Figures 3, 4, 6, 7 and 8 of the LoRA paper: which directions do updates share?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from experiments import paper, random_labels
from experiments.command import main
from experiments.study import Plan

if TYPE_CHECKING:
    from lorax_lab.afterwards.trained import Runs

QUESTION = """\
Do updates of rank 8 and 64, and of two seeds, share their top directions beyond chance, as the LoRA paper's Figures 3
and 4 say, and does the update use directions of W (Figure 8)? Beside each: chance, the factors before training, both
sides of the whole product, the update of full fine-tuning, and labels drawn at random."""
PREDICTION = """\
(2026-11-27, before the study's runs, and after a look at three seeds of the second edition's runs on movie_reviews,
with a head, rates and data as here) The paper's claim that the top direction of A is shared with a similarity above .5
does not hold: φ(1, 1) of rank 8 and rank 64 is between .05 and .25 in the mean over matrices, and above .5 in less than
a tenth of them; chance is .003. Beyond the top few nothing is shared by A: φ(8, 64) is within .03 of chance, .17. The
column space of the whole product shares more than its row space. Two seeds of full fine-tuning share more than two of
LoRA. Query updates do not share more than value updates (the paper: they do). W and the update: φ(8, 64) within .1 of
chance for rows. With labels drawn at random two seeds share less than half of what they share beyond chance with real
ones, on both sides of the full update. Refuted where φ(1, 1) of A is above .5 in the mean of either task, or where
random labels share as much."""
COST = """\
About 50 runs, of which two run side by side for one to four minutes, and their directions compared in some minutes:
three quarters of an hour on 2 cores without units for bf16, less where the runs are there. It grows by movie_reviews,
at about as much."""

RANKS = (8, 64)
R8, R64 = (f"LoRA r={rank}" for rank in RANKS)

PAIRS = paper.pairs(R8, R64)
SHOWN = tuple((f"attention.self.{kind}", layer) for kind in ("query", "value") for layer in (2, 5))
"""The matrices whose directions are kept."""
KEPT_SEEDS = (0, 1)
"""The seeds of which they are kept."""
DRAWN = (
    "task=local",
    f"task.path={random_labels.table()}",
    "task.text=text",
    "task.label=label",
    "task.name=random_labels",
    "task.train_examples=3000",
    "task.validation_examples=400",
    "task.test_examples=600",
)
"""A task of labels that were drawn at random."""


def plan() -> Plan:
    """The grid."""
    return paper.plan(
        (paper.lora(rank) for rank in RANKS),
        factors={"task": paper.TASKS | {"random labels": DRAWN}},
        afterwards={"similarities": paper.similarities(PAIRS), "directions": _directions},
        figures=(*paper.SHARED, "trials"),
        prepare=random_labels.write,
    )


def _directions(runs: Runs) -> paper.Rows:
    from lorax_lab.afterwards.directions import directions

    return directions(runs, KEPT_SEEDS, SHOWN)


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
