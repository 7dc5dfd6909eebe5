"""Load the frozen base with its tokenizer or other processor.

A model is a preset (`PRESETS`), a folder, or a Hugging Face id (`org/name`, `org/name@revision`), read in fp32 by the
class that the task needs.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lorax_lab.data.assets import State
from lorax_lab.errors import ConfigError
from lorax_lab.models import files
from lorax_lab.models.files import PRESETS, PUBLIC_NAMES, model_sha256, quiet, read_base, resolve, states
from lorax_lab.models.matrices import POOLER, head_modules, is_head, output_layer
from lorax_lab.models.skeleton import check_settings, readable, tokenizer_of, without_weights
from lorax_lab.models.tensor_files import WEIGHT_DTYPES
from lorax_lab.streams import global_stream

if TYPE_CHECKING:
    from transformers import PreTrainedModel


SHOWN = 3
"""How many names a message lists."""
FORMER = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""Names of old checkpoints, which transformers reads as the new ones."""
PRETRAINING = ("mask_token",)
"""Parameters of a body that only its pretraining reads, so that a class for another task has no place for them."""
ALIGNED = 64
"""Bytes: memory is compared by its place in a cache line."""
BY_MEAN = "by_mean"
"""The key, among the settings of a head, for the one below."""
NAME = "classifier"


@dataclass
class Base:
    """A pretrained model with a fresh head, its tokenizer or other processor, its public name, and `model_sha256` of
    the files that it was read from."""

    model: PreTrainedModel
    processor: Any
    name: str
    sha256: str = ""


def load_base(
    name: str,
    head: Mapping[str, Any],
    seed: int,
    model_class: str = "AutoModelForSequenceClassification",
    processor_class: str = "AutoTokenizer",
) -> Base:
    """The pretrained model in fp32 with a head drawn from the run's `init` stream.

    Args:
        head: settings of the model's configuration that shape the head, for instance `{"num_labels": 2}`; with
            `"by_mean": True` the head reads the mean of the last layer.
        model_class, processor_class: transformers' auto-classes that read the model, and its tokenizer or the like.

    Raises:
        ConfigError: there is no such model here; it is none that these classes read; its weights are not those of its
            configuration, or not finite.
    """
    import transformers

    folder, processor = resolve(name), load_processor(name, processor_class)
    skeleton, sha256 = without_weights(name, model_class), model_sha256(name)
    check_base(name, head, model_class)
    with readable(name, folder, model_class), global_stream(seed, "init"), quiet():
        settings = {key: value for key, value in head.items() if key != BY_MEAN}
        kind = getattr(transformers, model_class)
        model = kind.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False, **settings)
        if head.get(BY_MEAN):
            read_mean(model)
    _leave_the_file(model)
    _refuse_infinite(name, folder, [key for key, tensor in model.named_parameters() if not files.is_finite(tensor)])
    for key, parameter in skeleton.named_parameters():
        if not parameter.requires_grad:  # such as the sinusoids of Whisper's encoder: transformers 5 forgets it here
            model.get_parameter(key).requires_grad_(False)
    if (tokenizer := tokenizer_of(processor)) is not None:
        model.config.pad_token_id = tokenizer.pad_token_id
    public_name = Path(name).name if os.path.isdir(os.path.expanduser(name)) else name
    return Base(model, processor, PUBLIC_NAMES.get(name, public_name), sha256)


def check_base(
    name: str, head: Mapping[str, Any], model_class: str = "AutoModelForSequenceClassification", values: bool = False
) -> bool:
    """Refuse a checkpoint that is not the base which its configuration says, from the files' headers alone; with
    `values` from the tensors' data too, where it is no preset's. A ConfigError as of `load_base`.

    Returns:
        Whether training starts from the checkpoint's own head, and none is drawn at random.
    """
    folder, skeleton = resolve(name), without_weights(name, model_class)
    if head.get(BY_MEAN):
        check_mean(name, skeleton)
    with readable(name, folder, model_class), quiet():
        own_head, parameters = _check_fit(name, folder, skeleton, tuple(sorted(head.items())), states(folder))
        if values and name not in PRESETS:
            bad = files.infinite(folder, states(folder))
            _refuse_infinite(name, folder, [key for key in parameters if key in bad])
    return bool(own_head) and not head.get(BY_MEAN)


def _leave_the_file(model: nn.Module) -> None:
    """Copy each tensor that was read out of its file, which is mapped into memory: a file that is written again would
    change the base in mid-training. A copy lies as far from a multiple of 64 bytes: kernels may round differently."""
    for tensor in [*model.parameters(), *model.buffers()]:
        before = tensor.data_ptr() % ALIGNED // tensor.element_size()
        place = torch.empty(before + tensor.numel(), dtype=tensor.dtype)[before:].view(tensor.shape)
        tensor.data = place.copy_(tensor.detach())


