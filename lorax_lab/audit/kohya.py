"""Single safetensors of other trainers, above all kohya's sd-scripts: keys end in `lora_down.weight`, `lora_up.weight`.

    ΔW = s · up · down       down (r, in), up (out, r), s = alpha / r; alpha stands in the file, one number a module

A convolution's down is (r, in, k, k) and its up (out, r, 1, 1): ΔW as the matrix (out, in · k · k). A module's name is
its path in the model with underscores in the place of dots, after the model's own name, as in
`lora_unet_mid_block_attentions_0_proj_in`. Which underscores were dots is not in the file; a base tells it. Some
trainers keep the dots.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from lorax_lab.audit.alphas import stated_alpha
from lorax_lab.audit.checkpoints import MEASURED, Stored, as_matrix, plain_name
from lorax_lab.audit.checkpoints.formats import SAFETENSORS, TORCH, read_tensors
from lorax_lab.errors import ConfigError
from lorax_lab.methods.lora_layer import scaling_of
from lorax_lab.methods.peft_updates import Adapter, AdapterUpdate
from lorax_lab.spectra import LowRank

FACTOR = re.compile(r"(.+?)(?:[._]lora)[._](down|up)\.weight")
ALPHA, WEIGHT = ".alpha", ".weight"
OTHERS = re.compile(r"(.+?)[._](hada_|lokr_|oft_|boft_|glora_|a1\.|a2\.|b1\.|b2\.|w_norm|diff)")
"""Names of methods whose ΔW is no product of two factors: LoHa, LoKr, OFT, GLoRA, whole differences."""
BESIDE = {".lora_mid.weight": "it has a Tucker core between its factors", ".dora_scale": "DoRA's magnitudes scale it"}
"""Endings of a module's tensors that make its ΔW another one than the product of its factors."""
TRAINER = re.compile(r"(lora|lycoris)_")
MODELS = re.compile(r"(lora|lycoris)_((unet|transformer|te\d?|prior\w*)_)?")
"""What stands before a module's path: which of a pipeline's models it is in."""
SHOWN = 5


def is_kohya(path: Path) -> bool:
    """Whether `path` is a single file with factors under kohya's names.

    Raises:
        ConfigError: it holds adapters of such a trainer, and none is a product of two factors.
    """
    if not path.is_file() or path.suffix not in (SAFETENSORS, *TORCH):
        return False
    names = read_tensors(path)
    if any(FACTOR.fullmatch(name) for name in names):
        return True
    if any(name.startswith(("lora_", "lycoris_")) for name in names) and (
        other := next(filter(OTHERS.match, names), None)
    ):
        raise ConfigError(
            f"{path} holds {other}: LoHa, LoKr, OFT and the like are no product of two factors and are not read; merge "
            "it into its base, and give the merged checkpoint with its base"
        )
    return False


def read_kohya(path: Path, alpha: float | None, base: Iterable[str] | None) -> tuple[Adapter, list[str]]:
    """The updates in a single file of kohya's names, and the keys that belong to none of them.

    Args:
        alpha: of the training, where the file states none; else alpha = rank, as kohya's loaders have it.
        base: names of the base's tensors; None where there is no base. A module that is in none of them is left out,
            and a note says so.

    Raises:
        ConfigError: half a pair of factors, factors that do not fit each other, another alpha than the file's, nan or
            inf, or no module that is in the base.
    """
    tensors = read_tensors(path)
    modules: dict[str, dict[str, Stored]] = defaultdict(dict)
    for name, stored in tensors.items():
        if match := FACTOR.fullmatch(name):
            modules[match[1]][match[2]] = stored
    places = None if base is None else _places(base)
    updates: dict[str, AdapterUpdate] = {}
    unplaced, unlike, silent = [], [], []
    placed: dict[str, str] = {}
    for module, factors in modules.items():
        beside = [why for ending, why in BESIDE.items() if module + ending in tensors]
        place = _dotted(module) if places is None else _place(module, places)
        if beside:
            unlike.append(f"{module} ({beside[0]})")
        elif place is None:
            unplaced.append(module)
        elif place in placed:
            raise ConfigError(
                f"{path}: {placed[place]} and {module} both are {place}, as where a file holds adapters of several "
                "models: keep one of them in the file, or give no base"
            )
        else:
            stated = _alpha(path, module, tensors, alpha)
            silent += [module] if stated is None else []
            placed[place] = module
            updates[place] = _update(path, module, place, factors, stated, names_are_known=places is not None)
    if not updates:
        missing = [*unplaced, *unlike]
        where = "BASE has none of its modules" if unplaced else "no module of it is a product of two factors"
        raise ConfigError(f"{path}: {where}: {_some(missing)}; give the model that it was trained on, or no base")
    known = {module + ending for module in modules for ending in (ALPHA, *BESIDE)}
    notes = {
        "in no module of the base, not measured": unplaced,
        "no product of two factors, not measured": unlike,
        "no alpha in the file: alpha = rank is taken, as kohya's own loader does": silent,
        "keys that could not be placed": [key for key in tensors if key not in known and not FACTOR.fullmatch(key)],
    }
    said = [f"{what} ({len(names)}): {_some(names)}" for what, names in notes.items() if names]
    read = set(placed.values())
    left = [key for key in tensors if _module(key) not in read]
    return Adapter(path.name, {}, updates, {}, said, None), left


