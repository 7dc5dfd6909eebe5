"""Load the frozen base with its tokenizer or other processor.

A model is a preset (`PRESETS`), a folder, or a Hugging Face id (`org/name`, `org/name@revision`), read in fp32 by the
class that the task needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lorax_lab.errors import ConfigError, first_line, in_short, is_out_of_memory
from lorax_lab.models.coverage import Census, census
from lorax_lab.models.files import PRESETS, PUBLIC_NAMES, model_sha256, quiet, resolve
from lorax_lab.models.fit import check_fit, check_values, refuse_infinite, refuse_misfits
from lorax_lab.models.matrices import shapes_of
from lorax_lab.models.settings import check_settings
from lorax_lab.models.weights import read_json, state_of
from lorax_lab.streams import global_stream

if TYPE_CHECKING:
    from transformers import PreTrainedModel


ALIGNED = 64
"""Bytes: memory is compared by its place in a cache line."""
UNBOUNDED = 10**9
"""Tokenizers without a bound of their own say a number far above this one."""


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
        head: settings of the model's configuration that shape the head, for instance `{"num_labels": 2}`.
        model_class: the auto-class of transformers that reads the model.
        processor_class: the auto-class of transformers that reads the tokenizer, or another processor.

    Raises:
        ConfigError: `name` is no preset, no folder and no hub id that can be reached from here; it is no model that
            these classes read; its weights are not those of its configuration, not finite, or change while they are
            read.
    """
    import transformers

    folder, processor = resolve(name), load_processor(name, processor_class)
    skeleton, state, sha256 = _skeleton(name, model_class), state_of(folder), model_sha256(name)
    check_base(name, head, model_class)
    with _readable(name, folder, model_class), global_stream(seed, "init"), quiet():
        model, loading = getattr(transformers, model_class).from_pretrained(
            folder,
            dtype=torch.float32,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **head,
        )
    refuse_misfits(name, folder, model, loading)
    _leave_the_file(model)
    if state_of(folder) != state:
        raise ConfigError(
            f"model={name}: its files in {folder} changed while they were read; try again once they are written"
        )
    _refuse_infinite(name, folder, model)
    _keep_fixed(model, skeleton)
    if (tokenizer := _tokenizer(processor)) is not None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return Base(model, processor, PUBLIC_NAMES.get(name, _public_name(name)), sha256)


def check_base(
    name: str,
    head: Mapping[str, Any],
    model_class: str = "AutoModelForSequenceClassification",
    values: bool = False,
) -> list[str]:
    """Refuse a checkpoint that is not the base which its configuration says, from the files' headers alone.

    Args:
        values: read the tensors' data too, and refuse nan and inf; a preset's are known.

    Returns:
        The labels of the checkpoint's own head, from which training starts; empty where a head is drawn at random.

    Raises:
        ConfigError: as `load_base`; without `values`, but for what only the tensors' data shows.
    """
    folder, skeleton = resolve(name), _skeleton(name, model_class)
    with _readable(name, folder, model_class), quiet():
        own_head = check_fit(name, folder, skeleton, head)
        if values and name not in PRESETS:
            check_values(name, folder, skeleton, head)
        if not own_head:
            return []
        labels = read_json(name, folder / "config.json").get("id2label") or {}
    return [str(labels.get(str(i), f"LABEL_{i}")) for i in range(head.get("num_labels", 0))]


def _leave_the_file(model: nn.Module) -> None:
    """Copy each tensor that was read out of its file, which is mapped into memory: a file that is written again in its
    place would change the base in mid-training, or end the process.

    A copy lies as far from a multiple of 64 bytes as the tensor did, since kernels may round differently there."""
    for tensor in [*model.parameters(), *model.buffers()]:
        before = tensor.data_ptr() % ALIGNED // tensor.element_size()
        place = torch.empty(before + tensor.numel(), dtype=tensor.dtype)[before:].view(tensor.shape)
        tensor.data = place.copy_(tensor.detach())


def _refuse_infinite(name: str, folder: Path, model: nn.Module) -> None:
    ends = {key: torch.stack(tensor.detach().aminmax()) for key, tensor in model.named_parameters() if tensor.numel()}
    bad = [key for key, pair in ends.items() if not pair.isfinite().all()]  # nan is in both ends
    refuse_infinite(name, folder, bad)


