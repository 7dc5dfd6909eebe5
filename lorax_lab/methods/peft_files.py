"""PEFT's two files: the settings in `adapter_config.json`, the tensors beside it. Read as they are, nothing is run."""

from __future__ import annotations

import json
import math
import pickle
import re
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorax_lab.errors import ConfigError, cut, suggest

PREFIX = "base_model.model."
SETTINGS, WEIGHTS, OLD_WEIGHTS = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PATIENCE = 0.2
"""Seconds that one pattern may take for one name."""
LONGEST_PATTERN, MOST_REPEATS = 1000, 10_000
"""Of letters, and of repeats that a pattern counts, as `(a{99}){99}`: an expression is as large as their product."""
PATTERNS = {"r": "rank_pattern", "lora_alpha": "alpha_pattern"}
UNREADABLE = (OSError, ValueError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError)
METHODS = ("LORA", "ADALORA")
PLAIN_STARTS = ("true", "false", "none", "gaussian", "eva", "orthogonal", "mica")
"""Values of init_lora_weights that leave W0 as it is."""
CONVERTIBLE_STARTS = ("corda", "lora_ga")
REFUSED = {
    "layer_replication": "it repeats layers of the base",
    "target_parameters": "its factors belong to slices of larger parameters",
    "use_qalora": "its lora_A sees pooled inputs",
    "use_bdlora": "its factors are stored as blocks",
    "kasa_config": "it cuts the base weight first",
    "monteclora_config": "its update is drawn at random",
    "alora_invocation_tokens": "its update holds for some tokens only",
    "arrow_config": "it sends each token to other adapters",
}
CONVERT = (
    "save it again with save_pretrained(path_initial_model_for_weight_conversion=...), which makes it a plain LoRA"
)
MERGE = "merge it on the base it was trained on (merge_and_unload), and give the merged model with its base"
_PART = re.compile(r"(.+)\.(lora_(?:A|B|E|embedding_A|embedding_B|magnitude_vector)|ranknum)(?:\.weight)?")
_FOREIGN = re.compile(r".+\.lora_(?:A|B|E|embedding_A|embedding_B|magnitude_vector)\..+")
_INSERTED, _UNTOUCHED = re.compile(r"\.(?:base_layer|modules_to_save)(?=\.)"), ".original_module."
"""Parts that PEFT inserts into the names of the base's own tensors, and of copies that it did not train."""
LORA_BIAS, TRAINED_TOKENS = ".lora_B.bias", ".trainable_tokens_delta"
"""Endings of tensor names. Such tensors are no factors, and they replace nothing."""
Settings = dict[str, Any]
Parts = dict[str, Tensor]


def is_adapter(path: Path) -> bool:
    """Whether `path` is a PEFT adapter's folder or its weights file; one of its two files is enough."""
    named = path.name in (WEIGHTS, OLD_WEIGHTS) and path.is_file()
    return named or any((path / name).is_file() for name in (SETTINGS, WEIGHTS, OLD_WEIGHTS))


def weights_file(path: Path) -> Path:
    """The weights file: `path` itself, or the file that PEFT takes from the folder `path`, safetensors first."""
    if path.is_file():
        return path
    old_only = (path / OLD_WEIGHTS).is_file() and not (path / WEIGHTS).is_file()
    return path / (OLD_WEIGHTS if old_only else WEIGHTS)


def read_files(path: Path) -> tuple[Settings, dict[str, Tensor]]:
    """(settings, tensors) of the adapter at `path`, which is its folder or its weights file.

    A `.bin` file may hold nothing but tensors: no code of it is run.

    Raises:
        ConfigError: a file is missing or damaged, or holds something else; it names the file.
    """
    file = weights_file(path)
    settings = read_settings(file.parent)
    tensors = _read(file, _tensors)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ConfigError(f"{file} holds no tensors by name")
    return settings, tensors


def read_settings(folder: Path) -> Settings:
    """The settings of the adapter in a folder.

    Raises:
        ConfigError: the file is missing or damaged, or holds something else.
    """
    path = folder / SETTINGS
    settings = _read(path, lambda path: json.loads(path.read_text(encoding="utf-8")))
    if not isinstance(settings, dict) or not isinstance(settings.get("peft_type"), str):
        raise ConfigError(f"{path} names no peft_type; expected an object with PEFT's settings")
    return settings


def number_for(settings: Settings, key: str, name: str) -> float:
    """`r` or `lora_alpha` for the module `name`: the value of the first pattern that matches, else the setting itself.

    A pattern is a regular expression for the whole name or for its end after a dot, as in PEFT's `get_pattern_key`.

    Raises:
        ConfigError: not a finite number, or a pattern that is no regular expression.

    >>> settings = {"r": 8, "rank_pattern": {r"layers.[01].q": 4}}
    >>> [number_for(settings, "r", f"model.layers.{i}.q") for i in range(3)]
    [4, 4, 8]
    """
    return number(key, next(iter(matches(settings, key, name)), settings.get(key)))


def matches(settings: Settings, key: str, name: str) -> list[Any]:
    """The values of the patterns for `r` or `lora_alpha` that match the module `name`, in the file's order.

    PEFT takes the first one. It sorts the patterns when it saves them, so training may have used another one.
    """
    import regex

    patterns = settings.get(PATTERNS[key]) or {}
    try:
        return [value for pattern, value in patterns.items() if _matches(pattern, name)]
    except TimeoutError:
        slow = f"one of its patterns needs more than {PATIENCE} s for the name {name}"
        raise ConfigError(f"{PATTERNS[key]}: {slow}; write the modules' names in full") from None
    except (regex.error, AttributeError, OverflowError, RecursionError) as error:
        shown = cut(patterns, 200)
        raise ConfigError(f"{PATTERNS[key]}={shown}: expected numbers by regular expression: {error}") from error


