"""Yes/no questions that people asked, each with a passage of Wikipedia that answers it (Clark et al., NAACL 2019)."""

from __future__ import annotations

import json

from lorax_lab.config import TaskConfig
from lorax_lab.data.assets import fetch, sha256_of
from lorax_lab.data.groups import connected, keys
from lorax_lab.data.source import Example, Pools, Source


def read(config: TaskConfig) -> Pools:
    """Question and passage of every row with a label. Rows that share a question, a passage or the passage's
    article are one group: passages of one article are often cuts of the same paragraph.

    Raises:
        AssetError: the data are not in the cache and cannot be fetched.
    """
    rows = parse(fetch("boolq").read_bytes().decode("utf-8"))
    groups = connected([_keys(question, passage) for question, passage, _ in rows])
    examples = [
        Example({"text": question, "text_pair": passage}, label, group)
        for (question, passage, label), group in zip(rows, groups, strict=True)
    ]
    return Pools("boolq", ("no", "yes"), examples)


def read_as_text(config: TaskConfig) -> Pools:
    """The same rows and groups as prompts, with `yes` or `no` as the completion.

    Raises:
        AssetError: as `read`.
    """
    pools = read(config)
    examples = [
        Example({"prompt": prompt(e.inputs["text"], e.inputs["text_pair"])}, pools.classes[int(e.label)], e.group)
        for e in pools.train
    ]
    return Pools("boolq_lm", (), examples)


def prompt(question: str, passage: str) -> str:
    r"""The question stands last: where a prompt is cut, the passage's beginning goes.

    >>> prompt("is it", "It -- It is.")
    'It -- It is.\nQuestion: is it?\nAnswer:'
    """
    return f"{passage}\nQuestion: {question.rstrip('?')}?\nAnswer:"


def parse(content: str) -> list[tuple[str, str, int]]:
    r"""Question, passage and label of each line that has a label; the data set's own test rows have none.

    >>> lines = ['{"question": "is it", "passage": "It -- It is.", "idx": 3, "label": true}', '{"question": "was it"}']
    >>> parse("\n".join(lines))
    [('is it', 'It -- It is.', 1)]
    """
    rows = [json.loads(line) for line in content.split("\n") if line]
    return [(row["question"], row["passage"], int(row["label"])) for row in rows if "label" in row]


def _keys(question: str, passage: str) -> list[str]:
    """A passage is `article -- text`."""
    article, _, text = passage.partition(" -- ")
    return keys(article=article, passage=text, question=question)


def data_sha256(config: TaskConfig) -> str:
    """The pinned hash of the file; nothing is fetched."""
    return sha256_of("boolq")


SOURCE = Source(
    read,
    data_sha256,
    labels=("classes",),
    inputs={"text": "text", "text_pair": "text"},
)
AS_TEXT = Source(
    read_as_text,
    data_sha256,
    labels=("texts",),
    inputs={"prompt": "text"},
)
