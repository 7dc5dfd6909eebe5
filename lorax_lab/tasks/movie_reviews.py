"""Movie-review sentences with the mean sentiment of 20 raters, from -4 to 4 (Hutto & Gilbert, ICWSM 2014)."""

from __future__ import annotations

from lorax_lab.assets import fetch, sha256_of
from lorax_lab.config import TaskConfig
from lorax_lab.tasks.task import Example, Pools

KEYS: frozenset[str] = frozenset()
NEUTRAL = 0.5
"""Sentences with a mean nearer to 0 have no class: the raters do not agree on the sign."""


def read(config: TaskConfig) -> Pools:
    """Sentences of clear sentiment, negative or positive; for regression all sentences, labelled by their score.

    Raises:
        AssetError: the data are not in the cache and cannot be fetched.
    """
    rows = parse(fetch("movie_reviews").read_bytes().decode("utf-8"))
    if config.kind == "regression":
        return Pools("movie_reviews", (), [Example(text, score) for score, text in rows])
    clear = [Example(text, int(score > 0)) for score, text in rows if abs(score) >= NEUTRAL]
    return Pools("movie_reviews", ("negative", "positive"), clear)


def parse(content: str) -> list[tuple[float, str]]:
    r"""Score and text of each line `id <tab> score <tab> text`. Quotes are part of the text.

    >>> parse("1\t2.25\tA \"gem\".\r\n2\t-0.6\tToo tepid\r\n")
    [(2.25, 'A "gem".'), (-0.6, 'Too tepid')]
    """
    lines = [line.removesuffix("\r").split("\t", 2) for line in content.split("\n") if line]
    return [(float(score), text) for _, score, text in lines]


def data_sha256(config: TaskConfig) -> str:
    """The pinned hash of the file; nothing is fetched."""
    return sha256_of("movie_reviews")
