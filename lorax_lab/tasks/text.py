"""Texts, or pairs of them, as a sequence classifier reads them: settings, tokens, padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from lorax_lab.config import MEAN, OWN, TaskConfig
from lorax_lab.config.checks import one_of, require
from lorax_lab.data import Example
from lorax_lab.errors import ConfigError
from lorax_lab.tasks.greedy import pad
from lorax_lab.tasks.kind import Inputs, Kind, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHORTEST = 4
"""The least `max_length`: two special tokens and two of the text."""


@dataclass
class TextConfig(TaskConfig):
    """Settings of a kind that reads a text or a pair of texts. `text` and `text_pair` name columns."""

    inputs: ClassVar[Mapping[str, str]] = {"text": "text", "text_pair": "text"}

    text: str | None = None
    text_pair: str | None = None
    max_length: int = 128
    pooling: str = field(default=OWN, metadata={"neutral": OWN} | one_of(OWN, MEAN))

    def __post_init__(self) -> None:
        super().__post_init__()
        require_length(self.max_length)


def require_length(tokens: int) -> None:
    """A row has room for something."""
    allowed = f"at least {SHORTEST} tokens, for instance task.max_length=128"
    require(tokens >= SHORTEST, "task.max_length", tokens, allowed)


def tokenize(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int) -> list[Row]:
    """Token ids, attention mask and, where the model has them, token types of each example, without padding.

    Args:
        max_length: tokens, special ones included; of a pair the longer text is cut first.
    """
    if not examples:
        return []
    texts = [example.inputs["text"] for example in examples]
    pairs = [example.inputs.get("text_pair", "") for example in examples]
    has_pairs = any("text_pair" in example.inputs for example in examples)
    columns = tokenizer(texts, pairs if has_pairs else None, truncation=True, max_length=max_length)
    rows = [{key: columns[key][i] for key in columns} for i in range(len(texts))]
    for row, text in zip(rows, texts, strict=True):
        if not row["input_ids"]:
            empty = f"task.text: the tokenizer makes no token of the text {text[:40]!r}"
            raise ConfigError(f"{empty}; leave that row out")
    return rows


class TextKind(Kind):
    """A kind that reads texts by a tokenizer, and pads them."""

    def encode(self, processor: Any, examples: Sequence[Example], config: Any) -> list[Row]:
        return tokenize(processor, examples, config.max_length)

    def size(self, row: Row) -> int:
        return len(row["input_ids"])

    def collate(self, processor: Any, rows: Sequence[Row], labels: Any) -> Inputs:
        """One batch, padded on the right, and `labels` (n,): whole numbers for classes, floats for numbers. For XLNet,
        which reads the last token, it is padded on the left."""
        reads_last = type(processor).__name__.startswith("XLNet")
        return pad(processor, rows, "left" if reads_last else "right") | {"labels": torch.as_tensor(labels)}

    def tokens(self, inputs: Inputs) -> int:
        mask = inputs.get("attention_mask")  # FNet's tokenizer makes none
        return int(inputs["input_ids"].numel() if mask is None else mask.sum())

    def notes(self, rows: Sequence[Row], config: Any) -> list[str]:
        full = sum(self.size(row) == config.max_length for row in rows)
        counted = f"{full} of {len(rows)} texts fill task.max_length={config.max_length} tokens"
        return [f"{counted}: what is beyond is cut"] if full else []

    def seen(self, row: Row) -> Sequence[int]:
        return row["input_ids"]
