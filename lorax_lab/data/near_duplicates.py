"""Near duplicates: examples that differ in nothing that a person would call another example, kept in one split.

Texts are compared by their words and pieces of words, whatever their markup, accents, digits and misprints; images by
a perceptual hash, then by their pixels. Recordings, and images that are turned or cut out, are not compared.
"""

import hashlib
import html
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lorax_lab.data.assets import cache_folder
from lorax_lab.data.leaks import LOOKALIKES
from lorax_lab.data.source import Example, Pools, content_key
from lorax_lab.data.table import printable
from lorax_lab.record.files import write_json
from lorax_lab.record.provenance import code_sha256

RULES = 2
"""Version of the rules for texts. It is a part of the data's hash, so that runs under other rules are other runs."""
SAME, ALIKE, INSIDE = 0.88, 0.7, 0.9
"""What near duplicates share at least, by the weights of their shingles: of both texts (Dice's index), where one is
short; of both, where none is, so that misprints are allowed; of the smaller one, which may be a part of the other."""
SHORT, CONTAINED = 20, 0.4
"""Shingles of a text from which on it is not short; how small a part may be."""
LETTERS = 4
"""Letters of a shingle. None reaches over the end of a word, so the order of words does not count."""
HASHES = 2**22
"""Columns of hashed shingles: more than a language has, so that few share one."""
READ = 1000
"""Letters from the beginning of a text that have shingles; equal words are looked for in all of it."""
RAREST, SHARED, BLOCK = 8, 2, 128
"""Two texts are compared where so many of the rarest of one are in the other; texts that are looked up at once."""
MARKUP = re.compile(r"</?[a-z!][^<>]*>|(?:https?://|www\.)\S+", re.IGNORECASE)
SPACE, THOUSANDS = re.compile(r"(?<!\d) | (?!\d)"), re.compile(r"(?<=\d) (?=\d{3}\b)")
"""A space that is not between digits, and one that was a separator of thousands."""
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


def grouped(pools: Pools) -> tuple[Pools, str]:
    """The same pools, where near duplicates have one group, and what is to be said of them; nothing where there are
    none. Groups that are there are kept whole.

    Of exact copies the first counts, in the order test, validation, train: no other one gets into a split. The others
    get its group, so that they are left out with it.
    """
    listed = {role: getattr(pools, role) for role in ("test", "validation", "train")}
    first: dict[tuple[str, ...], Example] = {}
    for example in chain.from_iterable(pool or [] for pool in listed.values()):
        first.setdefault(content_key(example), example)
    examples = list(first.values())
    groups = Groups([example.group for example in examples], max(SMALL, int(LARGEST * len(examples))))
    digest = hashlib.sha256(code_sha256().encode())
    for key, example in first.items():
        digest.update(repr((key, example.group)).encode(errors="surrogatepass"))
    _join_once(examples, groups, cache_folder() / "near_duplicates" / f"{digest.hexdigest()[:32]}.json")
    names = [example.group for example in examples]
    for root in {groups.sets[i] for i, _ in groups.joined}:
        for i in groups.sets.subset(root):
            names[i] = f"alike {root}"
    name_of = dict(zip(first, names, strict=True))
    for role, pool in listed.items():
        listed[role] = pool and [replace(example, group=name_of[content_key(example)]) for example in pool]
    pairs = [(examples[i], examples[j], groups.sets[i]) for i, j in sorted(groups.joined)]
    count = len(set(chain.from_iterable(groups.joined)))
    return replace(pools, **listed), _said(pairs, count, groups.refused, pools.classes)


