"""Near duplicates: examples that differ in nothing that a person would call another example, kept in one split.

Texts are compared by their words, whatever their order, case, punctuation, HTML entities and invisible signs; images by
a perceptual hash, then by their pixels. Recordings, and images that are turned or cut out, are not compared.
"""

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image

from lorax_lab.data.source import Example, Pools, content_key
from lorax_lab.data.table import printable

ALIKE = 0.8
"""Share of the shingles of two texts, all of them and the rare ones, that near duplicates have in common at least."""
LETTERS = 4
"""Letters of a shingle. None reaches over the end of a word, so the order of words does not count."""
READ = 1000
"""Letters from the beginning of a text that have shingles; equal words are looked for in all of it."""
COMMON = 0.1
"""Share of the texts from which on a shingle is not rare: it is of a template, or of the language."""
BANDS, ROWS = 12, 5
"""Of MinHash: two texts that share 80 % of their shingles are compared with a probability of .99."""
BITS = 10
"""Of the 64 bits of a perceptual hash, how many may differ before pixels are compared."""
THUMBNAIL = 16
UNLIKE = 0.2
"""How far two thumbnails may be apart: the root mean square of their difference, by the contrast of one: the mean
over its colours of their standard deviation."""
INVISIBLE = re.compile("COMBINING GRAPHEME JOINER|HANGUL .*FILLER|.*VARIATION SELECTOR|BRAILLE PATTERN BLANK")
"""Names of signs that show nothing, beside those of format."""
LARGEST, SMALL = 0.05, 20
"""A group of near duplicates has at most this share of the examples, or so many: else chance could chain them all."""


class Groups:
    """Which of the examples, by their indices, belong together: at first those whose `names` are equal.

    Attributes:
        joined: the pairs of near duplicates that made two groups one.
        refused: how many joins would have made a group larger than `most`.
    """

    def __init__(self, names: Sequence[str | None], most: int) -> None:
        from scipy.cluster.hierarchy import DisjointSet

        self.sets, self.most, self.refused = DisjointSet(range(len(names))), most, 0
        self.joined: list[tuple[int, int]] = []
        first: dict[str, int] = {}
        for i, name in enumerate(names):
            if name is not None:
                self.sets.merge(first.setdefault(name, i), i)

    def join(self, i: int, j: int) -> None:
        """Put two examples, and all that is with them, into one group, where it is not too large."""
        if self.sets.connected(i, j):
            return
        if self.sets.subset_size(i) + self.sets.subset_size(j) > self.most:
            self.refused += 1
        else:
            self.sets.merge(i, j)
            self.joined.append((i, j))


def grouped(pools: Pools, key: object) -> tuple[Pools, str]:
    """The same pools, where near duplicates have one group, and what is to be said of them; nothing where there are
    none. Groups that are there are kept whole.

    Of exact copies the first counts, in the order test, validation, train: no other one gets into a split. The others
    get its group, so that they are left out with it.

    Args:
        key: of all that decides the pools; the last answer is kept, since the runs of a sweep mostly share it.
    """
    listed = {role: getattr(pools, role) for role in ("test", "validation", "train")}
    first: dict[tuple[str, ...], Example] = {}
    for example in chain.from_iterable(pool or [] for pool in listed.values()):
        first.setdefault(content_key(example), example)
    if key not in _last:
        _last.clear()
        _last[key] = _groups_of(list(first.values()), pools.classes)
    names, note = _last[key]
    name_of = dict(zip(first, names, strict=True))
    for role, pool in listed.items():
        listed[role] = pool and [replace(example, group=name_of[content_key(example)]) for example in pool]
    return replace(pools, **listed), note


_last: dict[object, tuple[list[str | None], str]] = {}


def _groups_of(examples: list[Example], classes: Sequence[str]) -> tuple[list[str | None], str]:
    """The group of each example, a new one where near duplicates were joined, and what is to be said of them."""
    groups = Groups([example.group for example in examples], max(SMALL, int(LARGEST * len(examples))))
    _join_alike(examples, groups)
    names = [example.group for example in examples]
    for root in {groups.sets[i] for i, _ in groups.joined}:
        for i in groups.sets.subset(root):
            names[i] = f"alike {root}"
    pairs = [(examples[i], examples[j], groups.sets[i]) for i, j in groups.joined]
    return names, _said(pairs, len(set(chain.from_iterable(groups.joined))), groups.refused, classes)


