"""A task whose needed update has a known rank: labels from a teacher that is the real base with a planted ΔW.

The teacher's ΔW = Σ s_i u_i v_iᵀ lies in the matrix that leads out of the last feed-forward block. Its classes are the
signs of `rank` coordinates of the first token's state, 2^rank of them, so that every direction carries one bit of the
label. The v_i are the directions in which that matrix's inputs vary most. The u_i are those in which the sum before the
output's norm varies least; a coordinate is that sum along u_i, normed. The head that reads the coordinates is part of
the model's files and must be kept (`train.head=false`). Through it an update of rank k can carry k bits.

For ranks up to 64 the classes are rank + 1: the coordinate that is the largest, or the first class where none is above
a threshold. Every class has a direction of its own, and the threshold needs their sum, so an update of rank k < rank
confuses classes. Each coordinate is a mixture of all `rank` input directions, by a rotation that is drawn once, so that
no class is read off one direction of the input and the classes are of like size. These models have no dropout: the
layers below the planted matrix are not trained, and it would only blur what they give, which takes twice as many steps.
"""

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from lorax_lab.console import bar
from lorax_lab.data.source import Example
from lorax_lab.models import Base, load_base
from lorax_lab.record.files import save_tensors
from lorax_lab.streams import generator
from lorax_lab.tasks import KINDS
from lorax_lab.tasks.greedy import pad
from lorax_lab.tasks.text import tokenize

MATRIX = "encoder.layer.{layer}.output.dense"
BATCH, MAX_LENGTH = 64, 128
STRENGTH = 12.0
"""Standard deviation of what ΔW adds along a u, in units of the standard deviation without ΔW."""
CLEAR = 0.3
"""A text is used if each of its coordinates is at least this many standard deviations from the boundary. Where the
largest decides, it has to be so far above the next and the threshold, or so far below the threshold."""
LIVE = 0.1
"""The norm switches a coordinate off if its gain is below this share of the median gain."""
SHARPNESS = 2.0
"""A coordinate of one standard deviation adds this to a class's logit in the head."""
SLOPE = 0.25
"""The pooler gives tanh(SLOPE · coordinate), which is nearly straight where the largest of 64 coordinates lies."""
WIDE_SHARPNESS = 20.0
"""Of a tanh in the logits: a text that is just clear has 1.5 nats between its class and the next."""
HALVINGS = 40


def plant_signs(folder: Path, model: str, texts: list[str], rank: int) -> None:
    """Write `folder/model` (the base, a BERT, with the teacher's head), `folder/data.csv` (text and label of the clear
    texts; at rank 4 3,000 of 10,000) and `folder/teacher.safetensors` (U (out, rank), scale (rank,), V (in, rank)).
    """
    base = bert(model, 2**rank)
    seen = features(base, texts)
    U, V = quiet(seen.sums, norm_gain(base), rank), strong(seen.inputs, rank)
    scale = STRENGTH * (seen.sums @ U).std(0) / (seen.inputs @ V).std(0)
    dense = _last(base).dense
    weight = dense.weight.detach().clone()
    with torch.no_grad():
        dense.weight += ((U * scale) @ V.T).float()
        states = features(base, texts).states
        dense.weight.copy_(weight)
    coordinates = Coordinates.fitted(states, U / norm_gain(base)[:, None])
    standard = coordinates.read(states)
    labels = ((standard > 0).long() * 2 ** torch.arange(rank)).sum(1)
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=rank))).flip(1)
    set_head(base.model, coordinates, SHARPNESS * signs, torch.zeros(2**rank))
    save_tensors(folder / "teacher.safetensors", {"U": U, "scale": scale, "V": V})
    keep(base, folder / "model")
    write_clear(folder / "data.csv", texts, labels, (standard.abs() > CLEAR).all(1))


def bert(model: str, classes: int) -> Base:
    """A BERT with a head of so many classes."""
    return load_base(model, KINDS["classification"].head([str(number) for number in range(classes)]), 0)


def keep(base: Base, folder: Path) -> None:
    """Write a model and its tokenizer; the weights come last."""
    base.processor.save_pretrained(folder)
    base.model.save_pretrained(folder)


def write_clear(table: Path, texts: list[str], labels: Tensor, clear: Tensor) -> None:
    """Write the table of the clear texts."""
    rows = zip(texts, labels.tolist(), clear.tolist(), strict=True)
    write_table(table, [(text, str(label)) for text, label, is_clear in rows if is_clear])


def write_table(path: Path, rows: list[tuple[str, str]]) -> None:
    """A table of texts and labels for `task=local`, with the columns `text` and `label`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("text", "label"), *rows])


@dataclass(frozen=True)
class Features:
    """Features of each text's first token, fp64: the inputs of the planted matrix (n, in); the sums of its outputs and
    the residual (n, out); and the encoder's output, which is the sum normed (n, out)."""

    inputs: Tensor
    sums: Tensor
    states: Tensor


def _last(base: Base) -> Any:
    """The end of the last feed-forward block: the planted matrix, `dense`, and the norm after it."""
    body: Any = base.model.base_model
    return body.encoder.layer[-1].output


