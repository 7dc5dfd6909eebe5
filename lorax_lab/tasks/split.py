"""One split as the model reads it: its training batches, its largest batch, and a model's score on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lorax_lab.data import Example
from lorax_lab.errors import ConfigError, Diverged
from lorax_lab.pulse import PULSE
from lorax_lab.record.clusters import GROUPS, numbered
from lorax_lab.tasks.kind import Row, Task
from lorax_lab.train import Batch

SCORED_TOGETHER, SIZE_TOGETHER = {"cpu": 16}, {"cpu": 512}
"""Examples that are scored together at most, and the sum of their sizes, by the type of the device; 64 and 8,192
elsewhere. A processor multiplies 128 tokens as fast as 4,096, and larger batches leave its caches."""
UNLIKE = {"cpu": 1.0}
"""How many times as long as its shortest example the longest of a scored batch may be; 1.25 elsewhere, where padding is
2 to 9 % of a built-in task's tokens then. So packing would gain a tenth at most."""
DTYPES: dict[str, type[np.generic]] = {"classes": np.int64, "numbers": np.float32, "texts": np.str_}
"""Of the labels, by their form."""


@dataclass(frozen=True)
class Split:
    """Each example as a row without padding, the labels (n,), and the number of each one's group (n,), None where it is
    its own. Models are scored under `autocast`: generating text calls a model's parts one by one, which a wrapper of
    the whole model does not see."""

    task: Task
    processor: Any
    rows: list[Row]
    labels: np.ndarray
    groups: np.ndarray | None = None
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext

    @staticmethod
    def encoded(task: Task, examples: list[Example], processor: Any) -> Split:
        """`examples` of the task, encoded by the tokenizer, or other processor, of the base."""
        labels = np.array([example.label for example in examples], DTYPES[task.config.labels])
        groups = numbered([example.group for example in examples])
        return Split(task, processor, task.kind.encode(processor, examples, task.config), labels, groups)

    @property
    def sizes(self) -> list[int]:
        """How long each row is."""
        return [self.task.kind.size(row) for row in self.rows]

    def batch(self, indices: list[int]) -> Batch:
        """The named examples, padded to the longest of them."""
        kind = self.task.kind
        inputs = kind.collate(self.processor, [self.rows[i] for i in indices], self.labels[indices])
        return Batch(inputs, kind.weight(inputs), len(indices), kind.tokens(inputs))

    def batches(self, batch_size: int, generator: torch.Generator, window: int) -> list[Batch]:
        """One epoch: every example once, in an order from `generator`, sorted by size inside windows of `window`
        batches."""
        return [self.batch(indices) for indices in length_bucketed_batches(self.sizes, batch_size, generator, window)]

    def largest_batch(self, batch_size: int) -> Batch:
        """The batch of the longest examples, which decides the peak of memory."""
        sizes = self.sizes
        order = sorted(range(len(self.rows)), key=sizes.__getitem__, reverse=True)
        return self.batch(order[:batch_size])

    def scored_together(self, device: str) -> list[list[int]]:
        """The indices of all examples in the batches in which they are scored on a type of device, the shortest first.

        On a processor those of a batch have one size, so that no padding is computed and no output depends on a
        neighbour. Where answers are written any sizes go together: token by token, many at once are faster.
        """
        sizes, batches = self.sizes, list[list[int]]()
        most, room = SCORED_TOGETHER.get(device, 64), SIZE_TOGETHER.get(device, 8192)
        unlike = math.inf if self.task.kind.writes(self.rows[0]) else UNLIKE.get(device, 1.25)
        for i in sorted(range(len(sizes)), key=sizes.__getitem__):
            last = batches[-1] if batches else []
            has_room = 0 < len(last) < most and (len(last) + 1) * sizes[i] <= room
            if has_room and sizes[i] <= unlike * sizes[last[0]]:
                last.append(i)
            else:
                batches.append([i])
        return batches

    @torch.inference_mode()
    def outputs(self, model: nn.Module, batches: list[list[int]] | None = None) -> Tensor:
        """What `model` says to each example, (n, width), fp32 on the CPU.

        Args:
            batches: in which the examples are read; None for `scored_together`.

        Raises:
            Diverged: an output that is not finite.
        """
        was_training, device = model.training, next(model.parameters()).device
        model.eval()
        parts, batches = [], batches or self.scored_together(device.type)
        with self.autocast():
            for indices in batches:
                PULSE.beat("batch")
                with torch.autocast("cpu", enabled=False):  # a processor of sounds multiplies too
                    batch = self.batch(indices).to(device)
                parts.append(self.task.kind.outputs(model, batch.inputs, self.processor).float().cpu())
                if not parts[-1].isfinite().all():
                    raise Diverged("outputs that are not finite")
        PULSE.rest()
        model.train(was_training)
        return in_order(torch.cat(parts), batches)

    def answered(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """What is kept of a model's outputs: `outputs` (n, width), the true `labels` (n,), where an answer is right or
        wrong, whether it is `correct` (n,), where the task's metric has them, its `pseudo_values` (n,) fp64, and the
        `groups` (n,) where examples have some in common."""
        correct, pseudo_values = self.task.kind.correct, self.task.kind.metrics[self.task.metric].pseudo_values
        functions = {"correct": correct, "pseudo_values": pseudo_values}
        derived = {name: function(outputs, self.labels) for name, function in functions.items() if function}
        of_groups = {} if self.groups is None else {GROUPS: self.groups}
        return {"outputs": outputs, "labels": self.labels} | derived | of_groups

    def score(self, model: nn.Module) -> dict[str, float]:
        """The task's metrics of `model` on this split."""
        return self.task.score(self.outputs(model).numpy(), self.labels)


def in_order(rows: Tensor, batches: list[list[int]]) -> Tensor:
    """Rows (n, …) that were computed batch by batch, in the order of the examples."""
    return torch.empty_like(rows).index_copy_(0, torch.tensor(list(chain(*batches))), rows)


def encode(task: Task, processor: Any, model_sha256: str) -> dict[str, Split]:
    """The task's three splits as the model reads them. The last ones are kept: the runs of a sweep mostly share them.

    Args:
        processor: of the model whose files have the hash `model_sha256`.
    """
    key = (model_sha256, repr(task.config), task.data_sha256)
    if key not in _encoded:
        rows = {name: Split.encoded(task, examples, processor) for name, examples in task.splits.items()}
        _encoded.clear()
        _encoded[key] = rows
    return {name: replace(split, task=task, processor=processor) for name, split in _encoded[key].items()}


_encoded: dict[tuple[str, str, str], dict[str, Split]] = {}


def length_bucketed_batches(
    lengths: Sequence[int], batch_size: int, generator: torch.Generator, window: int
) -> list[list[int]]:
    """One epoch: every index exactly once, in batches of like lengths.

    Indices are shuffled, cut into windows of `window` batches, sorted by length inside a window and cut into batches,
    whose order is shuffled again. All but one batch have `batch_size` indices. A window of 1 leaves chance alone to
    choose what a batch holds.
    """
    shuffled = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for start in range(0, len(shuffled), window * batch_size):
        alike = sorted(shuffled[start : start + window * batch_size], key=lengths.__getitem__)
        batches += [alike[i : i + batch_size] for i in range(0, len(alike), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def check_unlike(split: Split) -> None:
    """Refuse training inputs that are all the same tokens, or have none that the tokenizer knows; a ConfigError says
    what to type."""
    seen = [split.task.kind.seen(row) for row in split.rows]
    if None in seen or not split.task.train[0].inputs:
        return
    unknown, special = getattr(split.processor, "unk_token_id", None), set(split.processor.all_special_ids)
    inputs = {() if unknown in ids and special.issuperset(ids) else tuple(ids) for ids in seen if ids is not None}
    if len(inputs) > 1:
        return
    fault = "are the same tokens to the model" if inputs != {()} else "have no token that the tokenizer knows"
    name = next(iter(split.task.train[0].inputs))
    every = f"all {len(seen)} training inputs of task={split.task.config.name} {fault}, and there is nothing to learn"
    instead = f"name another column in task.{name}, or a model whose tokenizer tells these texts apart"
    raise ConfigError(f"{every}; type a larger task.max_length, {instead}")
