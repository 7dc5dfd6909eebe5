"""Which examples belong together: those that share a document, a passage or a wording, also through others."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence


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

    for shared in keys:
        for key in shared[1:]:
            first, second = sorted((root(shared[0]), root(key)))
            parent[second] = first
    return [root(shared[0]) if shared else None for shared in keys]


def alike(names: Iterable[str], plain: Callable[[str], str]) -> list[list[str]]:
    """Those of the names that are one after `plain`, by groups.

    >>> alike(["Good", "bad", "good"], str.casefold)
    [['Good', 'good']]
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups[plain(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]