def load_processor(name: str, processor_class: str) -> Any:
    """The tokenizer or other processor of the model `name`; a tokenizer pads with its end token where it has no token
    for padding. A folder without a tokenizer's files is refused: transformers would make an empty one."""
    import transformers

    folder = resolve(name)
    check_settings(name, folder)
    with readable(name, folder, processor_class):
        processor = getattr(transformers, processor_class).from_pretrained(folder, trust_remote_code=False)
    tokenizer = tokenizer_of(processor)
    if tokenizer is not None and set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):
        raise ConfigError(f"model={name} has no tokenizer in {folder}; save the tokenizer beside the model")
    if tokenizer is not None and tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return processor


# ---- whether a checkpoint is the base that its configuration says
#
# What the task's class adds to the pretrained body is the head (`head_modules`, with the pooler), and may be missing;
# it is drawn anew. A tensor that the model has no place for may be another task's head, such as `cls.predictions`. A
# tensor of the body is neither.


@lru_cache(maxsize=16)
def _check_fit(
    name: str, folder: Path, skeleton: nn.Module, settings: tuple[tuple[str, Any], ...], of_files: tuple[State, ...]
) -> tuple[list[str], Sequence[str]]:
    """The modules of the checkpoint's own head, empty where a head is drawn, and the names of the tensors that become
    parameters. A ConfigError names the tensors that are not those of the configuration."""
    tensors = {key: tensor.to("meta") for key, tensor in read_base(name, folder).items()}
    model, loading = _placed(folder, skeleton, dict(settings), tensors)
    heads = head_modules(model)
    if fault := _twice(model, tensors) or _misshapen(model, loading["mismatched_keys"], heads):
        raise ConfigError(f"model={name}: {folder} {fault}")
    if fault := _misfits(model, loading, tensors, heads):
        raise ConfigError(
            f"model={name}: the weights in {folder} are not those of its config.json: {fault}. What is missing would "
            "be drawn at random; save the model again with save_pretrained, or name another folder"
        )
    own_head = [head for head in heads if head.rpartition(".")[2] != POOLER]
    if any(is_head(key, own_head) for key in loading["missing_keys"]):
        own_head = []
    buffers = [f".{buffer}" for buffer, _ in model.named_buffers()]  # files may name them without the body's prefix
    read = set(tensors) - set(loading["unexpected_keys"])
    return own_head, [key for key in tensors if key in read and not any(b.endswith(f".{key}") for b in buffers)]


def _refuse_infinite(name: str, folder: Path, bad: Sequence[str]) -> None:
    """Refuse tensors that have nan or inf inside: a ConfigError names the first, and how many there are."""
    if bad:
        several = f" and {len(bad) - 1} more tensors" if len(bad) > 1 else ""
        why = f"{bad[0]}{several} in {folder} has nan or inf inside, in fp32: a diverged or a damaged model"
        raise ConfigError(f"model={name}: {why}; name another folder")


