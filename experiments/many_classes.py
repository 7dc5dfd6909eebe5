"""Does rank 8 still keep 90 % where there is more to tell apart? Cloze with 96 words to choose from, and with 200 and
more examples. The third edition has it with 24 words and half as many epochs; a third as many were too few for 96.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from experiments.planted import headlines
from experiments.rank_sweep_2 import HEADLINES, masked
from experiments.rank_sweep_3 import COMMON, FINAL, LOWEST_OF_FULL, LOWEST_OF_LORA
from experiments.study import Plan, full, local, lora
from experiments.teacher import write_table
from lorax_lab.data.assets import cache_folder
from lorax_lab.study.protocol import Protocol

RANKS = (1, 8, 64)
TASKS = {"96 words": (96, 2400, 1700), "200 words": (200, 4000, 1500)}
"""Words, training and test examples."""
LEAST, EACH = 12, 60
"""Headlines of each word, at the fewest and at the most."""


def plan() -> Plan:
    arms = (full(LOWEST_OF_FULL), *(lora(rank, LOWEST_OF_LORA) for rank in RANKS))
    return Plan(
        protocol=Protocol(arms, factor=3.0, extensions=3, final_seeds=(0, 1, 2, 3, 4), better_reference=True),
        factors={"task": {f"cloze of {name}": level(*sizes) for name, sizes in TASKS.items()}},
        common=COMMON,
        final=FINAL,
        prepare=prepare,
    )


def level(classes: int, train: int, test: int) -> tuple[str, ...]:
    """The overrides of the task with so many words and examples."""
    sizes = (f"task.train_examples={train}", "task.validation_examples=500", f"task.test_examples={test}")
    return (*local(table(classes)), "task.name=cloze", *sizes, "train.epochs=6")


def table(classes: int) -> Path:
    """Where the table with so many words is kept."""
    return cache_folder() / f"cloze_of_{classes}.csv"


def prepare() -> None:
    """Write the tables that are not there."""
    for classes, *_ in TASKS.values():
        if not table(classes).is_file():
            titles = headlines(HEADLINES)
            write_table(table(classes), masked(titles, EACH, frequent(titles, classes, LEAST)))


def frequent(titles: Sequence[str], count: int, least: int) -> list[str]:
    """The so many words that stand in the most titles: of three letters or more, no stop words, and no halves of words
    as don't. A word goes, and the next one comes, where fewer than `least` titles have it alone of all. Of equally
    frequent ones the first in the alphabet.

    >>> frequent(["The man says no", "a man", "a man says", "dogs", "says man"], 2, 1)
    ['man', 'dogs']
    """
    contracted = {half for title in titles for half in re.findall(r"([a-z]+)['’]t\b", title.lower())}
    words = [set(re.findall(r"\b[a-z]{3,}\b", t.lower())) - ENGLISH_STOP_WORDS - contracted for t in titles]
    titles_with = Counter(word for of_title in words for word in of_title)
    ordered = sorted(titles_with, key=lambda word: (-titles_with[word], word))
    while True:
        chosen = set(ordered[:count])
        alone = Counter(word for of_title in words if len(of_title & chosen) == 1 for word in of_title & chosen)
        if not (few := {word for word in chosen if alone[word] < least}):
            return ordered[:count]
        ordered = [word for word in ordered if word not in few]
