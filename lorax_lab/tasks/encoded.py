"""One split, tokenized once: its training batches, its largest batch, and a model's score on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lorax_lab.data import Example
from lorax_lab.tasks import Task
from lorax_lab.tasks.batches import collate, encode, length_bucketed_batches
from lorax_lab.train import predict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCORE_BATCH = 64


@dataclass(frozen=True)
class Encoded:
    """Token ids of each example without padding, and the labels as a tensor (n,), long or float."""

    rows: list[dict[str, list[int]]]
    labels: Tensor
    pad: int

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerBase, examples: list[Example], max_length: int, kind: str) -> Encoded:
        """Tokenize `examples`, cut at `max_length` tokens."""
        dtype = torch.float32 if kind == "regression" else torch.long
        labels = torch.tensor([example.label for example in examples], dtype=dtype)
        pad = tokenizer.pad_token_id
        return Encoded(encode(tokenizer, examples, max_length), labels, pad if isinstance(pad, int) else 0)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(row["input_ids"]) for row in self.rows]

    def batch(self, indices: list[int]) -> dict[str, Tensor]:
        """The named examples, padded on the right to the longest of them."""
        return collate([self.rows[i] for i in indices], self.labels[indices], self.pad)

    def batches(self, batch_size: int, generator: torch.Generator) -> list[dict[str, Tensor]]:
        """One epoch: every example once, examples of like length together, in an order from `generator`."""
        return [self.batch(indices) for indices in length_bucketed_batches(self.lengths, batch_size, generator)]

    def largest_batch(self, batch_size: int) -> dict[str, Tensor]:
        """The batch of the longest examples, which decides the peak of memory."""
        order = sorted(range(len(self.rows)), key=self.lengths.__getitem__, reverse=True)
        return self.batch(order[:batch_size])

    def outputs(self, model: nn.Module) -> Tensor:
        """What `model` says to each example, (n, num_labels), fp32 on the CPU."""
        order = sorted(range(len(self.rows)), key=self.lengths.__getitem__)
        groups = [order[i : i + SCORE_BATCH] for i in range(0, len(order), SCORE_BATCH)]
        found = predict(model, [self.batch(group) for group in groups])
        return torch.empty_like(found).index_copy_(0, torch.tensor(order), found)

    def score(self, model: nn.Module, task: Task) -> dict[str, float]:
        """The task's metrics of `model` on this split."""
        return task.score(self.outputs(model).numpy(), self.labels.numpy())
