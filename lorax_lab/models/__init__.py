"""Load the frozen base and its tokenizer; name the matrices that can be adapted and the head.

A model is a preset (`PRESETS`), a folder, or a Hugging Face id (`org/name`, `org/name@revision`), read as a
sequence classifier in fp32. GPT-2's `Conv1D` stores its weight (in, out): `out_in` is the one place that knows
it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lorax_lab.errors import ConfigError, suggest
from lorax_lab.models.files import PRESETS, PUBLIC_NAMES, first_line, model_sha256, quiet, resolve
from lorax_lab.streams import global_stream

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "PRESETS",
    "Base",
    "adaptable",
    "base_weights",
    "choose",
    "delta_view",
    "freeze_head",
    "head_modules",
    "head_sha256",
    "is_head",
    "layer_number",
    "load_base",
    "matrix_shapes",
    "model_sha256",
    "out_in",
    "resolve",
    "select",
    "shape_of",
    "shapes_of",
    "short_name",
]

POOLER = "pooler"


@dataclass
class Base:
    """A pretrained model with a fresh head, its tokenizer, and its public name."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str


def load_base(name: str, num_labels: int, regression: bool, seed: int) -> Base:
    """The pretrained model in fp32 with a head of `num_labels` outputs drawn from the run's `init` stream.

    Raises:
        ConfigError: `name` is no preset, no folder and no hub id that can be reached from here.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = resolve(name)
    problem = "regression" if regression else "single_label_classification"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        with global_stream(seed, "init"), quiet():
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, num_labels=num_labels, problem_type=problem, dtype=torch.float32, trust_remote_code=False
            )
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        what = f"model={name} has a head of its own that does not fit the {num_labels} outputs of the task"
        raise ConfigError(f"{what}; name a model without a head, or a task with as many classes as it has") from None
    except (OSError, ValueError, KeyError, UnpicklingError, SafetensorError) as error:
        raise ConfigError(f"model={name} cannot be read from {folder}: {first_line(error)}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return Base(model, tokenizer, PUBLIC_NAMES.get(name, _public_name(name)))


def _public_name(name: str) -> str:
    return Path(name).name if Path(name).expanduser().is_dir() else name


@lru_cache(maxsize=8)
def matrix_shapes(name: str) -> dict[str, tuple[int, int]]:
    """`shapes_of` the model `name`, from its configuration alone: no weight is read or drawn.

    Raises:
        ConfigError: as `load_base`.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folder = resolve(name)
    try:
        with torch.device("meta"), quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            return shapes_of(AutoModelForSequenceClassification.from_config(config, trust_remote_code=False))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"model={name} cannot be read from {folder}: {first_line(error)}") from error


def head_modules(model: nn.Module) -> list[str]:
    """Names of the modules that belong to the head: all beside the pretrained body, and the pooler, which
    sentence encoders are not trained with. Both arms train them alike."""
    body = getattr(model, "base_model_prefix", "")
    beside = [name for name, _ in model.named_children() if name != body]
    inside = [f"{body}.{name}" for name, _ in getattr(model, body, nn.Module()).named_children() if name == POOLER]
    return [name for name in beside + inside if any(True for _ in model.get_submodule(name).parameters())]


def freeze_head(model: nn.Module) -> None:
    """Keep the head as it is: it is read, and not trained."""
    for name in head_modules(model):
        model.get_submodule(name).requires_grad_(False)


def head_sha256(model: nn.Module) -> str:
    """What identifies the head's values: SHA-256 over the names, shapes and bytes of its parameters."""
    digest, heads = hashlib.sha256(), head_modules(model)
    for name, parameter in model.named_parameters():
        if is_head(name, heads):
            digest.update(f"{name}{tuple(parameter.shape)}".encode() + parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def is_head(parameter: str, heads: list[str]) -> bool:
    """Whether a parameter's dotted name lies in one of the head's modules."""
    return any(parameter.startswith(f"{head}.") for head in heads)


def adaptable(model: nn.Module) -> dict[str, nn.Module]:
    """The weight matrices an update is measured on: every linear module of the body, by dotted name."""
    heads = head_modules(model)
    return {
        name: module for name, module in model.named_modules() if _is_linear(module) and not is_head(f"{name}.", heads)
    }


def shapes_of(model: nn.Module) -> dict[str, tuple[int, int]]:
    """(out, in) of each adaptable matrix of a bare model, by dotted name."""
    return {name: shape_of(module) for name, module in adaptable(model).items()}


def shape_of(module: nn.Module) -> tuple[int, int]:
    """(out, in) of a linear module."""
    rows, columns = delta_view(module).shape
    return rows, columns


def select(model: nn.Module, targets: list[str]) -> list[str]:
    """`choose` among the adaptable matrices of a model."""
    return choose(list(adaptable(model)), targets)


def choose(names: list[str], targets: list[str]) -> list[str]:
    """Those of the matrices' dotted names that `targets` name: `all-linear`, or last parts of the names
    (`query`, `attention.output.dense`).

    Raises:
        ConfigError: a target that matches nothing; the nearest names are listed.
    """
    if targets == ["all-linear"]:
        return names
    chosen = {target: [n for n in names if n == target or n.endswith(f".{target}")] for target in targets}
    for target, matches in chosen.items():
        if not matches:
            ends = [e for n in names for e in (n.rpartition(".")[2], short_name(n))]
            known = tuple(dict.fromkeys(ends))
            raise ConfigError(
                f"method.target_modules={target} matches no matrix of the model; {suggest(target, known)}, "
                "or all-linear"
            )
    return [name for name in names if any(name in matches for matches in chosen.values())]


def short_name(name: str) -> str:
    """A matrix's type within its layer: what follows the layer's number.

    >>> short_name("bert.encoder.layer.3.attention.output.dense")
    'attention.output.dense'
    """
    parts = name.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[numbers[-1] + 1 :]) if numbers else name


def layer_number(name: str) -> int | None:
    """The depth of a matrix: the last number in its dotted name, None where there is none."""
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    return numbers[-1] if numbers else None


def _is_linear(module: Any) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def out_in(module: nn.Module, weight: Tensor) -> Tensor:
    """A weight stored the way `module` stores it, seen as (out, in): GPT-2's `Conv1D` keeps (in, out)."""
    assert weight.ndim == 2, f"a linear module has a 2-D weight, not {tuple(weight.shape)}"
    return weight.t() if type(module).__name__ == "Conv1D" else weight


def delta_view(module: nn.Module) -> Tensor:
    """The module's weight seen as (out, in), whatever way it is stored; a view, so it can be written to."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return out_in(module, weight)


def base_weights(model: nn.Module, names: list[str]) -> dict[str, Tensor]:
    """Copies of the named weights W0, each (out, in), fp32, on the CPU."""
    return {name: delta_view(model.get_submodule(name)).detach().cpu().clone() for name in names}
