"""A task whose needed update has a known rank: labels from a teacher that is the real base with a planted ΔW.

The teacher's ΔW = Σ s_i u_i v_iᵀ lies in the matrix that leads out of the last feed-forward block. Its classes are the
signs of `rank` coordinates of the first token's state, 2^rank of them, so that every direction carries one bit of the
label. The v_i are the directions in which that matrix's inputs vary most. The u_i are those in which the sum before the
output's norm varies least; a coordinate is that sum along u_i, normed. The head that reads the coordinates is part of
the model's files and must be kept (`train.head=false`). Through it an update of rank k can carry k bits.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorax_lab.data.examples import Example
from lorax_lab.errors import ConfigError
from lorax_lab.models import Base, load_base
from lorax_lab.store.files import save_tensors
from lorax_lab.tasks.classification import head
from lorax_lab.tasks.text import collate, tokenize

MATRIX = "encoder.layer.{layer}.output.dense"
BATCH, MAX_LENGTH = 64, 128
STRENGTH = 12.0
"""Standard deviation of what ΔW adds along a u, in units of the standard deviation without ΔW."""
CLEAR = 0.3
"""A text is used if each of its coordinates is at least this many standard deviations from the boundary."""
LIVE = 0.1
"""The norm switches a coordinate off if its gain is below this share of the median gain."""
SHARPNESS = 2.0
"""A coordinate of one standard deviation adds this to a class's logit in the head."""


def plant(
    folder: Path, model: str, texts: list[str], rank: int, on_done: Callable[[int, int], None] = lambda *_: None
) -> str:
    """Write `folder/model` (the base with the teacher's head), `folder/data.csv` (text and label, of the clear texts)
    and `folder/teacher.safetensors` (U (out, rank), scale (rank,), V (in, rank)).

    Args:
        model: a BERT, by preset or folder.
        texts: to label, each once; some 10,000 leave 3,000 clear ones at rank 4.
        on_done: called with the number of texts read and in all.

    Returns:
        The name of the matrix that ΔW is planted in, for `method.target_modules`.

    Raises:
        ConfigError: a rank out of range, or a model that is no BERT.
    """
    if not 1 <= rank <= 8:
        raise ConfigError(f"rank={rank} is not possible: 1 to 8, since there are 2^rank classes; type rank=4")
    base: Base = load_base(model, head([str(number) for number in range(2**rank)]), 0)
    if base.model.config.model_type != "bert":
        raise ConfigError(f"model={model} is no BERT; type model=minilm")
    bert: Any = base.model.base_model
    block = bert.encoder.layer[-1].output
    seen = _features(base, texts, lambda done: on_done(done, 2 * len(texts)))
    gain = _gain(block.LayerNorm.weight.detach().double())
    U, V = _quiet(seen.sums, gain, rank), _strong(seen.inputs, rank)
    scale = STRENGTH * (seen.sums @ U).std(0) / (seen.inputs @ V).std(0)
    weight = block.dense.weight.detach().clone()
    with torch.no_grad():
        block.dense.weight += ((U * scale) @ V.T).float()
        taught = _features(base, texts, lambda done: on_done(len(texts) + done, 2 * len(texts))).states
        block.dense.weight.copy_(weight)
    reading = U / gain[:, None]
    coordinates = taught @ reading
    centre, spread = coordinates.median(0).values, coordinates.std(0)
    standard = (coordinates - centre) / spread
    labels = ((standard > 0).long() * 2 ** torch.arange(rank)).sum(1).tolist()
    clear = (standard.abs() > CLEAR).all(1).tolist()
    _set_head(base.model, reading, centre, spread)
    folder.mkdir(parents=True, exist_ok=True)
    base.model.save_pretrained(folder / "model")
    base.processor.save_pretrained(folder / "model")
    save_tensors(folder / "teacher.safetensors", {"U": U, "scale": scale, "V": V})
    write_table(folder / "data.csv", [(t, str(n)) for t, n, ok in zip(texts, labels, clear, strict=True) if ok])
    return MATRIX.format(layer=base.model.config.num_hidden_layers - 1)


def write_table(path: Path, rows: list[tuple[str, str]]) -> None:
    """A table of texts and labels for `task=local`, with the columns `text` and `label`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("text", "label"), *rows])


@dataclass(frozen=True)
class Features:
    """Features of each text's first token, fp64: the inputs of the planted matrix (n, in); the sums of its outputs and
    the residual (n, out); and the encoder's output, which is the sum normed (n, out)."""

    inputs: Tensor
    sums: Tensor
    states: Tensor


@torch.inference_mode()
def _features(base: Base, texts: list[str], on_done: Callable[[int], None]) -> Features:
    model: Any = base.model.eval()
    block = model.bert.encoder.layer[-1].output
    seen: dict[str, list[Tensor]] = {"inputs": [], "sums": [], "states": []}

    def keep(name: str) -> Callable[..., None]:
        return lambda _, inputs, __: seen[name].append(inputs[0][:, 0].double())

    hooks = [block.dense.register_forward_hook(keep("inputs")), block.LayerNorm.register_forward_hook(keep("sums"))]
    rows = tokenize(base.processor, [Example({"text": text}, 0) for text in texts], MAX_LENGTH)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        batch = collate(base.processor, [rows[i] for i in chosen], torch.zeros(len(chosen)))
        output = model.bert(**{key: value for key, value in batch.items() if key != "labels"})
        seen["states"].append(output.last_hidden_state[:, 0].double())
        on_done(start + len(chosen))
    for hook in hooks:
        hook.remove()
    back = torch.tensor(order).argsort()
    return Features(**{name: torch.cat(parts)[back] for name, parts in seen.items()})


def _strong(inputs: Tensor, rank: int) -> Tensor:
    """Orthonormal directions (in, rank) in which the inputs vary most, among those without a mean. So ΔW shifts no
    state on average."""
    x, mean = inputs - inputs.mean(0), inputs.mean(0) / inputs.mean(0).norm()
    inside = x - (x @ mean)[:, None] * mean
    return torch.linalg.eigh(inside.T @ inside).eigenvectors[:, -rank:].flip(1).contiguous()


def _gain(weight: Tensor) -> Tensor:
    """The norm's gain by coordinate. It is infinite where the norm switches the coordinate off, so that nothing is read
    there."""
    return torch.where(weight.abs() > LIVE * weight.abs().median(), weight, torch.inf)


def _quiet(sums: Tensor, gain: Tensor, rank: int) -> Tensor:
    """Orthonormal directions (out, rank) in which the sums vary least, without the constant one, which the norm
    removes, and without the coordinates that the norm's gain switches off."""
    live = gain.isfinite()
    x = (sums - sums.mean(0)) * live
    x = x - x.sum(1, keepdim=True) / live.sum() * live
    vectors = torch.linalg.eigh(x.T @ x).eigenvectors
    dead = len(gain) - int(live.sum())
    return vectors[:, dead + 1 : dead + 1 + rank].contiguous()


@torch.no_grad()
def _set_head(model: Any, reading: Tensor, centre: Tensor, spread: Tensor) -> None:
    """The pooler gives the standardized coordinates first, and what it was drawn with after them; the classifier has a
    row for each pattern of their signs, class by class."""
    rank = reading.shape[1]
    model.bert.pooler.dense.weight[:rank] = (reading / spread).T.float()
    model.bert.pooler.dense.bias[:rank] = (-centre / spread).float()
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=rank))).flip(1)
    model.classifier.weight.zero_()
    model.classifier.weight[:, :rank] = SHARPNESS * signs
    model.classifier.bias.zero_()
