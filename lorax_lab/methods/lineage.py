"""Where trained weights come from, as their own file says it: in the header of safetensors, and in PEFT's settings.

An adapter travels without the record of its run, and its update means something on its own base alone. So its file
names the base, with a hash of the base's weights, and the data, the code and the configuration. PEFT keeps its
settings when it saves an adapter with a task type again, but not the header.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor

from lorax_lab.data.assets import State
from lorax_lab.errors import ConfigError
from lorax_lab.methods.adapters import SETTINGS, WEIGHTS, read_settings
from lorax_lab.methods.names import is_embedding, plain_name
from lorax_lab.models import resolve
from lorax_lab.models.files import read_base, states
from lorax_lab.models.tensor_files import SAFETENSORS, WEIGHT_DTYPES

KEY = "lorax_lab"
"""Of the lineage in a header, and in `OPEN`."""
OPEN = "auto_mapping"
"""The one of PEFT's settings that takes any keys. Of one that PEFT does not know it warns at each loading. Without a
task type PEFT reads the model's class there, and writes over it when it saves."""
NUMBERED = re.compile(r"\.\d+\..+")


@dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class Lineage:
    """What identifies the origin of trained weights; None is not known.

    Attributes:
        base: its public name.
        base_weights: `weights_sha256` of the base.
        model_sha256: of all of the base's files, as the run's record has it.
        configuration: what decides the run's result, `config.identity.science`.
    """

    base: str | None
    base_weights: str
    model_sha256: str | None = None
    data_sha256: str | None = None
    code: str | None = None
    run_id: str | None = None
    configuration: dict[str, Any] | None = None

    def misfit(self, base: str, tensors: Mapping[str, Tensor]) -> str:
        """How the weights of `base` differ from those that were trained on; empty where they are the same."""
        here = weights_sha256(tensors)
        if here == self.base_weights:
            return ""
        trained_on = f"{self.base} (weights {self.base_weights[:12]})"
        return f"was trained on {trained_on}, and BASE={base} has other weights ({here[:12]})"

    def header(self) -> dict[str, str]:
        """As the header of safetensors has it."""
        return {KEY: json.dumps(asdict(self), sort_keys=True)}

    def in_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """PEFT's settings with the lineage in them, where they have a task type; else as they are."""
        if not settings.get("task_type"):
            return dict(settings)
        return {**settings, OPEN: {**(settings.get(OPEN) or {}), KEY: asdict(self)}}

    def in_files(self, files: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """What a method exports, by file, with the lineage in PEFT's settings."""
        return {name: self.in_settings(content) if name == SETTINGS else content for name, content in files.items()}


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 over the matrices of a model's numbered layers and embeddings, rounded to bf16: one for the same body
    in fp32 or bf16, under a wrapper's names, or below another head. Of a model with neither, all matrices."""
    matrices = [
        name for name, tensor in tensors.items()
        if tensor.ndim > 1 and tensor.dtype in WEIGHT_DTYPES and not name.endswith(".bias")
    ]  # fmt: skip
    body = [name for name in matrices if NUMBERED.search(name) or is_embedding(name)]
    digests = set()
    for name in body or matrices:
        numbered, tensor = NUMBERED.search(name), tensors[name].detach().cpu()
        place = numbered[0] if numbered else "" if body else plain_name(name)
        digest = hashlib.sha256(f"{place}{tuple(tensor.shape)}".encode())
        digest.update(tensor.float().bfloat16().contiguous().view(torch.int16).numpy().data)
        digests.add(digest.hexdigest())
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def base_weights(name: str) -> str:
    """`weights_sha256` of the model `name`; each state of its files is read once."""
    folder = resolve(name)
    return _base_weights(name, folder, states(folder))


@lru_cache(maxsize=8)
def _base_weights(name: str, folder: Path, of_files: tuple[State, ...]) -> str:
    return weights_sha256(read_base(name, folder))


def lineage_of(path: Path) -> Lineage | None:
    """What a file of weights, or an adapter's folder, says of its origin; None where it says nothing.

    Raises:
        ConfigError: it says something that cannot be read.
    """
    from safetensors import safe_open

    file, folder = (path / WEIGHTS, path) if path.is_dir() else (path, path.parent)
    stated: Any = None
    if file.suffix == SAFETENSORS and file.is_file():
        with safe_open(file, framework="pt") as opened:
            stated = (opened.metadata() or {}).get(KEY)
    if stated is None and (folder / SETTINGS).is_file():
        mapping = read_settings(folder).get(OPEN)
        stated = json.dumps(mapping[KEY]) if isinstance(mapping, dict) and KEY in mapping else None
    try:
        return None if stated is None else TypeAdapter(Lineage).validate_json(stated)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or KEY
        raise ConfigError(f"{path}: what it says of its base cannot be read: {where}: {first['msg']}") from error
