"""A task of 24 classes from real text: which word is missing in a headline?

The headlines are those of the sarcasm task. A headline is used if it has exactly one of the words, once; the word is
replaced by `[MASK]`, and is the label.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

WORDS = (
    "trump", "new", "man", "report", "year", "woman", "day", "time", "says", "life", "people", "obama", "world",
    "nation", "women", "make", "clinton", "black", "family", "gop", "school", "mom", "child", "way",
)  # fmt: skip
"""Frequent words of the headlines that have a meaning of their own; 127 headlines or more have each of them alone."""
EACH = 180
"""Headlines of each word at most."""
HEADLINES = 22_000
MASK = "[MASK]"


def table() -> Path:
    """Where the task's table is kept."""
    from lorax_lab.data.assets import cache_folder

    return cache_folder() / "cloze.csv"


def write() -> None:
    """Write the table, if it is not there."""
    from experiments.planted import headlines
    from experiments.teacher import write_table

    path = table()
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, masked(headlines(HEADLINES), EACH))


def masked(headlines: Iterable[str], each: int) -> list[tuple[str, str]]:
    """`each` headlines of every word, with the word masked, and the word, in a fixed random order; fewer where there
    are not so many.

    >>> sorted(masked(["Man Bites Dog", "man and woman", "a new day", "the man"], 2))
    [('[MASK] Bites Dog', 'man'), ('the [MASK]', 'man')]
    """
    word = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)
    found: dict[str, list[str]] = defaultdict(list)
    for headline in headlines:
        hits = word.findall(headline)
        if len(hits) == 1:
            found[hits[0].lower()].append(word.sub(MASK, headline))
    rows = [(text, name) for name in WORDS for text in dict.fromkeys(found[name][:each])]
    random.Random(0).shuffle(rows)
    return rows
