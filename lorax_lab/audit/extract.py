"""The truncated update as a PEFT adapter: `--extract rank=16`."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorax_lab.audit.checkpoint import Matrix
from lorax_lab.audit.cuts import Tuned
from lorax_lab.audit.measure import Measured
from lorax_lab.audit.updates import Updates
from lorax_lab.console import bar, say
from lorax_lab.errors import ConfigError
from lorax_lab.methods import lora
from lorax_lab.methods.adapters import PREFIX, SETTINGS, WEIGHTS
from lorax_lab.methods.lineage import Lineage, weights_sha256
from lorax_lab.methods.names import is_embedding, is_output_layer, plain_name
from lorax_lab.models import head_modules
from lorax_lab.record.files import save_tensors, write_json
from lorax_lab.spectra import LowRank, svd, top_directions

CONV1D = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
"""Model types of which the matrices named `IN_OUT` are stored (in, out)."""
IN_OUT = ("c_attn", "c_proj", "c_fc", "q_attn")


def parse_rank(text: str) -> int:
    """The N of `rank=N`; anything else is a `ConfigError`.

    >>> parse_rank("rank=16")
    16
    """
    if typed := re.fullmatch("rank=0*([1-9][0-9]*)", text):
        return int(typed[1])
    raise ConfigError(f"--extract {text}: allowed is rank=N, with N from 1 on; type --extract rank=16")


def check(updates: Updates) -> None:
    """Raises a `ConfigError` where PEFT has no factors for an update, as for that of a part of a module, or where
    more was trained than an extract holds, such as biases."""
    if updates.adapter is None:
        return
    if (bias := updates.adapter.settings.get("bias")) not in (None, "none"):
        raise ConfigError(f"--extract: bias={bias} of {SETTINGS}: an extract holds no biases; leave --extract out")
    if updates.adapter.settings and updates.adapter.unplaced:
        trained = f"{updates.adapter.unplaced[0]} was trained too, and an extract does not hold it"
        raise ConfigError(f"--extract: {trained}; leave --extract out")
    for update in updates.adapter.updates.values():
        if update.foreign:
            raise ConfigError(f"--extract: {update.name} is {update.foreign}, which PEFT cannot hold; leave it out")


def write_adapter(
    folder: Path, updates: Updates, measured: dict[str, Measured], rank: int, device: torch.device, tuned: Tuned | None
) -> None:
    """Write [ΔW]_rank of every linear matrix as a LoRA that PEFT loads: B = U √σ, A = √σ Vh, scaling 1.

    What an adapter saves in full is written as it is, and so is the tuned head of a checkpoint. Left out are
    embeddings, output layers of a checkpoint, which may be the embedding, and its biases and norms.

    Args:
        tuned: the tuned model, which has the modules' names and the head where a task is given; without it, the
            adapter's own names, and the base's.

    Raises:
        ConfigError: no linear matrix changed.
    """
    ranks, tensors, left = {}, {}, []
    places = {plain_name(f"{name}.weight"): name for name in tuned.decompositions} if tuned else {}
    head, heads = (tuned.head, head_modules(tuned.model)) if tuned else ({}, [])
    conv1d = updates.base is not None and updates.base.config.get("model_type") in CONV1D
    saved = (updates.adapter.saved if updates.adapter and updates.adapter.settings else {}) or head
    in_head = {plain_name(name) for name in saved}
    matrices = [m for m in updates.matrices if m.kind != "pair" or plain_name(m.name) not in in_head]
    with bar("extracting") as on_done:
        for index, matrix in enumerate(matrices):
            moved = matrix.name in measured and measured[matrix.name].row["frobenius_norm"] > 0
            module = places.get(plain_name(matrix.name), matrix.module or matrix.name.removesuffix(".weight"))
            if moved and not _is_linear(updates, matrix):
                left.append(matrix.name)
            elif moved:
                B, A = _factors(matrix, min(rank, *matrix.shape), device)
                ranks[module] = len(A)
                turned = conv1d and matrix.kind == "pair" and module.rpartition(".")[2] in IN_OUT
                tensors[f"{PREFIX}{module}.lora_A.weight"] = B.T if turned else A
                tensors[f"{PREFIX}{module}.lora_B.weight"] = A.T if turned else B
            on_done(index + 1, len(matrices))
    if not ranks:
        raise ConfigError("--extract: no linear matrix changed, so there is nothing to write")
    tensors |= {PREFIX + name: tensor for name, tensor in saved.items()}
    settings = _settings(updates, ranks) | {"fan_in_fan_out": conv1d} | ({"modules_to_save": heads} if heads else {})
    lineage = updates.lineage  # what it was cut from says its origin, or else the base that was given
    if not lineage and updates.base:
        lineage = Lineage(settings["base_model_name_or_path"], weights_sha256(updates.base.tensors))
    in_fp32 = {name: tensor.float() for name, tensor in tensors.items()}
    save_tensors(folder / WEIGHTS, in_fp32, lineage.header() if lineage else None)
    write_json(folder / SETTINGS, lineage.in_settings(settings) if lineage else settings, indent=2)
    say(f"{folder}: a PEFT adapter on {len(ranks)} matrices, rank {max(ranks.values())}")
    for name in left:
        say(f"  left out, an embedding or an output layer: {name}")


def _is_linear(updates: Updates, matrix: Matrix) -> bool:
    """Whether a LoRA of a linear layer can hold it: an adapter's factors say so, of a checkpoint only the name."""
    if updates.adapter:
        return not updates.adapter.updates[matrix.module].embedding
    return matrix.name.endswith(".weight") and not is_embedding(matrix.name) and not is_output_layer(matrix.name)


def _factors(matrix: Matrix, rank: int, device: torch.device) -> tuple[Tensor, Tensor]:
    update = matrix.update()
    if isinstance(update, LowRank):
        U, sigma, Vh = svd(update)
    else:
        U, sigma, Vh = top_directions(update.to(device), rank)
    root = sigma[:rank].sqrt()
    return (U[:, :rank] * root).cpu(), (root[:, None] * Vh[:rank]).cpu()


def _settings(updates: Updates, ranks: dict[str, int]) -> dict[str, Any]:
    """alpha = rank in every module, so that the scaling is 1."""
    common = max(set(ranks.values()), key=list(ranks.values()).count)
    base_name = updates.base.name if updates.base else None
    if base_name and Path(base_name).exists():
        base_name = Path(base_name).name  # where it lies here is nobody's business
    before = updates.adapter.settings if updates.adapter else {}
    settings = lora.peft_settings(ranks, common, base_name)
    settings |= {"lora_alpha": common, "alpha_pattern": settings.get("rank_pattern", {})}
    return settings | {key: before.get(key) for key in ("task_type", "modules_to_save")}
