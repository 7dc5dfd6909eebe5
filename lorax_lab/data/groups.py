"""Which examples belong together: those that share a document, a passage or a wording, also through others."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence


def wording(text: str) -> str:
    """Only the words of a text: case, punctuation, spacing and Unicode's forms do not count.

    >>> wording("YAY!! Another  good 'phone' interview."), wording(":-)")
    ('yay another good phone interview', '')
    """
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def keys(**parts: str) -> list[str]:
    """The keys that tie an example to others: each part's kind with its wording. A part without words has no key.

    >>> keys(document="31", text="Well worth it!"), keys(text=":-)")
    (['document 31', 'text well worth it'], [])
    """
    return [f"{kind} {plain}" for kind, part in parts.items() if (plain := wording(part))]


def connected(keys: Sequence[Sequence[str]]) -> list[str | None]:
    """The group of each example. Two examples that share a key are in one group, and so are all examples that a chain
    of shared keys links. A group is named by its alphabetically first key; an example without keys has none.

    >>> connected([["document 1", "text wow"], ["document 2", "text wow"], ["document 2"], ["document 3"], []])
    ['document 1', 'document 1', 'document 1', 'document 3', None]
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for own in keys:
        for other in own[1:]:
            first, second = sorted((root(own[0]), root(other)))
            parent[second] = first
    return [root(own[0]) if own else None for own in keys]
