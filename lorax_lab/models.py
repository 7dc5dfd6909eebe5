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
from lorax_lab.streams import global_stream

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PRESETS = ("minilm", "smollm2")
PUBLIC_NAMES = {
    "minilm": "sentence-transformers/all-MiniLM-L6-v2",
    "smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct",
}
POOLER = "pooler"
HASHED = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model")


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
        with global_stream(seed, "init"), _quiet():
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, num_labels=num_labels, problem_type=problem, dtype=torch.float32, trust_remote_code=False
            )
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        what = f"model={name} has a head of its own that does not fit the {num_labels} outputs of the task"
        raise ConfigError(f"{what}; name a model without a head, or a task with as many classes as it has") from None
    except (OSError, ValueError, KeyError, UnpicklingError, SafetensorError) as error:
        raise ConfigError(f"model={name} cannot be read from {folder}: {_first_line(error)}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return Base(model, tokenizer, PUBLIC_NAMES.get(name, _public_name(name)))


@lru_cache(maxsize=8)
def resolve(name: str) -> Path:
    """The folder that holds the files of the model `name`, fetched first where that is needed."""
    if name == "minilm":
        from lorax_lab.data.assets import fetch

        return fetch("minilm")
    if name == "smollm2":
        return _smollm2()
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(f"model={name}: the folder has no config.json; {_what_to_type()}")
        return folder
    return _from_hub(name)


@lru_cache(maxsize=8)
def model_sha256(name: str) -> str:
    """What identifies the model's weights, configuration and tokenizer: the pinned archive's SHA-256 for a
    preset (nothing is fetched), else the SHA-256 over the names and contents of the folder's files."""
    if name in PRESETS:
        from lorax_lab.data.assets import ASSETS

        return ASSETS[name].archive_sha256
    folder, digest = resolve(name), hashlib.sha256()
    for path in sorted(p for pattern in HASHED for p in folder.glob(pattern)):
        with path.open("rb") as file:
            digest.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo, _, revision = name.partition("@")
    if not name or repo.count("/") > 1 or name.startswith((".", "/", "~")):
        raise ConfigError(f"model={name}: there is no such folder; {_what_to_type(name)}")
    try:
        return Path(snapshot_download(repo, revision=revision or None, allow_patterns=list(HASHED)))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = _first_line(error)
        raise ConfigError(
            f"model={name} is no preset and no folder, and the hub did not give it ({reason}); {_what_to_type(name)}"
        ) from error


def _what_to_type(name: str = "") -> str:
    presets = suggest(name, PRESETS)
    return f"presets need no hub ({presets}): type model=minilm, or model=/path/to/a/folder with config.json"


def _smollm2() -> Path:
    """SmolLM2-135M-Instruct from its GGUF file, dequantized once to an fp32 folder in the cache."""
    from lorax_lab.data.assets import fetch

    source = fetch("smollm2")
    target = source.parent / "smollm2-fp32"
    if (target / "config.json").is_file():
        return target
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise ConfigError("model=smollm2 needs the gguf package: pip install 'lorax_lab[gguf]'") from None
    _dequantize(source, target)
    return target


def _dequantize(source: Path, target: Path) -> None:
    import tempfile

    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with tempfile.TemporaryDirectory(dir=target.parent) as scratch, _quiet():
        folder = Path(scratch) / target.name
        AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
        plain = GgufConfig(gguf_file=source.name, dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(
            source.parent, quantization_config=plain, gguf_file=source.name, dtype=torch.float32
        )
        model.save_pretrained(folder)
        if not target.exists():  # another process may have been faster
            folder.rename(target)


def _public_name(name: str) -> str:
    return Path(name).name if Path(name).expanduser().is_dir() else name


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class _quiet:
    """Transformers' report of freshly drawn head weights is expected here: keep it off the screen."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self.level, self.bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging

        logging.set_verbosity(self.level)
        if self.bars:
            logging.enable_progress_bar()


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


def select(model: nn.Module, targets: list[str]) -> list[str]:
    """Dotted names of the adaptable matrices that `targets` name: `all-linear`, or last parts of the names
    (`query`, `attention.output.dense`).

    Raises:
        ConfigError: a target that matches nothing; the nearest names are listed.
    """
    names = list(adaptable(model))
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