@contextmanager
def _readable(name: str, folder: Path, auto_class: str) -> Iterator[None]:
    """What a library raises over files that it cannot read, as the user's fault; memory that runs out stays what it is.

    Raises:
        ConfigError: in place of any other error inside.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # the tokenizers and safetensors libraries have types of their own
        if is_out_of_memory(error):
            raise
        raise _unreadable(name, folder, auto_class, error) from error


def _keep_fixed(model: nn.Module, skeleton: nn.Module) -> None:
    """Freeze what the model's own class fixes, such as the sinusoids of Whisper's encoder: `from_pretrained` of
    transformers 5 forgets it."""
    fixed = {name for name, parameter in skeleton.named_parameters() if not parameter.requires_grad}
    for name, parameter in model.named_parameters():
        if name in fixed:
            parameter.requires_grad_(False)


def load_processor(name: str, processor_class: str) -> Any:
    """The tokenizer or other processor of the model `name`; a tokenizer pads with its end token where it has no token
    for padding.

    Raises:
        ConfigError: as `load_base`; a folder without a tokenizer's files, for which transformers makes an empty one.
    """
    import transformers

    folder = resolve(name)
    check_settings(name, folder)
    with _readable(name, folder, processor_class):
        processor = getattr(transformers, processor_class).from_pretrained(folder, trust_remote_code=False)
    tokenizer = _tokenizer(processor)
    if tokenizer is not None and set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):
        raise ConfigError(f"model={name} has no tokenizer in {folder}; save the tokenizer beside the model")
    if tokenizer is not None and tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return processor


def matrix_shapes(name: str, model_class: str = "AutoModelForSequenceClassification") -> dict[str, tuple[int, int]]:
    """`shapes_of` the model `name`, from its configuration alone: no weight is read or drawn.

    Raises:
        ConfigError: as `load_base`.
    """
    shapes = shapes_of(_skeleton(name, model_class))
    if not shapes:
        raise ConfigError(
            f"model={name} has no linear layer, so nothing of it is adapted or measured; name another model"
        )
    return shapes


def groups(name: str, names: tuple[str, ...], model_class: str = "AutoModelForSequenceClassification") -> Census:
    """`census` of the model `name`, from its configuration alone.

    Args:
        names: the matrices whose update is measured.

    Raises:
        ConfigError: as `load_base`.
    """
    return census(_skeleton(name, model_class), names)


def _skeleton(name: str, model_class: str) -> nn.Module:
    """The model without its weights, on the meta device."""
    folder = resolve(name)
    check_settings(name, folder)
    stat = (folder / "config.json").stat()
    return _built(name, folder, model_class, (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns))


@lru_cache(maxsize=2)
def _built(name: str, folder: Path, model_class: str, state: tuple[int, ...]) -> nn.Module:
    import transformers

    with _readable(name, folder, model_class), torch.device("meta"), quiet():
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        whole = getattr(config, "is_encoder_decoder", False)
        model: nn.Module = getattr(transformers, model_class).from_config(config, trust_remote_code=False)
    if _sees_ahead(model):
        encoder = f"model={name} is no causal language model: a {config.model_type} reads what it should predict"
        raise ConfigError(f"{encoder}; type model=smollm2, or name a model such as GPT-2 or Llama")
    if whole and not getattr(model.config, "is_encoder_decoder", True):
        half = f"model={name} is a {config.model_type}, whose decoder reads its encoder, and here there is none"
        raise ConfigError(f"{half}; type model=smollm2, or name a model such as GPT-2 or Llama")
    return model


CAUSAL = ("gpt_neox", "gpt_neox_japanese")


def _sees_ahead(model: Any) -> bool:
    """Whether a model that generates text from its own beginning was trained to see the text's end as well, as encoders
    are. GPT-NeoX's configuration does not say that it is a decoder, which it always is."""
    if model.config.model_type in CAUSAL:
        return False
    alone = model.can_generate() and not getattr(model.config, "is_encoder_decoder", False)
    return bool(alone and getattr(model.config, "is_decoder", True) is False)


def vocabulary(name: str, model_class: str = "AutoModelForSequenceClassification") -> int | None:
    """How many tokens the model `name` knows: the rows of its embedding. None where it reads no tokens."""
    model: Any = _skeleton(name, model_class)
    embedding = model.get_input_embeddings()
    return embedding.num_embeddings if isinstance(embedding, nn.Embedding) else None


def most_tokens(name: str, processor: Any, model_class: str = "AutoModelForSequenceClassification") -> int | None:
    """How many tokens the model `name` reads or writes of one input: its positions, or fewer if its tokenizer says so;
    None where neither bounds them. RoBERTa and its kin count positions from after that of padding."""
    model: Any = _skeleton(name, model_class)
    config = model.config
    unused = [
        module.padding_idx + 1
        for key, module in model.named_modules()
        if key.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
    ]
    positions = getattr(config, "max_position_embeddings", None)
    limits = [
        positions - max(unused, default=0) if isinstance(positions, int) else None,
        getattr(config, "max_target_positions", None),
        getattr(_tokenizer(processor), "model_max_length", None),
    ]
    known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < UNBOUNDED]
    return min(known, default=None)


def _unreadable(name: str, folder: Path, auto_class: str, error: Exception) -> ConfigError:
    """Why a model or processor cannot be read; transformers lists every type that the auto-class reads."""
    if "Unrecognized configuration class" in str(error):
        kind = auto_class.removeprefix("AutoModelFor")
        unfit = f"model={name} is no model that transformers can read for this kind of task ({kind})"
        return ConfigError(f"{unfit}; name another model, or another task.kind")
    if auto_class == "AutoImageProcessor":
        missing = f"model={name} has no image processor that can be read in {folder} ({first_line(error)})"
        return ConfigError(f"{missing}; save it beside the model, as preprocessor_config.json")
    first = first_line(error)
    problem = in_short(error, 300) if first.endswith(":") else first
    instead = "save it again with save_pretrained, or name another model"
    return ConfigError(f"model={name} cannot be read from {folder} ({type(error).__name__}): {problem}; {instead}")


def _tokenizer(processor: Any) -> Any:
    """A processor's tokenizer, which may be itself; None where it reads no text."""
    tokenizer = getattr(processor, "tokenizer", processor)
    return tokenizer if hasattr(tokenizer, "pad_token") else None


def _public_name(name: str) -> str:
    return Path(name).name if Path(name).expanduser().is_dir() else name