def _join_once(examples: Sequence[Example], groups: Groups, path: Path) -> None:
    """Join near duplicates, as this file says: the process that plans a sweep writes it, and its workers read it."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # a file that was cut short is as none
        kept = json.loads(path.read_bytes())
        pairs = np.array(kept["joined"], np.int64).reshape(-1, 2)
        if not ((pairs < 0) | (pairs >= len(examples))).any():
            for i, j in pairs.tolist():
                groups.join(i, j)
            groups.refused = int(kept["refused"])
            return
    _join_alike(examples, groups)
    with suppress(OSError):
        write_json(path, {"joined": groups.joined, "refused": groups.refused})


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
    """For `str.translate`, after NFKD: marks such as accents and what nobody sees, such as a soft hyphen, are nothing;
    punctuation is a space, and a digit of any script is ours."""

    def __missing__(self, code: int) -> Any:
        category, name = unicodedata.category(chr(code)), unicodedata.name(chr(code), "")
        unseen = category in ("Cf", "Mn") or INVISIBLE.match(name)
        digit = str(unicodedata.decimal(chr(code), code))
        self[code] = "" if unseen else " " if category[0] in "PZC" else digit if category == "Nd" else code
        return self[code]


_SIGNS = _Signs()


def words(text: str) -> list[str]:
    """The words of a text in their order, without tags and links; signs such as + or an emoji are words.

    >>> words("<b>Good</b>&nbsp;film, a “GOOD” fi\\u00adlm of 1,000 cafés! https://a.com/b")
    ['good', 'film', 'a', 'good', 'film', 'of', '1000', 'cafes']
    """
    plain = unicodedata.normalize("NFKD", MARKUP.sub(" ", html.unescape(text))).translate(_SIGNS)
    return THOUSANDS.sub("", plain.casefold().translate(LOOKALIKES)).split()


def _pieces(of_words: Iterable[str]) -> set[str]:
    """The shingles of the words; a number, which has no misprints, is one."""
    bounded = {word if word.isdecimal() else f" {word} " for word in of_words}
    whole = {word for word in bounded if len(word) <= LETTERS or word.isdecimal()}
    return whole.union(word[i : i + LETTERS] for word in bounded - whole for i in range(len(word) - LETTERS + 1))


def _join_texts(texts: Sequence[str], groups: Groups) -> None:
    """Join texts of the same words in any order, or of the same letters; then those that share most of their shingles,
    the most alike first."""
    from sklearn.feature_extraction import FeatureHasher

    first: dict[int, int] = {}
    compared: list[int] = []

    def shingles() -> Iterator[set[str]]:
        for i, text in enumerate(texts):
            of_text = words(text)
            keys = [hash(" ".join(sorted(of_text))), hash(SPACE.sub("", " ".join(of_text)))] if of_text else []
            if not any(key in first for key in keys):
                compared.append(i)
                yield _pieces(" ".join(of_text)[:READ].split())
            for key in keys:
                groups.join(first.setdefault(key, i), i)

    hasher = FeatureHasher(HASHES, input_type="string", alternate_sign=False, dtype=np.float32)
    for i, j in _alike(hasher.transform(shingles())):
        groups.join(*sorted((compared[i], compared[j])))


def _alike(hashed: Any) -> np.ndarray:
    """The pairs of rows, (pairs, 2), of near duplicates, those that share the most first.

    Args:
        hashed: (texts, hashes of shingles), sparse. A shingle's weight is log(texts / texts that have it): what all
            have, such as a template's words, counts nothing.
    """
    having = np.bincount(hashed.indices, minlength=HASHES)
    weight = np.log(hashed.shape[0] / np.maximum(having, 1)).astype(np.float32)
    shingles = type(hashed)((weight[hashed.indices], hashed.indices, hashed.indptr), hashed.shape)
    sizes, totals = np.diff(shingles.indptr), np.asarray(shingles.sum(axis=1)).ravel()
    shingles.data[having[shingles.indices] == 1] = 0  # no pair shares it
    shingles.eliminate_zeros()
    having_it = shingles.T.tocsr()
    having_it.data = np.ones_like(having_it.data)
    roots = shingles.sqrt()
    chance = LETTERS * np.log(len(sizes) ** 2)  # what of all pairs about one would share if words were drawn
    found = []
    for start in range(0, len(sizes), BLOCK):
        rarest = _rarest(shingles[start : start + BLOCK], having)
        shared = (rarest @ having_it).tocoo()
        enough = shared.data >= np.minimum(SHARED, np.diff(rarest.indptr)[shared.row])
        i, j = shared.row[enough] + start, shared.col[enough]
        smaller, larger = np.minimum(totals[i], totals[j]), np.maximum(totals[i], totals[j])
        likely = (i != j) & (smaller >= CONTAINED * larger)
        i, j, smaller, larger = i[likely], j[likely], smaller[likely], larger[likely]
        common = np.asarray(roots[i].multiply(roots[j]).sum(axis=1)).ravel()
        both = 2 * common / (smaller + larger)
        long = np.minimum(sizes[i], sizes[j]) >= SHORT
        near = (both >= SAME) | long & ((both >= ALIKE) | (common >= INSIDE * smaller))
        near &= common >= chance
        found.append(np.column_stack([common / smaller, i, j])[near])
    pairs = np.concatenate([np.empty((0, 3)), *found])
    return pairs[np.argsort(-pairs[:, 0], kind="stable"), 1:].astype(int)


def _rarest(shingles: Any, having: np.ndarray) -> Any:
    """Of each row the shingles that the fewest texts have, as ones."""
    rows = np.repeat(np.arange(shingles.shape[0]), np.diff(shingles.indptr))
    order = np.lexsort((having[shingles.indices], rows))
    kept = order[np.arange(len(order)) - shingles.indptr[rows] < RAREST]
    return type(shingles)((np.ones(len(kept), np.float32), (rows[kept], shingles.indices[kept])), shingles.shape)


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
