"""A task whose needed update has a known rank of up to 64: which of `rank` coordinates is the largest?

The teacher is that of `experiments.teacher` with other labels. Those had 2^rank classes, the signs of the coordinates;
these have rank + 1: the coordinate that is the largest, or the first class where none is above a threshold. Every class
has a direction of its own, and the threshold needs their sum, so an update of rank k < rank confuses classes.

Each coordinate is a mixture of all `rank` input directions, by a rotation that is drawn once, so that no class is read
off one direction of the input and the classes are of like size. The models have no dropout: the layers below the
planted matrix are not trained, and it would only blur what they give, which takes twice as many steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from experiments.teacher import (
    STRENGTH,
    Coordinates,
    Features,
    bert,
    features,
    norm_gain,
    normed,
    quiet,
    set_head,
    strong,
    write,
)  # fmt: skip
from lorax_lab.errors import ConfigError
from lorax_lab.models import Base
from lorax_lab.record.files import save_tensors
from lorax_lab.streams import generator

MOST = 64
CLEAR = 0.3
"""A text is used if the largest coordinate is so many standard deviations above the next, and above the threshold; or
so many below the threshold."""
SLOPE = 0.25
"""The pooler gives tanh(SLOPE · coordinate), which is nearly straight where the largest of 64 coordinates lies."""
SHARPNESS = 20.0
"""Of a tanh in the logits: a text that is just clear has 1.5 nats between its class and the next."""
HALVINGS = 40


@dataclass(frozen=True)
class Level:
    """What is planted: an update of this rank, and the share of the labels that are drawn anew, from all classes alike.

    Raises:
        ConfigError: a rank or a share out of range.
    """

    rank: int
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= MOST:
            raise ConfigError(f"rank={self.rank} is not possible: 1 to {MOST}; type rank=8")
        if not 0 <= self.noise < 1:
            raise ConfigError(
                f"noise={self.noise} is not possible: a share of the labels, 0 ≤ noise < 1; for instance 0.1"
            )


def plant(
    folder: Path,
    model: str,
    texts: list[str],
    levels: Mapping[str, Level],
    on_done: Callable[[int, int], None] = lambda *_: None,
) -> str:
    """Write for each level `folder/<name>`, which is the base with the teacher's head, `<name>.csv`, text and label of
    the clear texts, and `<name>.safetensors`: `left` (out, rank) and `right` (in, rank) of ΔW = left · rightᵀ.

    The texts are read once, by the base. The planted matrix is followed by nothing but a sum and the norm, so each
    teacher's states follow from that.

    Returns:
        The name of the matrix that ΔW is planted in.

    Raises:
        ConfigError: the model is no BERT.
    """
    seen, matrix = None, ""
    for name, level in levels.items():
        base = bert(model, level.rank + 1)
        seen = seen or features(base, texts, lambda done: on_done(done, len(texts)))
        matrix = _plant(folder, name, base, seen, texts, level)
    return matrix


def _plant(folder: Path, name: str, base: Base, seen: Features, texts: list[str], level: Level) -> str:
    gain, rank = norm_gain(base), level.rank
    U, V = quiet(seen.sums, gain, rank), strong(seen.inputs, rank)
    left, right = _mixed(U * (STRENGTH * (seen.sums @ U).std(0))), V / (seen.inputs @ V).std(0)
    states = normed(base, seen.sums + seen.inputs @ right @ left.T)
    of = Coordinates.fitted(states, U / gain[:, None])
    standard = of.read(states)
    first = threshold(standard)
    labels, clear = labelled(standard, first)
    bias = torch.zeros(rank + 1)
    bias[0] = SHARPNESS * math.tanh(SLOPE * first)
    set_head(base.model, of, torch.cat([torch.zeros(1, rank), SHARPNESS * torch.eye(rank)]), bias, SLOPE)
    told = redrawn(labels, rank + 1, level.noise).tolist()
    rows = [(text, str(label)) for text, label, ok in zip(texts, told, clear.tolist(), strict=True) if ok]
    base.model.config.update({"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / f"{name}.safetensors", {"left": left, "right": right})
    return write(base, folder / name, folder / f"{name}.csv", rows)


def labelled(standard: Tensor, first: float) -> tuple[Tensor, Tensor]:
    """The class (n,) of coordinates (n, rank), 0 where none is above `first`, and whether it is clear (n,)."""
    every = torch.cat([torch.full((len(standard), 1), first, dtype=standard.dtype), standard], 1)
    largest, next_one = every.topk(2, 1).values.T
    return every.argmax(1), largest - next_one > CLEAR


def threshold(standard: Tensor) -> float:
    """The threshold at which the first class has its share, 1 / (rank + 1), of the clear texts. For one coordinate,
    where either class is a side of it, that is about the median."""
    low, high = float(standard.min()), float(standard.max())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        labels, clear = labelled(standard, middle)
        enough = int((clear & (labels == 0)).sum()) * (standard.shape[1] + 1) >= int(clear.sum())
        low, high = (low, middle) if enough else (middle, high)
    return (low + high) / 2


def redrawn(labels: Tensor, classes: int, noise: float) -> Tensor:
    """The labels, a share of them drawn anew from all classes."""
    stream = generator(0, f"wide_teacher/noise/{classes}")
    chosen = torch.rand(len(labels), generator=stream) < noise
    return torch.where(chosen, torch.randint(classes, labels.shape, generator=stream), labels)


def _mixed(directions: Tensor) -> Tensor:
    """The directions (out, rank), rotated among themselves."""
    rank = directions.shape[1]
    drawn = torch.randn(rank, rank, generator=generator(0, f"wide_teacher/mixture/{rank}"), dtype=torch.float64)
    return directions @ torch.linalg.qr(drawn).Q