def _module(key: str) -> str:
    """The module of a factor or of an alpha; of any other key, itself."""
    match = FACTOR.fullmatch(key)
    return match[1] if match else key.removesuffix(ALPHA)


def _update(
    path: Path, module: str, name: str, factors: dict[str, Stored], alpha: float | None, names_are_known: bool
) -> AdapterUpdate:
    if lacking := {"down", "up"} - factors.keys():
        raise ConfigError(f"{path}: {module} has no lora_{min(lacking)}.weight: copy or save the file again")
    down, up = (_read(path, factors[part]) for part in ("down", "up"))
    rank = len(down)
    kernels = [factors[part].shape[2:] for part in ("up", "down")]
    if up.shape[1] != rank or not rank or set(kernels[0]) - {1}:
        shapes = f"lora_down {tuple(factors['down'].shape)} and lora_up {tuple(factors['up'].shape)}"
        raise ConfigError(f"{path}: {module} has {shapes}; allowed are (r, in) and (out, r), or those of a convolution")
    convolution = len(factors["down"].shape) > 2 and set(kernels[1]) != {1}
    foreign = "a convolution" if len(factors["down"].shape) > 2 else ""
    foreign = foreign or ("" if names_are_known else "under a name with underscores for dots: give its base")
    note = "a convolution, measured as the matrix (out, in · kernel)" if convolution else ""
    product = LowRank(up, down, scaling_of(rank if alpha is None else alpha, rank, False))
    return AdapterUpdate(name, "lora", product, note=note, foreign=foreign)


def _alpha(path: Path, module: str, tensors: dict[str, Stored], typed: float | None) -> float | None:
    """The module's alpha: the file's, or the typed one where the file has none."""
    stored = tensors.get(module + ALPHA)
    if stored is None:
        return typed
    return stated_alpha(path, module + ALPHA, stored, typed)


def _read(path: Path, stored: Stored) -> Tensor:
    """A factor as a matrix; a kernel with its inputs in one."""
    if len(stored.shape) not in (2, 3, 4, 5) or stored.dtype not in MEASURED:
        dtype = str(stored.dtype).removeprefix("torch.")
        raise ConfigError(f"{path}: {stored.name} is {stored.shape}, {dtype}; expected a matrix of floating point")
    factor = as_matrix(stored).block(0, 0, stored.shape[0])
    if not torch.isfinite(factor).all():
        raise ConfigError(f"{path}: {stored.name} has nan or inf inside: a diverged run or a bad file")
    return factor


def _places(base: Iterable[str]) -> dict[str, str]:
    """The modules of a base by their names with underscores for dots, in full and without what wrappers put before."""
    modules = [name.removesuffix(WEIGHT) for name in base if name.endswith(WEIGHT)]
    return {_flat(_plain(name)): name for name in modules} | {_flat(name): name for name in modules}


def _place(module: str, places: dict[str, str]) -> str | None:
    """Where a module is in the base. What stands before its path may be the path's own first part, as `transformer`."""
    paths = [TRAINER.sub("", module, count=1), MODELS.sub("", module, count=1), _plain(module)]
    return next((places[flat] for flat in map(_flat, paths) if flat in places), None)


def _plain(module: str) -> str:
    return plain_name(module + WEIGHT).removesuffix(WEIGHT)


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _dotted(module: str) -> str:
    """Dots around the numbers of a name, and after its model, so that its layer and its type can be read.

    >>> _dotted("lora_unet_down_blocks_0_attentions_1_proj_in")
    'lora_unet.down_blocks.0.attentions.1.proj_in'
    """
    model = MODELS.match(module)
    inside = module[model.end() :] if model else module
    dotted = re.sub(r"_(\d+)(?=_|$)", r".\1", inside)
    dotted = re.sub(r"(?<=\.)(\d+)_", r"\1.", dotted)
    return f"{model[0].rstrip('_')}.{dotted}" if model else dotted


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f", and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