@lru_cache(maxsize=65536)
def _matches(pattern: str, name: str) -> bool:
    """Whether PEFT's rule holds, in bounded time: some expressions need a time that doubles with each letter."""
    import regex

    repeats = math.prod(
        max(1, int(count)) for count in re.findall(r"(?<=[{,])\s*(\d+)(?=\s*[,}])", pattern[:LONGEST_PATTERN])
    )
    if len(pattern) > LONGEST_PATTERN or repeats > MOST_REPEATS:
        most = f"{LONGEST_PATTERN} letters and {MOST_REPEATS} counted repeats; write the names in full"
        raise ConfigError(f"the pattern {cut(pattern, 40)}… is not possible: allowed are {most}")
    return regex.match(rf"(.*\.)?({pattern})$", name, timeout=PATIENCE) is not None


def number(key: str, value: object) -> float:
    """The setting's value, if it is a finite number and for a rank a whole one, else a `ConfigError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{key}={cut(value, 80)} is not possible: it is a finite number, for instance {key}=16")
    if key in ("r", "init_r") and (value < 1 or value != int(value)):
        raise ConfigError(f"{key}={value} is not possible: it is a whole number from 1 on, for instance {key}=16")
    return value


def check_method(settings: Settings) -> None:
    """Raises a `ConfigError` unless the settings are of a method whose ΔW follows from the two files and W0."""
    method = settings["peft_type"]
    if method not in METHODS:
        raise ConfigError(f"peft_type={method} is not possible: {suggest(method, METHODS)}; or {MERGE}")
    for key, reason in REFUSED.items():
        if settings.get(key):
            raise ConfigError(f"{key}={settings[key]} is not possible: {reason}; allowed: none")


def start_of(settings: Settings) -> str:
    """The start that PEFT subtracts from W0: `pissa`, `olora` or, for most, "".

    Raises:
        ConfigError: a start that is neither in the files nor follows from W0.
    """
    value = settings.get("init_lora_weights", True)
    word = str(value).lower()
    if word in PLAIN_STARTS:
        return ""
    if re.fullmatch(r"pissa(_niter_\d+)?", word):
        return "pissa"
    if word == "olora" and not settings.get("fan_in_fan_out"):  # PEFT 0.21 forgets to transpose a Conv1D's
        return "olora"
    refusal = f"init_lora_weights={value} is not possible: what it takes out of the base weight is not in the files"
    raise ConfigError(f"{refusal}; {CONVERT if word in CONVERTIBLE_STARTS else MERGE}")


def by_module(tensors: dict[str, Tensor]) -> tuple[dict[str, Parts], Parts]:
    """The factors by module and part, and the tensors that are no factors, all by the base's names.

    Raises:
        ConfigError: no factor at all, or one under a name that PEFT does not read.
    """
    modules: dict[str, Parts] = defaultdict(dict)
    rest = {}
    for key, tensor in tensors.items():
        name = _INSERTED.sub("", key.removeprefix(PREFIX))
        if _UNTOUCHED in name:
            continue
        if match := _PART.fullmatch(name):
            modules[match[1]][match[2]] = tensor
        elif _FOREIGN.fullmatch(name) and not name.endswith(LORA_BIAS):
            raise ConfigError(f"{key} is not a name that PEFT saves; it expects for instance layer.lora_A.weight")
        else:
            rest[name] = tensor
    if not modules:
        raise ConfigError("none of its tensors is a lora_A or lora_B")
    return modules, rest


def is_embedding(parts: Parts) -> bool:
    """Whether a module's factors are those of an `nn.Embedding`, to which PEFT gives other names."""
    return any("embedding" in part for part in parts)


def check_parts(parts: Parts, settings: Settings) -> None:
    """Raises a `ConfigError` unless one module's tensors are those its settings call for, flat and finite."""
    wanted = {"lora_embedding_A", "lora_embedding_B"} if is_embedding(parts) else {"lora_A", "lora_B"}
    if settings["peft_type"] == "ADALORA":
        wanted.add("lora_E")
    elif settings.get("use_dora"):
        wanted.add("lora_magnitude_vector")
    for part in sorted(wanted - parts.keys()):
        raise ConfigError(f"{part} is missing")
    for part in sorted(parts.keys() - wanted - {"ranknum"}):
        raise ConfigError(f"{part} does not go with these settings, which expect {', '.join(sorted(wanted))}")
    for part in sorted(wanted):
        if parts[part].ndim != (1 if part == "lora_magnitude_vector" else 2):
            raise ConfigError(f"{part} has the shape {tuple(parts[part].shape)}: it is damaged")
        if not torch.isfinite(parts[part]).all():
            raise ConfigError(f"{part} has nan or inf inside: a diverged run or a bad file")
    sizes = [parts[part].shape[:1] for part in ("lora_B", "lora_embedding_B") if part in parts]
    if "lora_magnitude_vector" in wanted and (magnitudes := parts["lora_magnitude_vector"].shape) not in sizes:
        raise ConfigError(f"lora_magnitude_vector is {tuple(magnitudes)}; expected {tuple(sizes[0])}")


def _read(file: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(file)
    except UNREADABLE as error:
        reason = "it is damaged or holds more than tensors" if isinstance(error, pickle.UnpicklingError) else error
        raise ConfigError(f"{file} cannot be read as part of a PEFT adapter: {reason}") from error


def _tensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if file.suffix == ".bin":
        return torch.load(file, map_location="cpu", weights_only=True)
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(error) from error