def batches(base: Base, texts: list[str]) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Batches of texts of like length, each with the places of its texts."""
    rows = tokenize(base.processor, [Example({"text": text}, 0) for text in texts], MAX_LENGTH)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        yield chosen, pad(base.processor, [rows[i] for i in chosen])


@torch.inference_mode()
def features(base: Base, texts: list[str]) -> Features:
    """What the base gives for each text, under a bar."""
    model: Any = base.model.eval()
    block = _last(base)
    seen: dict[str, list[Tensor]] = {"inputs": [], "sums": [], "states": []}

    def first_token(name: str) -> Callable[..., None]:
        return lambda _, inputs, __: seen[name].append(inputs[0][:, 0].double())

    modules = {"inputs": block.dense, "sums": block.LayerNorm}
    hooks = [module.register_forward_hook(first_token(name)) for name, module in modules.items()]
    order = list[int]()
    with bar("labelling") as on_done:
        for chosen, batch in batches(base, texts):
            seen["states"].append(model.bert(**batch).last_hidden_state[:, 0].double())
            order += chosen
            on_done(len(order), len(texts))
    for hook in hooks:
        hook.remove()
    back = torch.tensor(order).argsort()
    return Features(**{name: torch.cat(parts)[back] for name, parts in seen.items()})


@torch.no_grad()
def normed(base: Base, sums: Tensor) -> Tensor:
    """The encoder's output (n, out) for sums of the planted matrix's output and the residual (n, out), fp64."""
    norm = _last(base).LayerNorm
    return layer_norm(sums, norm.normalized_shape, norm.weight.double(), norm.bias.double(), norm.eps)


def strong(inputs: Tensor, rank: int) -> Tensor:
    """Orthonormal directions (in, rank) in which the inputs vary most, among those without a mean. So ΔW shifts no
    state on average."""
    x, mean = inputs - inputs.mean(0), inputs.mean(0) / inputs.mean(0).norm()
    inside = x - (x @ mean)[:, None] * mean
    return torch.linalg.eigh(inside.T @ inside).eigenvectors[:, -rank:].flip(1).contiguous()


def norm_gain(base: Base) -> Tensor:
    """The last norm's gain by coordinate. It is infinite where the norm switches the coordinate off, so that nothing is
    read there."""
    weight = _last(base).LayerNorm.weight.detach().double()
    return torch.where(weight.abs() > LIVE * weight.abs().median(), weight, torch.inf)


def quiet(sums: Tensor, gain: Tensor, rank: int) -> Tensor:
    """Orthonormal directions (out, rank) in which the sums vary least, without the constant one, which the norm
    removes, and without the coordinates that the norm's gain switches off."""
    live = gain.isfinite()
    x = (sums - sums.mean(0)) * live
    x = x - x.sum(1, keepdim=True) / live.sum() * live
    vectors = torch.linalg.eigh(x.T @ x).eigenvectors
    dead = len(gain) - int(live.sum())
    return vectors[:, dead + 1 : dead + 1 + rank].contiguous()


@dataclass(frozen=True)
class Coordinates:
    """What the head reads: (state · reading − centre) / spread, the reading (out, rank), the others (rank,)."""

    reading: Tensor
    centre: Tensor
    spread: Tensor

    @classmethod
    def fitted(cls, states: Tensor, reading: Tensor) -> "Coordinates":
        """Those of median 0 and standard deviation 1."""
        raw = states @ reading
        return cls(reading, raw.median(0).values, raw.std(0))

    def read(self, states: Tensor) -> Tensor:
        """The coordinates (n, rank) of states (n, out)."""
        return (states @ self.reading - self.centre) / self.spread


@torch.no_grad()
def set_head(model: Any, coordinates: Coordinates, weight: Tensor, bias: Tensor, slope: float = 1.0) -> None:
    """The pooler gives tanh(slope · coordinate), and after these what it was drawn with. The classifier reads them by
    `weight` (classes, rank) and `bias` (classes,)."""
    rank = len(coordinates.centre)
    model.bert.pooler.dense.weight[:rank] = (slope * (coordinates.reading / coordinates.spread)).T.float()
    model.bert.pooler.dense.bias[:rank] = (slope * (-coordinates.centre / coordinates.spread)).float()
    model.classifier.weight.zero_()
    model.classifier.weight[:, :rank] = weight
    model.classifier.bias.copy_(bias)


class Level(NamedTuple):
    """What is planted: an update of this rank, up to 64, and the share of the labels that are drawn anew, from all
    classes alike."""

    rank: int
    noise: float = 0.0


def plant_largest(folder: Path, model: str, texts: list[str], levels: Mapping[str, Level]) -> None:
    """Write for each level `folder/<name>`, which is the base with the teacher's head, `<name>.csv`, text and label of
    the clear texts, and `<name>.safetensors`: `left` (out, rank) and `right` (in, rank) of ΔW = left · rightᵀ.

    The texts are read once, by the base. The planted matrix is followed by nothing but a sum and the norm, so each
    teacher's states follow from that.
    """
    seen = None
    for name, level in levels.items():
        base = bert(model, level.rank + 1)
        seen = seen or features(base, texts)
        _plant_level(folder / name, base, seen, texts, level)


def _plant_level(place: Path, base: Base, seen: Features, texts: list[str], level: Level) -> None:
    gain, rank = norm_gain(base), level.rank
    U, V = quiet(seen.sums, gain, rank), strong(seen.inputs, rank)
    left, right = _mixed(U * (STRENGTH * (seen.sums @ U).std(0))), V / (seen.inputs @ V).std(0)
    states = normed(base, seen.sums + seen.inputs @ right @ left.T)
    coordinates = Coordinates.fitted(states, U / gain[:, None])
    standard = coordinates.read(states)
    first = threshold(standard)
    labels, clear = labelled(standard, first)
    bias = torch.zeros(rank + 1)
    bias[0] = WIDE_SHARPNESS * math.tanh(SLOPE * first)
    set_head(base.model, coordinates, torch.cat([torch.zeros(1, rank), WIDE_SHARPNESS * torch.eye(rank)]), bias, SLOPE)
    base.model.config.update({"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    save_tensors(place.with_suffix(".safetensors"), {"left": left, "right": right})
    keep(base, place)
    write_clear(place.with_suffix(".csv"), texts, redrawn(labels, rank + 1, level.noise), clear)


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
