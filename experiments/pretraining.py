"""Does pretraining make the update low, or training? One architecture as four bases, and each is fine-tuned alike.

A base is pretrained, or each of its matrices is replaced: by its own entries in random places, by Gaussian entries of
the same standard deviation, or by U S Vᵀ with its own singular values and random directions. Embeddings, norms and
biases stay as pretrained in all four, and no arm trains them. So the bases differ in nothing but the matrices whose
update is asked for, and full fine-tuning trains just these and the head. A base of random embeddings too would ask
another question, what the words' vectors do, and takes a quarter more runs; the study may grow by it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from experiments.planted import headlines
from experiments.planted_everywhere import gaussian
from experiments.rank_sweep_2 import EACH, HEADLINES, masked
from experiments.rank_sweep_3 import LOWEST_OF_FULL, LOWEST_OF_LORA, subspace, tasks_of_the_third_edition
from experiments.study import FULL, Plan, full, local, lora
from experiments.teacher import bert, write_table
from lorax_lab.data.assets import cache_folder
from lorax_lab.models import select
from lorax_lab.record.files import write_json
from lorax_lab.spectra import random_directions
from lorax_lab.streams import generator
from lorax_lab.study.protocol import Protocol

MODEL, SEED = "minilm", 0
RANKS, DIMENSIONS = (1, 4, 16), (10_000, 100_000, 1_000_000)


def shuffled(weight: Tensor, stream: Generator) -> Tensor:
    """The same entries (out, in), each in a random place."""
    return weight.flatten()[torch.randperm(weight.numel(), generator=stream)].view_as(weight)


def random(weight: Tensor, stream: Generator) -> Tensor:
    """Gaussian entries (out, in) of mean 0, with the standard deviation of the weight's."""
    return weight.std() * gaussian(stream, *weight.shape)


def turned(weight: Tensor, stream: Generator) -> Tensor:
    """U S Vᵀ (out, in) with the weight's singular values S, and with U and V drawn uniformly (Haar)."""
    U, V = (random_directions(side, min(weight.shape), stream) for side in weight.shape)
    return U * torch.linalg.svdvals(weight) @ V.T


CHANGES: Mapping[str, Callable[[Tensor, Generator], Tensor]] = {
    "shuffled": shuffled,
    "random": random,
    "spectrum kept": turned,
}
"""What takes the place of each matrix W0 (out, in), fp64, in the bases that are not pretrained."""


def plan() -> Plan:
    return plan_of_bases(bases(), prepare)


def plan_of_bases(bases: Mapping[str, tuple[str, ...]], prepare: Callable[[], None]) -> Plan:
    """A grid of bases. Full fine-tuning trains what LoRA and the subspaces change, and no embedding, norm or bias."""
    arms = [full(LOWEST_OF_FULL, "method.others=false"), *(lora(rank, LOWEST_OF_LORA) for rank in RANKS)]
    arms += [subspace(dimension) for dimension in DIMENSIONS]
    return Plan(
        protocol=Protocol(tuple(arms), factor=3.0, extensions=1, final_seeds=(0, 1, 2, 3, 4)),
        factors={"base": dict(bases), "task": tasks()},
        common=("task.pooling=mean", "train.precision=fp32", "train.validations=1"),
        final={FULL: ("measure=test_cuts",)},
        figures=("bases", "answer", "spectral", "trials"),
        prepare=prepare,
    )


def bases() -> dict[str, tuple[str, ...]]:
    """Overrides by base, the pretrained one first, with which the others are compared."""
    changed: dict[str, tuple[str, ...]] = {name: (f"model={folder_of(name)}",) for name in CHANGES}
    return {"pretrained": (f"model={MODEL}",)} | changed


def tasks() -> dict[str, tuple[str, ...]]:
    """Overrides by task: one of the third edition, with other examples, as that one's scores are known, and one of 24
    classes that needs no knowledge of language."""
    sizes = ("task.train_examples=1600", "task.validation_examples=500", "task.test_examples=1000", "train.epochs=2")
    return {
        "sarcasm": (*tasks_of_the_third_edition()["sarcasm"], "task.split_seed=1"),
        "spotted": (*local(spotted_table()), "task.name=spotted", *sizes),
    }


def spotted_table() -> Path:
    """Where the headlines of cloze stand with their word in its place, which is the class."""
    return cache_folder() / "spotted.csv"


def folder_of(base: str) -> Path:
    """Where a base that is not pretrained is kept."""
    return cache_folder() / "pretraining" / base.replace(" ", "-")


def prepare() -> None:
    """Write the table and the bases that are not there."""
    write_spotted()
    for base in CHANGES:
        if not (folder_of(base) / "model.safetensors").is_file():  # the last file that is written
            print(f"making the base {base}, in {folder_of(base)}", flush=True)
            write_base(folder_of(base), base)


def write_spotted() -> None:
    """Write the table, if it is not there."""
    if not spotted_table().is_file():
        rows = masked(headlines(HEADLINES), EACH)
        write_table(spotted_table(), [(text.replace("[MASK]", word), word) for text, word in rows])


def write_base(folder: Path, base: str, model: str = MODEL) -> None:
    """Write `folder`: the model with its matrices changed, all else as pretrained, and in `made_from.json` of what and
    how it was made."""
    made = bert(model, 2)
    body: Any = made.model.base_model
    with torch.no_grad():
        for name in select(made.model, ["all-linear"]):
            weight = made.model.get_parameter(f"{name}.weight")
            weight.copy_(CHANGES[base](weight.double(), generator(SEED, f"pretraining/{base}/{name}")))
    made_from = {"model": made.name, "sha256": made.sha256, "matrices": base, "seed": SEED}
    write_json(folder / "made_from.json", made_from)
    made.processor.save_pretrained(folder)
    body.save_pretrained(folder)
