"""Sentences with the mean sentiment of 20 raters or more, from -4 to 4, in four kinds of text: movie reviews,
product reviews, editorials and tweets (Hutto & Gilbert, ICWSM 2014)."""

from __future__ import annotations

import re

from lorax_lab.config import TaskConfig
from lorax_lab.data.assets import fetch, sha256_of
from lorax_lab.data.groups import connected, keys
from lorax_lab.data.source import Example, Pools, Source

NEUTRAL = 0.5
"""Sentences with a mean nearer to 0 have no class: the raters do not agree on the sign."""
ADDRESS = re.compile(r"@\w+|https?://\S+|\bRT\b")
"""What a retweet has and its original has not."""

Row = tuple[str, float, str]


def read(config: TaskConfig) -> Pools:
    """Sentences of clear sentiment, negative or positive; where labels are numbers, all sentences with their score.

    Sentences of one document are one group, and so are those of one wording: a tweet with its retweets and with
    its louder variants (`Yay.`, `YAY!!!`), of which the tweets have 200.

    Raises:
        AssetError: the data are not in the cache and cannot be fetched.
    """
    rows = parse(fetch(config.source).read_bytes().decode("utf-8"))
    scores = config.labels == "numbers"
    rows = [row for row in rows if scores or abs(row[1]) >= NEUTRAL]
    groups = connected([_keys(row) for row in rows])
    labels = [score if scores else int(score > 0) for _, score, _ in rows]
    examples = [
        Example({"text": text}, label, group) for (_, _, text), label, group in zip(rows, labels, groups, strict=True)
    ]
    return Pools(config.source, () if scores else ("negative", "positive"), examples)


def parse(content: str) -> list[Row]:
    r"""Id, score and text of each line `id <tab> score <tab> text`. Quotes are part of the text.

    >>> parse("1\t2.25\tA \"gem\".\r\n7_2\t-0.6\tToo tepid\r\n")
    [('1', 2.25, 'A "gem".'), ('7_2', -0.6, 'Too tepid')]
    """
    lines = [line.removesuffix("\r").split("\t", 2) for line in content.split("\n") if line]
    return [(name, float(score), text) for name, score, text in lines]


def _keys(row: Row) -> list[str]:
    """An id is `document_sentence`, or the sentence's alone where there are no documents."""
    document, of_document, _ = row[0].rpartition("_")
    return keys(document=document if of_document else "", text=ADDRESS.sub(" ", row[2]))


def data_sha256(config: TaskConfig) -> str:
    """The pinned hash of the file; nothing is fetched."""
    return sha256_of(config.source)


SOURCE = Source(read, data_sha256, labels=("classes", "numbers"), inputs={"text": "text"})