def _placed(
    folder: Path, skeleton: nn.Module, settings: dict[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[nn.Module, dict[str, Any]]:
    """The model of the skeleton's class with the empty tensors in place, and what transformers says of the placing.
    Integers are left out: they would be cast to weights that they are not."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, **settings)
    weights = {key: tensor for key, tensor in tensors.items() if tensor.dtype in WEIGHT_DTYPES}
    model, loading = type(skeleton).from_pretrained(  # type: ignore[attr-defined]
        None, config=config, state_dict=weights, device_map="meta", dtype=torch.float32,
        ignore_mismatched_sizes=True, output_loading_info=True,
    )  # fmt: skip
    return model, loading


def _twice(model: nn.Module, keys: Collection[str]) -> str:
    """Whether a tensor of the model is there under two names: one of them would be read, and nobody says which."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    seen: dict[str, str] = {}
    for key in keys:
        plain = key.removeprefix(prefix)
        for old, new in FORMER.items():
            plain = f"{plain.removesuffix(old)}{new}" if plain.endswith(old) else plain
        if plain in seen:
            both = f"{seen[plain]} and {key}, which are one tensor of the model"
            return f"holds {both}; save the model again with save_pretrained"
        seen[plain] = key
    return ""


def _is_of_body(model: nn.Module, key: str) -> bool:
    """Whether a tensor that the model has no place for belongs to a body, and not to the head of another task: it lies
    in the body's module or beside its parts, or its name ends in that of a numbered layer's tensor."""
    prefix = getattr(model, "base_model_prefix", "")
    children = [child for child, _ in model.named_children()]
    has_body = prefix in children
    first, _, inside = key.partition(".")
    if has_body and first == prefix:
        return inside.partition(".")[0] != POOLER
    parts = [part for part, _ in model.get_submodule(prefix).named_children()] if has_body else children
    if first in parts and first not in (POOLER, None if has_body else output_layer(model)):
        return True
    places = key.split(".")
    ends = {".".join(places[i:]) for i in range(1, len(places)) if any(part.isdigit() for part in places[i:])}
    return any(name.removeprefix(f"{prefix}." if has_body else "") in ends for name, _ in model.named_parameters())


def _misfits(model: nn.Module, loading: Mapping[str, Any], tensors: Mapping[str, Tensor], heads: list[str]) -> str:
    """Which tensors of the body are missing or have no place, and which parts of a head that is there are missing."""
    floating = {key for key, tensor in model.state_dict().items() if tensor.is_floating_point()}
    missing = {key for key in loading["missing_keys"] if key in floating and not is_head(key, heads)}
    for head in heads:
        parts = {f"{head}.{key}" for key, _ in model.get_submodule(head).named_parameters()}
        absent = parts & set(loading["missing_keys"])
        missing |= absent if absent != parts else set()
    constants = {key for key, tensor in tensors.items() if tensor.dtype not in WEIGHT_DTYPES or not tensor.ndim}
    unplaced = [key for key in loading["unexpected_keys"] if key not in constants and not key.endswith(PRETRAINING)]
    extra = [key for key in unplaced if _is_of_body(model, key)]
    if not missing and not extra:
        return ""
    coded = [key for key, tensor in tensors.items() if tensor.dtype not in WEIGHT_DTYPES and tensor.ndim > 1]
    faults = {f"of its {len(floating)} tensors are missing": missing, "have no place in the model": extra}
    faults["are no floating-point numbers"] = coded
    return "; ".join(f"{_listed(keys)} {fault}" for fault, keys in faults.items() if keys)


def _misshapen(model: nn.Module, mismatched: Any, heads: list[str]) -> str:
    wrong = sorted(mismatched, key=lambda entry: (is_head(entry[0], heads), entry[0]))
    if not wrong:
        return ""
    key, stored, wanted = wrong[0]
    if is_head(key, heads):
        outputs = getattr(model.config, "num_labels", "")
        misfit = f"has a head of its own that does not fit the {outputs} outputs of the task"
        return f"{misfit}; name a model without a head, or a task with as many classes as it has"
    several = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    shapes = f"{key} is {tuple(stored)}, and {tuple(wanted)} by its config.json{several}"
    return f"holds other weights: {shapes}; correct config.json, or name another folder"


def _listed(keys: Collection[str]) -> str:
    names = ", ".join(sorted(keys)[:SHOWN]) + (", …" if len(keys) > SHOWN else "")
    return f"{len(keys)} ({names})"


# ---- a head that reads the mean over the tokens of the last layer, as sentence encoders are used: one linear layer.
# BERT's own has a pooler below it, a square matrix that no checkpoint holds.


class ByMean:
    """What a model with such a head does in place of its own `forward`."""

    def forward(self: Any, labels: Tensor | None = None, **inputs: Any) -> Any:
        """The loss, if there are labels, and the logits (n, num_labels)."""
        from transformers.modeling_outputs import SequenceClassifierOutput

        hidden = getattr(self, self.base_model_prefix)(**inputs).last_hidden_state  # (n, tokens, width)
        if "attention_mask" not in inputs:  # such as FNet's
            raise ConfigError("task.pooling=mean: the tokenizer makes no attention mask; type task.pooling=own")
        mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        logits = getattr(self, NAME)((hidden * mask).sum(1) / mask.sum(1))
        loss = None
        if labels is not None and self.config.problem_type == "regression":
            loss = nn.functional.mse_loss(logits.squeeze(-1), labels.to(logits.dtype))
        elif labels is not None:
            loss = nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def check_mean(name: str, model: Any) -> None:
    """Refuse a model without a last layer whose mean could be read: its body is no module, or has two halves."""
    body, width = getattr(model, model.base_model_prefix, None), getattr(model.config, "hidden_size", None)
    if body is None or width is None or getattr(model.config, "is_encoder_decoder", False):
        raise ConfigError(f"task.pooling=mean: model={name} has no body that ends in one layer; type task.pooling=own")


def read_mean(model: Any) -> None:
    """Put a linear layer over the mean in the place of the model's own head, in place, drawn as the model's other
    layers are."""
    for head in head_modules(model):
        parent, _, child = head.rpartition(".")
        if child == POOLER:
            setattr(model.get_submodule(parent), child, None)
        else:
            delattr(model.get_submodule(parent), child)
    layer = nn.Linear(model.config.hidden_size, model.config.num_labels)
    with torch.no_grad():
        layer.weight.normal_(std=getattr(model.config, "initializer_range", 0.02))
        layer.bias.zero_()
    model.add_module(NAME, layer)
    kind = type(model)
    model.__class__ = type(f"{kind.__name__}ByMean", (ByMean, kind), {"__module__": kind.__module__})
