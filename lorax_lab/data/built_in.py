"""The sources that bring their data: pinned files of published data sets, and what is computed here.

Groups keep together what shares a document, a passage or a wording, so that nothing of one split is in another.
"""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lorax_lab.config import TaskConfig
from lorax_lab.data.assets import cache_folder, fetch, sha256_of
from lorax_lab.data.leaks import connected, keys, wording
from lorax_lab.data.source import Example, Pools, Source
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.record.files import write_text

TEXT = {"text": "text"}
Read = Callable[[TaskConfig], Pools]


def _pinned(asset: str, read: Read, inputs: Mapping[str, str], *labels: str) -> Source:
    """A source that reads the asset's file; its pinned hash is known before anything is fetched."""
    return Source(read, lambda config: sha256_of(asset), labels=labels or ("classes",), inputs=inputs)


def _lines(asset: str) -> list[str]:
    lines = fetch(asset).read_bytes().decode("utf-8").split("\n")
    return [line for line in lines if line]


def _examples(rows: Iterable[tuple[dict[str, str], float | int | str, list[str]]]) -> list[Example]:
    """Examples of inputs, label and keys; those that share a key are one group."""
    inputs, labels, tied = zip(*rows, strict=True)
    return [Example(*parts) for parts in zip(inputs, labels, connected(tied), strict=True)]


# ---- sentiment (Hutto & Gilbert, ICWSM 2014): the mean of 20 raters or more, from -4 to 4, in four kinds of text

NEUTRAL = 0.5
"""Sentences with a mean nearer to 0 have no class: the raters do not agree on the sign."""
ADDRESS = re.compile(r"@\w+|https?://\S+|\bRT\b")
"""What a retweet has and its original has not."""


def read_rated(config: TaskConfig) -> Pools:
    """Sentences of clear sentiment, negative or positive; where labels are numbers, all sentences with their score.

    Sentences of one document are one group, and so are those of one wording: a tweet with its retweets and with
    its louder variants (`Yay.`, `YAY!!!`), of which the tweets have 200. A line is `id <tab> score <tab> text`, and an
    id `document_sentence`, or the sentence's alone where there are no documents.
    """
    scores, rows = config.labels == "numbers", []
    for line in _lines(config.source):
        name, rating, text = line.removesuffix("\r").split("\t", 2)
        document = name.rpartition("_")[0]
        score = float(rating)
        if scores or abs(score) >= NEUTRAL:
            tied = keys(document=document, text=ADDRESS.sub(" ", text))
            rows.append(({"text": text}, score if scores else int(score > 0), tied))
    return Pools(config.source, () if scores else ("negative", "positive"), _examples(rows))


# ---- headlines of The Onion, which are sarcastic, and of HuffPost, which are not (Misra & Arora, AI Open 2023)


def read_sarcasm(config: TaskConfig) -> Pools:
    """Every headline; those that differ by punctuation alone are one group. A line is a chat whose last message is the
    headline; the instruction is left out."""
    rows = []
    for chat in map(json.loads, _lines("sarcasm")):
        text = chat["input"][-1]["content"]
        rows.append(({"text": text}, int(chat["ideal"]), keys(text=text)))
    return Pools("sarcasm", ("not sarcastic", "sarcastic"), _examples(rows))


# ---- yes/no questions that people asked, each with a passage of Wikipedia that answers it (Clark et al., NAACL 2019)


def read_boolq(config: TaskConfig) -> Pools:
    """Question and passage of every row with a label; the data set's own test rows have none. A passage is
    `article -- text`. Rows that share a question, a passage or the passage's article are one group: passages of one
    article are often cuts of the same paragraph."""
    rows = []
    for row in map(json.loads, _lines("boolq")):
        if "label" in row:
            article, _, text = row["passage"].partition(" -- ")
            tied = keys(article=article, passage=text, question=row["question"])
            rows.append(({"text": row["question"], "text_pair": row["passage"]}, int(row["label"]), tied))
    return Pools("boolq", ("no", "yes"), _examples(rows))


def read_boolq_as_text(config: TaskConfig) -> Pools:
    """The same rows and groups as prompts, with `yes` or `no` as the completion. The question stands last: where a
    prompt is cut, the passage's beginning goes."""
    pools, examples = read_boolq(config), []
    for example in pools.train:
        question, passage = example.inputs["text"].rstrip("?"), example.inputs["text_pair"]
        prompt = f"{passage}\nQuestion: {question}?\nAnswer:"
        examples.append(Example({"prompt": prompt}, pools.classes[int(example.label)], example.group))
    return Pools("boolq_lm", (), examples)


# ---- sums and differences of two numbers, made here from a fixed seed

COUNT = 8000
LARGEST = 99


def read_arithmetic(config: TaskConfig) -> Pools:
    """`COUNT` different problems of numbers from 1 to `LARGEST`. The two orders of a sum are one group."""
    return Pools("arithmetic", (), list(problems()))


@lru_cache(maxsize=1)
def problems() -> tuple[Example, ...]:
    """The problems, as prompt and completion.

    >>> problems()[0].inputs["prompt"], problems()[0].label, problems()[0].group
    ('63 + 73 =', '136', '63 + 73')
    """
    draw, made = random.Random("arithmetic"), dict[str, Example]()
    while len(made) < COUNT:
        first, second = draw.randint(1, LARGEST), draw.randint(1, LARGEST)
        low, high = sorted((first, second))
        if draw.choice((True, False)):
            text, answer, group = f"{first} + {second} =", first + second, f"{low} + {high}"
        else:
            text, answer, group = f"{high} - {low} =", high - low, f"{high} - {low}"
        made[text] = Example({"prompt": text}, str(answer), group)
    return tuple(made.values())


