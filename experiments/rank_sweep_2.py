"""The rank study, second edition: one linear layer as the head, tasks of two classes, of 24 and of a number, and arms
without any update and without embeddings.

It grows task by task, since all of it takes five hours: a task's runs are made on one machine. The task of 24 classes,
cloze, asks which word is missing in a headline. A headline is used if it has exactly one of the words, once.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.planted import headlines
from experiments.study import FULL, Plan, full, local, lora
from experiments.teacher import write_table
from lorax_lab.data.assets import cache_folder
from lorax_lab.study.protocol import Arm, Protocol

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
    arms = [full(5e-5), Arm("full without embeddings", ("method=full", "method.embeddings=false"), 5e-5)]
    arms += [Arm("head alone", ("method=head",), 4e-3), *(lora(rank, 5e-4) for rank in RANKS)]
    return Plan(
        protocol=Protocol(tuple(arms), rates=4, selection_seeds=(100, 101), loss_margin=0.03),
        factors={"task": tasks_of_the_second_edition()},
        common=("task.pooling=mean", "train.precision=bf16"),
        final={FULL: ("measure=controls",)},
        prepare=write_cloze,
    )


def tasks_of_the_second_edition() -> dict[str, tuple[str, ...]]:
    """Overrides by task."""
    of_cloze = ("task.train_examples=2400", "task.validation_examples=500", "task.test_examples=1000", "train.epochs=3")
    return {
        "sarcasm": ("task=sarcasm", *LARGE),
        "cloze": (*local(cloze_table()), "task.name=cloze", *of_cloze),
        "tweets": ("task=tweets", "task.train_examples=1500"),
        "movie_reviews": ("task=movie_reviews", *LARGE),
        "scores": ("task=movie_reviews", "task.kind=regression", "task.name=scores", *LARGE),
        "product_reviews": ("task=product_reviews",),
        "sarcasm (sample 2)": ("task=sarcasm", *LARGE, "task.split_seed=1"),
    }


def cloze_table(each: int = EACH) -> Path:
    """Where the table of cloze with so many headlines of each word is kept."""
    return cache_folder() / ("cloze.csv" if each == EACH else f"cloze_{each}.csv")


def write_cloze(each: int = EACH) -> None:
    """Write the table, if it is not there."""
    if not cloze_table(each).is_file():
        write_table(cloze_table(each), masked(headlines(HEADLINES), each))


def masked(titles: Iterable[str], most: int, words: Sequence[str] = WORDS) -> list[tuple[str, str]]:
    """Up to `most` titles of every word, with `[MASK]` for the word, and the word, in a fixed random order.

    >>> sorted(masked(["Man Bites Dog", "man and woman", "a new day", "the man"], 2))
    [('[MASK] Bites Dog', 'man'), ('the [MASK]', 'man')]
    """
    word = re.compile(rf"\b({'|'.join(words)})\b", re.IGNORECASE)
    by_word: dict[str, list[str]] = defaultdict(list)
    for headline in titles:
        hits = word.findall(headline)
        if len(hits) == 1:
            by_word[hits[0].lower()].append(word.sub("[MASK]", headline))
    rows = [(text, name) for name in words for text in dict.fromkeys(by_word[name][:most])]
    random.Random(0).shuffle(rows)
    return rows
