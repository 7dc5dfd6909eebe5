"""The rank study, second edition: one linear layer as the head, tasks of two classes, of 24 and of a number, and arms
without any update and without embeddings.

It grows task by task, since all of it takes five hours: a task's runs are made on one machine.
"""

from __future__ import annotations

import sys

from experiments import cloze
from experiments.command import main
from experiments.study import Plan, small
from lorax_lab.study.protocol import Arm, Protocol

QUESTION = """\
How low is the rank of the update that fine-tuning makes, and what rank does LoRA need to match it, where the head is
one linear layer over the mean of the last layer, the tasks have two classes, 24 classes or a number, and an arm shows
what the head does alone?"""
PREDICTION = """\
(2026-11-26, before the runs; the grids of rates come from 20 runs on sarcasm with seed 7, scored on validation) The
study starts with sarcasm and cloze, and grows by tweets, movie_reviews, scores, product_reviews and second training
samples, whatever comes out. The head alone falls short of full fine-tuning by more than 5 points on movie_reviews,
sarcasm and cloze, and by less on tweets. LoRA's r* is at most 4 on movie_reviews, 2 on tweets and 4 on scores, and 16
or less on sarcasm. On cloze, with 24 classes, rank 1 falls short by more than 3 points and r* is 8 or more. On
product_reviews, with 900 test sentences and half the training, no rank is told: undecided. The full update keeps its
score when cut to its top 16 directions on the tasks of two classes; on cloze it does not at 8. Of the controls at the
cut's norm, the whole update made smaller does as well as the top directions from k = 32 on, and the last directions
do nothing. Without embeddings full fine-tuning scores within 1 point of itself. The hypothesis is refuted for a task
where r* or k* is surely above 24 (a sixteenth of the matrices' smaller side), and my picture of it where rank 1
matches on cloze. Two training samples of a task agree in its verdict."""
COST = """\
About 120 runs of a task, of which two run side by side for 17 to 50 s, and 5 with controls of some minutes: half an
hour to three quarters a task on 2 cores."""

RANKS = (1, 2, 4, 8, 16, 64)
FULL = "full"
BARE = "method.embeddings=false"
LARGE = ("task.train_examples=3000", "task.validation_examples=1000", "task.test_examples=2000")


def plan(budget: str) -> Plan:
    """The grid; `small` is a ten-minute version."""
    arms = [Arm(FULL, ("method=full",), 5e-5), Arm("full without embeddings", ("method=full", BARE), 5e-5)]
    arms += [Arm("head alone", ("method=head",), 4e-3)]
    arms += [Arm(f"LoRA r={rank}", ("method=lora", f"rank={rank}"), 5e-4) for rank in RANKS]
    protocol = Protocol(
        arms=tuple(arms),
        reference=FULL,
        rates=4,
        factor=2.0,
        selection_seeds=(100, 101),
        final_seeds=(0, 1, 2, 3, 4),
        margin=0.02,
        loss_margin=0.03,
    )
    whole = Plan(
        protocol=protocol,
        factors={"task": _tasks()},
        common=("task.pooling=mean", "train.precision=bf16"),
        final={FULL: ("measure=controls",)},
        seconds={"trial": 12.0, "final": 24.0},
        shared=True,
        prepare=cloze.write,
    )
    return whole if budget == "full" else small(whole)


def _tasks() -> dict[str, tuple[str, ...]]:
    columns = ("task.text=text", "task.label=label", "task.name=cloze")
    of_cloze = ("task.train_examples=2400", "task.validation_examples=500", "task.test_examples=1000", "train.epochs=3")
    return {
        "sarcasm": ("task=sarcasm", *LARGE),
        "cloze": ("task=local", f"task.path={cloze.table()}", *columns, *of_cloze),
        "tweets": ("task=tweets", "task.train_examples=1500"),
        "movie_reviews": ("task=movie_reviews", *LARGE),
        "scores": ("task=movie_reviews", "task.kind=regression", "task.name=scores", *LARGE),
        "product_reviews": ("task=product_reviews",),
        "sarcasm (sample 2)": ("task=sarcasm", *LARGE, "task.split_seed=1"),
    }


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
