"""Load the frozen base with its tokenizer or other processor.

A model is a preset (`PRESETS`), a folder, or a Hugging Face id (`org/name`, `org/name@revision`), read in fp32 by the
class that the task needs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lorax_lab.errors import ConfigError
from lorax_lab.models.files import PRESETS, PUBLIC_NAMES, infinite, is_finite, model_sha256, quiet, resolve
from lorax_lab.models.fit import check_fit, refuse_infinite
from lorax_lab.models.matrices import POOLER, head_modules
from lorax_lab.models.skeleton import check_settings, readable, tokenizer_of, without_weights
from lorax_lab.streams import global_stream

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
    refuse_infinite(name, folder, [key for key, tensor in model.named_parameters() if not is_finite(tensor)])
    _keep_fixed(model, skeleton)
    if (tokenizer := tokenizer_of(processor)) is not None:
        model.config.pad_token_id = tokenizer.pad_token_id
    public_name = Path(name).name if os.path.isdir(os.path.expanduser(name)) else name
    return Base(model, processor, PUBLIC_NAMES.get(name, public_name), sha256)


def check_base(
    name: str,
    head: Mapping[str, Any],
    model_class: str = "AutoModelForSequenceClassification",
    values: bool = False,
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
        pretrained_head, parameters = check_fit(name, folder, skeleton, head)
        if values and name not in PRESETS:
            refuse_infinite(name, folder, infinite(folder, parameters))
    return bool(pretrained_head) and not head.get(BY_MEAN)


def _leave_the_file(model: nn.Module) -> None:
    """Copy each tensor that was read out of its file, which is mapped into memory: a file that is written again would
    change the base in mid-training. A copy lies as far from a multiple of 64 bytes: kernels may round differently."""
    for tensor in [*model.parameters(), *model.buffers()]:
        before = tensor.data_ptr() % ALIGNED // tensor.element_size()
        place = torch.empty(before + tensor.numel(), dtype=tensor.dtype)[before:].view(tensor.shape)
        tensor.data = place.copy_(tensor.detach())


def _keep_fixed(model: nn.Module, skeleton: nn.Module) -> None:
    """Freeze what the model's own class fixes, such as the sinusoids of Whisper's encoder: `from_pretrained` of
    transformers 5 forgets it."""
    for name, parameter in skeleton.named_parameters():
        if not parameter.requires_grad:
            model.get_parameter(name).requires_grad_(False)


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


# ---- a head that reads the mean over the tokens of the last layer, as sentence encoders are used: one linear layer.
# BERT's own has a pooler below it, a square matrix that no checkpoint holds.


class ByMean:
    """What a model with such a head does in place of its own `forward`."""

    def forward(self: Any, labels: Tensor | None = None, **inputs: Any) -> Any:
        """The loss, if there are labels, and the logits (n, num_labels)."""
        from transformers.modeling_outputs import SequenceClassifierOutput

        hidden = getattr(self, self.base_model_prefix)(**inputs).last_hidden_state  # (n, tokens, width)
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