def _hash_of_texts(examples: Iterable[Example]) -> str:
    content = [[example.inputs["prompt"], example.label] for example in examples]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


# ---- problems of reasoning-gym's generators (Stojanovski et al. 2025), made here from a fixed seed


def read_reasoning(config: TaskConfig) -> Pools:
    """`COUNT` problems of the generator that `task.subset` names, less those that come twice, with their answers.
    Problems of the same words and numbers in any order are one group."""
    return Pools(f"reasoning {config.subset}", (), list(generated(config.subset)))


GENERATE = """
import json, sys
from reasoning_gym.factory import create_dataset
problems = create_dataset(sys.argv[1], seed=0, size=int(sys.argv[2]))
json.dump([[problem["question"], problem["answer"]] for problem in problems], sys.stdout)
"""


@lru_cache(maxsize=4)
def generated(generator: str | None) -> tuple[Example, ...]:
    """The problems, as prompt and completion.

    Raises:
        ConfigError: reasoning-gym is not installed, has no such generator, or that one fails or gives no answers.
    """
    problems: dict[str, Example] = {}
    for question, answer in json.loads(_generate(generator).read_text(encoding="utf-8")):
        if answer is None:
            none = f"task.subset={generator} gives problems without an answer, which only its verifier can judge"
            raise ConfigError(f"{none}; name another generator, such as task.subset=spell_backward")
        (key,) = keys(text=" ".join(sorted(wording(question).split())))
        problems.setdefault(question, Example({"prompt": question}, str(answer), key))
    return tuple(problems.values())


def _generate(generator: str | None) -> Path:
    """The file in the cache folder with questions and answers. They are made in a process of its own, since some
    generators follow Python's hash seed."""
    try:
        from reasoning_gym import __version__ as version
        from reasoning_gym.factory import DATASETS
    except ImportError:
        install = "pip install 'lorax_lab[reasoning]'"
        raise ConfigError(f"task=reasoning: reasoning-gym is not installed; type {install}") from None
    if generator is None or generator not in DATASETS:
        closest = suggest(generator or "", sorted(DATASETS))
        raise ConfigError(f"task.subset={generator} is no generator of reasoning-gym; {closest}")
    path = cache_folder() / "reasoning" / version / f"{generator}.json"
    if not path.is_file():
        command = [sys.executable, "-c", GENERATE, generator, str(COUNT)]
        seeded = os.environ | {"PYTHONHASHSEED": "0"}
        done = subprocess.run(command, env=seeded, capture_output=True, text=True, check=False)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ConfigError(f"task.subset={generator} fails in reasoning-gym ({why}); name another generator")
        write_text(path, done.stdout)
    return path


# ---- handwritten digits of 43 people, 8 × 8 pixels, which come with scikit-learn (Alpaydin & Kaynak, 1998)

DIGITS_SHA256 = "a19cb3d96bba7deace8ee5a513a6eb7bad0403d528f00bf4d351b6a7a55baa91"
"""Of the images, 8 bits for each pixel, and then of the labels. Which digits are used is a setting."""
DARKEST = 16
"""The largest value of a pixel as scikit-learn has them."""


def read_digits(config: TaskConfig) -> Pools:
    """Every image (8, 8, 3), the ink white on black; with `task.subset=5-9` only those digits.

    Who wrote which digit is not known, so one person's digits can be in two splits.

    Raises:
        ConfigError: a subset that is none; a scikit-learn with other images than those whose hash is pinned.
    """
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = np.rint(digits.images * (255 / DARKEST)).astype(np.uint8)  # (1797, 8, 8)
    labels = digits.target.astype(np.uint8)
    if hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() != DIGITS_SHA256:
        raise ConfigError("task=digits: this scikit-learn has other digits than scikit-learn 1.5 to 1.9; install one")
    first, last = _range(config.subset)
    coloured = np.repeat(images[..., None], 3, axis=3)
    chosen = [i for i, label in enumerate(labels) if first <= label <= last]
    examples = [Example({"image": coloured[i]}, int(labels[i]) - first) for i in chosen]
    where = "digits" if config.subset is None else f"digits {config.subset}"
    return Pools(where, tuple(str(digit) for digit in range(first, last + 1)), examples)


def _range(subset: str | None) -> tuple[int, int]:
    """
    >>> _range("5-9"), _range(None)
    ((5, 9), (0, 9))
    """
    first, _, last = (subset or "0-9").partition("-")
    if len(first) != 1 or len(last) != 1 or not (first + last).isdecimal() or first >= last:
        two = f"task.subset={subset} is not possible: the first and the last of the digits"
        raise ConfigError(f"{two}; type task=digits task.subset=5-9")
    return int(first), int(last)


RATED = ("movie_reviews", "product_reviews", "editorials", "tweets")
SOURCES: dict[str, Source] = {
    **{name: _pinned(name, read_rated, TEXT, "classes", "numbers") for name in RATED},
    "sarcasm": _pinned("sarcasm", read_sarcasm, TEXT),
    "boolq": _pinned("boolq", read_boolq, TEXT | {"text_pair": "text"}),
    "boolq_lm": _pinned("boolq", read_boolq_as_text, {"prompt": "text"}, "texts"),
    "arithmetic": Source(
        read_arithmetic, lambda config: _hash_of_texts(problems()), labels=("texts",), inputs={"prompt": "text"}
    ),
    "reasoning": Source(
        read_reasoning,
        lambda config: _hash_of_texts(generated(config.subset)),
        labels=("texts",),
        inputs={"prompt": "text"},
        keys=("subset",),
    ),
    "digits": Source(
        read_digits, lambda config: DIGITS_SHA256, labels=("classes",), inputs={"image": "image"}, keys=("subset",)
    ),
}
