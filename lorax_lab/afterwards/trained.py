"""A trained run's update, read from its files, its base, and the factors of a LoRA as they were drawn."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import Tensor, nn

from lorax_lab.config import RunConfig
from lorax_lab.methods import METHODS
from lorax_lab.methods.lora_layer import lora_layers
from lorax_lab.models import base_weights, load_base, select
from lorax_lab.record.folder import check_file
from lorax_lab.spectra import Update
from lorax_lab.streams import generator
from lorax_lab.tasks import KINDS

LORA = "lora"


@dataclass(frozen=True, eq=False)
class Run:
    """A completed run: its configuration and its folder."""

    config: RunConfig
    folder: Path


Runs = Mapping[tuple[str, int], Run]
"""The completed final runs of one condition, by arm and seed."""


def original(run: Run) -> dict[str, Tensor]:
    """W0 of each matrix that the run adapts or measures, (out, in), fp32."""
    model = _body(run)
    return base_weights(model, select(model, run.config.method.target_modules))


def updates(run: Run) -> Mapping[str, Update]:
    """ΔW of each matrix that the run adapts or measures, (out, in).

    Raises:
        DamagedRecord: its file is not what the record says. FileNotFoundError: it is gone.
    """
    method = METHODS[run.config.method.name]
    check_file(run.folder, method.weights)
    return method.saved_updates(run.folder, _body(run), original(run))


def initial_factors(run: Run) -> dict[str, Tensor]:
    """A of each matrix as a LoRA run drew it, (rank, in), fp32: the method is attached to the base again, with the
    run's own stream of random numbers."""
    assert run.config.method.name == LORA, "only LoRA draws a factor A"
    model = copy.deepcopy(_body(run))
    names = select(model, run.config.method.target_modules)
    METHODS[LORA].attach(model, names, run.config.method, run.config.rank, generator(run.config.seed, "adapter"))
    return {name: layer.lora_A.detach().clone() for name, layer in lora_layers(model).items()}


def _body(run: Run) -> nn.Module:
    """The run's bare base; its head is any."""
    kind = KINDS[run.config.task.kind]
    return _loaded(run.config.model, kind.model_class, kind.processor_class)


@lru_cache(maxsize=2)
def _loaded(model: str, model_class: str, processor_class: str) -> nn.Module:
    return load_base(model, {}, 0, model_class, processor_class).model
