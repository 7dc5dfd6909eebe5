"""Plain tensor files with the factors of Microsoft's loralib: keys that end in `lora_A` and `lora_B`, and no settings.

    Linear, Embedding   ΔW = s B A                      lora_A (r, in), lora_B (out, r)
    MergedLinear        ΔW of group g = s B_g A_g       lora_A (groups · r, in), lora_B (groups · out, r)

with s = alpha / r. The file does not contain alpha: the user types it. MergedLinear puts several matrices into one, as
GPT-2's `c_attn` holds queries, keys and values, and adapts some of them. Its convolution with groups multiplies rows
g r to (g + 1) r of lora_A by the g-th block of rows of lora_B, so each group is an update of its own, and is measured
as one. Which of the three a group belongs to is not in the file.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor

from lorax_lab.audit.alphas import stated_alpha
from lorax_lab.audit.checkpoints import MEASURED, Stored, is_embedding
from lorax_lab.audit.checkpoints.formats import SAFETENSORS, TORCH, read_tensors
from lorax_lab.errors import ConfigError
from lorax_lab.methods.lora_layer import scaling_of
from lorax_lab.methods.peft_updates import Adapter, AdapterUpdate
from lorax_lab.spectra import LowRank

FACTOR = re.compile(r"(.+)\.lora_([AB])")
OF_PEFT = re.compile(r".+\.lora_[AB](\.\w+)?\.weight")
CONVOLUTION = re.compile(r"(^|\.)(conv\d*|conv\d?d|downsample)(\.|$)", re.IGNORECASE)
STATED = (".lora_alpha", ".alpha")
"""Endings of tensors with one number, by which some files state the alpha of a module."""
PART = "a part of a MergedLinear"
Factors = dict[str, Stored]


def is_loralib(path: Path) -> bool:
    """Whether `path` is a plain tensor file with factors under loralib's names.

    Raises:
        ConfigError: the factors have PEFT's names, and PEFT's settings are not beside them.
    """
    if not path.is_file() or path.suffix not in (SAFETENSORS, *TORCH):
        return False
    names = read_tensors(path)
    if any(FACTOR.fullmatch(name) for name in names):
        return True
    if of_peft := next(filter(OF_PEFT.fullmatch, names), None):
        raise ConfigError(
            f"{path} holds {of_peft}, a name of PEFT, and PEFT keeps alpha in adapter_config.json: put both into one "
            "folder as adapter_model.safetensors (or .bin) and adapter_config.json, and name the folder"
        )
    return False


def read_loralib(path: Path, alpha: float | None) -> tuple[Adapter, dict[str, Stored]]:
    """The updates in a plain tensor file of loralib's factors, and what is saved beside them: a head, biases.

    Args:
        alpha: lora_alpha of the training; None only where the file states it for each module.

    Raises:
        ConfigError: no alpha, another one than the file states, or factors that are not those of a Linear, an
            Embedding or a MergedLinear.
    """
    tensors = read_tensors(path)
    modules: dict[str, Factors] = defaultdict(dict)
    for name, stored in tensors.items():
        if match := FACTOR.fullmatch(name):
            modules[match[1]][match[2]] = stored
    updates: dict[str, AdapterUpdate] = {}
    for name, factors in modules.items():
        for update in _updates(path, name, factors, tensors, _alpha(path, tensors, name, alpha)):
            updates[update.name] = update
    rest = {n: stored for n, stored in tensors.items() if not FACTOR.fullmatch(n) and not n.endswith(STATED)}
    listed = ", ".join(list(rest)[:3]) + (", …" if len(rest) > 3 else "")
    notes = [f"saved beside the factors, and not measured ({len(rest)}): {listed}"] if rest else []
    return Adapter(path.name, {}, updates, {}, notes, None), rest


def _alpha(path: Path, tensors: dict[str, Stored], module: str, typed: float | None) -> float:
    """The module's alpha: the file's, or the typed one where the file has none."""
    for key in (module + ending for ending in STATED):
        if key in tensors:
            return stated_alpha(path, key, tensors[key], typed)
    if typed is None:
        raise ConfigError(
            f"{path} holds loralib's factors and not their alpha, without which ΔW has no size: type --alpha 16, "
            "with the lora_alpha of the training in the place of 16"
        )
    return typed


def _updates(path: Path, name: str, factors: Factors, tensors: dict[str, Stored], alpha: float) -> list[AdapterUpdate]:
    """One update of a Linear or an Embedding, one for each group of a MergedLinear."""
    weight = tensors.get(f"{name}.weight")
    kernel = weight is not None and len(weight.shape) > 2
    if kernel or f"{name}.conv.weight" in tensors or CONVOLUTION.search(name):
        raise ConfigError(
            f"{path}: {name} is a convolution, whose rank is not in the shapes of its factors (they are k times as "
            "large for a kernel of side k), so alpha / r is not known: take its factors out of the file"
        )
    if lacking := {"A", "B"} - factors.keys():
        raise ConfigError(f"{path}: {name}.lora_{min(lacking)} is missing: copy or save the file again")
    A, B = (_read(path, factors[part]) for part in "AB")
    rank, groups = B.shape[1], len(A) // B.shape[1] if B.shape[1] else 0
    if not groups or len(A) != groups * rank or len(B) % groups:
        raise ConfigError(
            f"{path}: {name} has lora_A {tuple(A.shape)} and lora_B {tuple(B.shape)}; allowed are (r, in) and (out, r) "
            "of a Linear, (groups · r, in) and (groups · out, r) of a MergedLinear"
        )
    scaling = scaling_of(alpha, rank, False)
    if groups == 1 and is_embedding(f"{name}.weight"):  # loralib adds (B A)ᵀ to an embedding (num, dim)
        return [AdapterUpdate(name, "lora", LowRank(A.T, B.T, scaling), embedding=True)]
    if groups == 1:
        return [AdapterUpdate(name, "lora", LowRank(B, A, scaling))]
    parts = enumerate(zip(B.chunk(groups), A.chunk(groups), strict=True), start=1)
    return [
        AdapterUpdate(f"{name} (group {g} of {groups})", "lora", LowRank(B_g, A_g, scaling), group=g, foreign=PART)
        for g, (B_g, A_g) in parts
    ]


def _read(path: Path, stored: Stored) -> Tensor:
    if len(stored.shape) != 2 or stored.dtype not in MEASURED:
        dtype = str(stored.dtype).removeprefix("torch.")
        raise ConfigError(f"{path}: {stored.name} is {stored.shape}, {dtype}; expected a matrix of floating point")
    factor = stored.block(0, 0, stored.shape[0])
    if not torch.isfinite(factor).all():
        raise ConfigError(f"{path}: {stored.name} has nan or inf inside: a diverged run or a bad file")
    return factor
