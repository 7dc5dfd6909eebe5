"""Tokenized examples, batches padded to their longest, and an epoch of batches of like lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lorax_lab.data.examples import Example
from lorax_lab.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WINDOW = 50
"""Batches sorted by length together: enough for little padding, few enough to mix an epoch well."""


def encode(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
) -> list[dict[str, list[int]]]:
    """Token ids, attention mask and, where the model has them, token types of each example, without padding.

    Args:
        max_length: tokens, special ones included; of a pair the longer text is cut first.

    Raises:
        ConfigError: a text of which the tokenizer makes no token.
    """
    if not examples:
        return []
    texts = [example.text for example in examples]
    pairs = [example.text_pair or "" for example in examples]
    has_pairs = any(example.text_pair is not None for example in examples)
    columns = tokenizer(texts, pairs if has_pairs else None, truncation=True, max_length=max_length)
    rows = [{key: columns[key][i] for key in columns} for i in range(len(texts))]
    for row, text in zip(rows, texts, strict=True):
        if not row["input_ids"]:
            raise ConfigError(f"the tokenizer makes no token of the text {text[:40]!r}; leave that row out")
    return rows


def collate(rows: Sequence[dict[str, list[int]]], labels: Tensor | Sequence[float], pad: int) -> dict[str, Tensor]:
    """One batch, padded on the right to its longest row: `input_ids` with `pad`, the rest with 0.

    Args:
        labels: (n,), long for classes or float for regression.

    Returns:
        Each key of the rows as (n, longest), long, and `labels` (n,).

    >>> batch = collate([{"input_ids": [5, 6]}, {"input_ids": [7]}], [1, 0], pad=9)
    >>> batch["input_ids"].tolist(), batch["labels"].tolist()
    ([[5, 6], [7, 9]], [1, 0])
    """
    longest = max(len(row["input_ids"]) for row in rows)
    batch = {}
    for key in rows[0]:
        filler = pad if key == "input_ids" else 0
        padded = [row[key] + [filler] * (longest - len(row[key])) for row in rows]
        batch[key] = torch.tensor(padded, dtype=torch.long)
    return batch | {"labels": torch.as_tensor(labels)}


def length_bucketed_batches(lengths: Sequence[int], batch_size: int, generator: torch.Generator) -> list[list[int]]:
    """One epoch: every index exactly once, in batches of like lengths.

    Indices are shuffled, cut into windows of 50 batches, sorted by length inside a window and cut into batches,
    whose order is shuffled again. All but one batch have `batch_size` indices.
    """
    shuffled = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for start in range(0, len(shuffled), WINDOW * batch_size):
        window = sorted(shuffled[start : start + WINDOW * batch_size], key=lengths.__getitem__)
        batches += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
