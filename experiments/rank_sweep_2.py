"""The rank study, second edition: one linear layer as the head, tasks of two classes, of 24 and of a number, and arms
without any update and without embeddings.

It grows task by task, since all of it takes five hours: a task's runs are made on one machine. The task of 24 classes,
cloze, asks which word is missing in a headline. A headline is used if it has exactly one of the words, once.
"""

from __future__ import annotations

import random
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from experiments.command import main
from experiments.study import FULL, Plan, full, lora
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
LARGE = ("task.train_examples=3000", "task.validation_examples=1000", "task.test_examples=2000")

WORDS = (
    "trump", "new", "man", "report", "year", "woman", "day", "time", "says", "life", "people", "obama", "world",
    "nation", "women", "make", "clinton", "black", "family", "gop", "school", "mom", "child", "way",
)  # fmt: skip
"""Frequent words of the headlines that have a meaning of their own; 127 headlines or more have each of them alone."""
EACH = 180
"""Headlines of each word at most."""
HEADLINES = 22_000


def plan() -> Plan:
    """The grid."""
    arms = [full(5e-5), Arm("full without embeddings", ("method=full", "method.embeddings=false"), 5e-5)]
    arms += [Arm("head alone", ("method=head",), 4e-3), *(lora(rank, 5e-4) for rank in RANKS)]
    return Plan(
        protocol=Protocol(tuple(arms), rates=4, selection_seeds=(100, 101), loss_margin=0.03),
        factors={"task": tasks_of_the_second_edition()},
        common=("task.pooling=mean", "train.precision=bf16"),
        final={FULL: ("measure=controls",)},
        seconds={"trial": 12.0, "final": 24.0},
        shared=True,
        prepare=write_cloze,
    )


def tasks_of_the_second_edition() -> dict[str, tuple[str, ...]]:
    """Overrides by task."""
    columns = ("task.text=text", "task.label=label", "task.name=cloze")
    of_cloze = ("task.train_examples=2400", "task.validation_examples=500", "task.test_examples=1000", "train.epochs=3")
    return {
        "sarcasm": ("task=sarcasm", *LARGE),
        "cloze": ("task=local", f"task.path={cloze_table()}", *columns, *of_cloze),
        "tweets": ("task=tweets", "task.train_examples=1500"),
        "movie_reviews": ("task=movie_reviews", *LARGE),
        "scores": ("task=movie_reviews", "task.kind=regression", "task.name=scores", *LARGE),
        "product_reviews": ("task=product_reviews",),
        "sarcasm (sample 2)": ("task=sarcasm", *LARGE, "task.split_seed=1"),
    }


def cloze_table() -> Path:
    """Where the table of cloze is kept."""
    from lorax_lab.data.assets import cache_folder

    return cache_folder() / "cloze.csv"


def write_cloze() -> None:
    """Write the table, if it is not there."""
    from experiments.planted import headlines
    from experiments.teacher import write_table

    path = cloze_table()
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, masked(headlines(HEADLINES), EACH))


def masked(headlines: Iterable[str], each: int) -> list[tuple[str, str]]:
    """`each` headlines of every word, with `[MASK]` for the word, and the word, in a fixed random order; fewer where
    there are not so many.

    >>> sorted(masked(["Man Bites Dog", "man and woman", "a new day", "the man"], 2))
    [('[MASK] Bites Dog', 'man'), ('the [MASK]', 'man')]
    """
    word = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)
    by_word: dict[str, list[str]] = defaultdict(list)
    for headline in headlines:
        hits = word.findall(headline)
        if len(hits) == 1:
            by_word[hits[0].lower()].append(word.sub("[MASK]", headline))
    rows = [(text, name) for name in WORDS for text in dict.fromkeys(by_word[name][:each])]
    random.Random(0).shuffle(rows)
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
