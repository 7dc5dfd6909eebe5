"""Headlines of The Onion, which are sarcastic, and of HuffPost, which are not (Misra & Arora, AI Open 2023)."""

from __future__ import annotations

import json

from lorax_lab.config import TaskConfig
from lorax_lab.data.assets import fetch, sha256_of
from lorax_lab.data.groups import connected, keys
from lorax_lab.data.source import Example, Pools, Source


def read(config: TaskConfig) -> Pools:
    """Every headline; those that differ by punctuation alone are one group.

    Raises:
        AssetError: the data are not in the cache and cannot be fetched.
    """
    rows = parse(fetch("sarcasm").read_bytes().decode("utf-8"))
    groups = connected([keys(text=text) for text, _ in rows])
    examples = [Example({"text": text}, label, group) for (text, label), group in zip(rows, groups, strict=True)]
    return Pools("sarcasm", ("not sarcastic", "sarcastic"), examples)


def parse(content: str) -> list[tuple[str, int]]:
    r"""Headline and label of each line, a chat whose last message is the headline; the instruction is left out.

    >>> parse('{"input": [{"content": "0 or 1?"}, {"content": "my white inheritance"}], "ideal": "0"}\n')
    [('my white inheritance', 0)]
    """
    rows = [json.loads(line) for line in content.split("\n") if line]
    return [(row["input"][-1]["content"], int(row["ideal"])) for row in rows]


def data_sha256(config: TaskConfig) -> str:
    """The pinned hash of the file; nothing is fetched."""
    return sha256_of("sarcasm")


SOURCE = Source(
    read,
    data_sha256,
    labels=("classes",),
    inputs={"text": "text"},
)