def _said(pairs: list[tuple[Example, Example, int]], count: int, refused: int, classes: Sequence[str]) -> str:
    """What a person should know of the `pairs` of near duplicates, each with its group, that hold `count` examples."""
    if not pairs and not refused:
        return ""
    of_group: dict[int, tuple[Example, Example]] = {}
    for one, other, group in sorted(pairs, key=lambda pair: pair[0].label == pair[1].label):
        of_group.setdefault(group, (one, other))
    with_input = [pair for pair in of_group.values() if pair[0].inputs]  # else the label is all of the text
    differ = sum(one.label != other.label for one, other in with_input)
    sentence = f"{count:,} examples are near duplicates and stay together, in {len(of_group):,} groups"
    sentence += f", {differ:,} of them with different labels" if differ else ""
    for one, other in list(of_group.values())[:2]:
        sentence += f"; such as {_shown(one, classes)} and {_shown(other, classes)}"
    sentence += f"; {refused:,} more pairs stay apart, for their groups would be too large" if refused else ""
    return f"{sentence}; task.group_near_duplicates=false does without"


def _shown(example: Example, classes: Sequence[str]) -> str:
    values = list(example.inputs.values()) or [str(example.label)]
    if isinstance(values[0], str):
        return repr(printable(" ".join(values)))
    return f"{printable(example.file)} ({printable(classes[int(example.label)])})"


def _join_alike(examples: Sequence[Example], groups: Groups) -> None:
    inputs = [list(example.inputs.values()) or [str(example.label)] for example in examples]
    if all(isinstance(value, str) for value in inputs[0]):
        _join_texts([" ".join(map(str, values)) for values in inputs], groups)
    elif isinstance(inputs[0][0], np.ndarray):
        _join_images([values[0] for values in inputs], groups)


# ---- texts


class _Signs(dict[int, Any]):
    """For `str.translate`: invisible signs, such as a soft hyphen, are nothing, and punctuation is a space."""

    def __missing__(self, code: int) -> Any:
        category, name = unicodedata.category(chr(code)), unicodedata.name(chr(code), "")
        self[code] = "" if category == "Cf" or INVISIBLE.match(name) else " " if category[0] in "PZC" else code
        return self[code]


_SIGNS = _Signs()


def words(text: str) -> tuple[str, ...]:
    """The words of a text by the alphabet; signs such as + or an emoji are words.

    >>> words("Good&nbsp;film, a “GOOD” fi\\u00adlm!") == words("film a good film good")
    True
    """
    plain = unicodedata.normalize("NFKC", html.unescape(text)).translate(_SIGNS)
    return tuple(sorted(plain.casefold().split()))


def _shingles(of_words: Sequence[str]) -> frozenset[str]:
    bounded = {f" {word} " for word in of_words}
    return frozenset(word[i : i + LETTERS] for word in bounded for i in range(max(1, len(word) - LETTERS + 1)))


def _join_texts(texts: Sequence[str], groups: Groups) -> None:
    """Join texts of the same words, then those that MinHash finds and whose shingles are surely alike."""
    from datasketch import MinHash, MinHashLSH

    first: dict[tuple[str, ...], int] = {}
    for i, text in enumerate(texts):
        if of_text := words(text):
            groups.join(first.setdefault(of_text, i), i)
    shingles = {i: _shingles(words(texts[i][:READ])) for i in first.values()}
    counts = Counter(chain.from_iterable(shingles.values()))
    most = max(len(shingles) * COMMON, 5)
    rare = {i: frozenset(s for s in of_text if counts[s] <= most) for i, of_text in shingles.items()}
    encoded = ([shingle.encode() for shingle in of_text] for of_text in rare.values())
    hashes = MinHash.generator(encoded, num_perm=BANDS * ROWS, hashfunc=crc32, scheme="affine32")
    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    for i, minhash in zip(rare, hashes, strict=True):
        if not rare[i]:
            continue
        for j in sorted(index.query(minhash)):
            pairs = ((of_text[i], of_text[j]) for of_text in (rare, shingles))
            if not groups.sets.connected(i, j) and all(len(a & b) / len(a | b) >= ALIKE for a, b in pairs):
                groups.join(j, i)
        index.insert(i, minhash)


# ---- images


def _join_images(images: Sequence[np.ndarray], groups: Groups) -> None:
    """Join images of nearly one perceptual hash whose thumbnails are nearly the same."""
    from imagehash import phash

    opened = [Image.fromarray(image) for image in images]
    hashes = np.array([np.packbits(phash(image).hash).view(np.uint64)[0] for image in opened])
    small = [np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)) for image in opened]
    thumbnails = np.stack(small).astype(np.float32)  # (n, height, width, 3)
    contrasts = thumbnails.std(axis=(1, 2)).mean(axis=1)
    for i in range(1, len(images)):
        candidates = np.flatnonzero(np.bitwise_count(hashes[:i] ^ hashes[i]) <= BITS)
        apart = np.sqrt(np.square(thumbnails[candidates] - thumbnails[i]).mean(axis=(1, 2, 3)))
        for j in candidates[apart <= UNLIKE * contrasts[i]]:
            groups.join(int(j), i)
