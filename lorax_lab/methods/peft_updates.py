"""The weight updates that a PEFT adapter stands for, read from its files alone: no model is built, no PEFT imported.

ΔW = W_tuned − W0 against the original base weight W0, in the arithmetic of PEFT 0.21, with s the scaling:

    LoRA, rsLoRA   s B A                               s = alpha / rank, alpha / √rank (Kalajdzievski 2023)
    AdaLoRA        s B (E ∘ A)                         s = alpha / (init_r + 1e-5) (Zhang et al. 2023)
    PiSSA          s B A − [W0]_rank                   PEFT trains on W0 − [W0]_rank (Meng et al. 2024)
    OLoRA          s B A − s Q_rank R_rank, W0 = Q R   PEFT trains on W0 − s Q_rank R_rank (Büyükakyüz 2024)
    DoRA           m ∘ V / ‖V‖ − W0, V = W0 + s B A    norms of rows, of an embedding's columns (Liu et al. 2024)

DoRA may stand on PiSSA or OLoRA; V is then W0 plus their update.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lorax_lab.errors import ConfigError, cut
from lorax_lab.methods.lora_layer import scaling_of
from lorax_lab.methods.peft_files import (
    CONVERT,
    LORA_BIAS,
    TRAINED_TOKENS,
    Parts,
    Settings,
    by_module,
    check_method,
    check_parts,
    is_adapter,
    is_embedding,
    matches,
    number,
    number_for,
    read_files,
    start_of,
    weights_file,
)
from lorax_lab.spectra import LowRank, Update, svd

__all__ = ["Adapter", "AdapterUpdate", "is_adapter", "read_adapter"]

RANKNUM_EPS = 1e-5
"""PEFT's AdaLoRA adds this to the rank before it divides by it."""


@dataclass(frozen=True, eq=False)
class AdapterUpdate:
    """One matrix's ΔW = W_tuned − W0: the saved product s B A, and how PEFT applies it to the base weight.

    Args:
        name: the module's dotted name in the base model, as in `model.layers.0.self_attn.q_proj`.
        kind: `lora`, `adalora`, or all that apply of `pissa`, `olora`, `rslora` and `dora`, joined by `+`.
        product: s B A, (out, in). For an embedding (num, dim), as its weight is stored.
        start: `pissa` or `olora` where PEFT takes the start out of W0 before training, else empty.
        magnitude: DoRA's m, (out,), or (dim,) for an embedding.
        embedding: the matrix is an `nn.Embedding`'s.
        fan_in_fan_out: the settings say that the base stores W0 as (in, out), as GPT-2 does.
        note: a caution to report with the numbers, or empty.
        group: from 1 on where it is the update of a part of the module, as of loralib's MergedLinear; else 0.
        foreign: why no LoRA of PEFT can hold it, or empty.
    """

    name: str
    kind: str
    product: LowRank
    start: str = ""
    magnitude: Tensor | None = None
    embedding: bool = False
    fan_in_fan_out: bool = False
    note: str = ""
    group: int = 0
    foreign: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in); (num, dim) for an embedding."""
        return self.product.shape

    @property
    def needs_base(self) -> bool:
        """Whether ΔW depends on W0."""
        return bool(self.start) or self.magnitude is not None

    @property
    def low_rank(self) -> LowRank | None:
        """ΔW where the files alone give it, None where it needs W0."""
        return None if self.needs_base else self.product

    def update(self, base_weight: Float[Tensor, "out in"] | None = None) -> Update:
        """ΔW (out, in): `LowRank`, for PiSSA and OLoRA with twice the columns; dense fp64 for DoRA.

        Args:
            base_weight: the original W0 (out, in), see `oriented`, any real dtype; for PiSSA and OLoRA not the
                residual that PEFT trains on. Not needed where there is a `low_rank`.

        Raises:
            ConfigError: no `base_weight` where one is needed, or one of another shape.
        """
        if base_weight is not None and tuple(base_weight.shape) != self.shape:
            both = f"the base weight is {tuple(base_weight.shape)}, the adapter's update {self.shape}"
            raise ConfigError(f"{self.name}: {both}; give the base that the adapter was trained on")
        if not self.needs_base:
            return self.product
        if base_weight is None:
            needed = f"{self.name}: a {self.kind} update is measured against the original base weight"
            raise ConfigError(f"{needed}; type `python -m lorax_lab.audit BASE ADAPTER`")
        base = base_weight.detach().to(self.product.B.device, torch.float64)
        learned = self._learned(base) if self.start else self.product
        if self.magnitude is None:
            return learned
        V, dim = base + learned.dense(), 0 if self.embedding else 1
        return V * self.magnitude.to(V).unsqueeze(dim) / V.norm(dim=dim, keepdim=True) - base

    def oriented(self, stored: Tensor) -> Tensor:
        """W0 (out, in) of the weight as the base stores it: transposed if only that fits, or if it is square and
        `fan_in_fan_out` is set.

        PEFT saves one `fan_in_fan_out` for all modules, the value of the last one. If the modules differ, it is wrong
        for some.
        """
        turned = stored.shape[::-1] == self.shape and (stored.shape != self.shape or self.fan_in_fan_out)
        return stored.T if turned else stored

    def _learned(self, base: Tensor) -> LowRank:
        rank, scaling = len(self.product.A), self.product.scaling
        if self.start == "pissa":
            U, sigma, Vh = svd(base)
            B, A = U[:, :rank] * sigma[:rank], Vh[:rank]
        else:
            Q, R = torch.linalg.qr(base)
            B, A = scaling * Q[:, :rank], R[:rank]
        return LowRank(torch.cat([scaling * self.product.B.double(), -B], 1), torch.cat([self.product.A.double(), A]))


@dataclass(frozen=True, eq=False)
class Adapter:
    """What a PEFT adapter's files hold.

    Args:
        name: the folder's name.
        settings: `adapter_config.json` as it is.
        updates: the updates of the matrices with low-rank factors, by module name.
        saved: tensors that take the place of the base's, by the base's name: heads, biases, resized embeddings.
        notes: what is in the files and not in `updates`.
        base_name: the base model's name, or its path where it was trained, if the settings give one.
    """

    name: str
    settings: Settings
    updates: dict[str, AdapterUpdate]
    saved: dict[str, Tensor]
    notes: list[str]
    base_name: str | None


def read_adapter(folder: Path) -> Adapter:
    """The updates of the PEFT adapter in `folder`, which may also be the weights file itself.

    Raises:
        ConfigError: missing or damaged files, a method whose ΔW is not computed here, or tensors that do not
            belong together; it names the file, the tensor and what is allowed.
    """
    settings, tensors = read_files(folder)
    file = weights_file(folder)
    try:
        check_method(settings)
        modules, rest = by_module(tensors)
        flat = {name: parts for name, parts in modules.items() if all(t.ndim <= 2 for t in parts.values())}
        updates = {name: _update(name, parts, settings) for name, parts in flat.items()}
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error
    saved = {key: tensor for key, tensor in rest.items() if not key.endswith((LORA_BIAS, TRAINED_TOKENS))}
    notes = _notes([name for name in modules if name not in flat], list(rest), list(saved))
    base_name = settings.get("base_model_name_or_path") or None
    return Adapter(file.resolve().parent.name, settings, updates, saved, notes, base_name)


def _update(name: str, parts: Parts, settings: Settings) -> AdapterUpdate:
    adalora = settings["peft_type"] == "ADALORA"
    embedding = is_embedding(parts)
    start = "" if adalora or embedding else start_of(settings)
    try:
        check_parts(parts, settings)
        product = _adalora(name, parts, settings) if adalora else _lora(name, parts, settings, embedding, bool(start))
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error
    magnitude = parts.get("lora_magnitude_vector")
    applied = [start, "rslora" if settings.get("use_rslora") else "", "dora" if magnitude is not None else ""]
    kind = "adalora" if adalora else "+".join(filter(None, applied)) or "lora"
    turned, note = bool(settings.get("fan_in_fan_out")) and not embedding, _caution(name, start, settings, magnitude)
    return AdapterUpdate(name, kind, product, start, magnitude, embedding, turned, note)


def _lora(name: str, parts: Parts, settings: Settings, embedding: bool, cut: bool) -> LowRank:
    """s B A; a start that is `cut` from W0 has at most min(out, in) directions, whatever the rank set."""
    if embedding:
        B, A = parts["lora_embedding_A"].T, parts["lora_embedding_B"].T
    else:
        B, A = parts["lora_B"], parts["lora_A"]
    rank, alpha = number_for(settings, "r", name), number_for(settings, "lora_alpha", name)
    _check_rank(len(A), max(1, min(rank, len(B), A.shape[1]) if cut else rank))
    return LowRank(B, A, scaling_of(alpha, int(rank), bool(settings.get("use_rslora"))))


def _adalora(name: str, parts: Parts, settings: Settings) -> LowRank:
    """s B (E ∘ A). PEFT does not save the rank by which it divides. On loading it is init_r, even if fewer directions
    are kept."""
    initial, alpha = number("init_r", settings.get("init_r")), number("lora_alpha", settings.get("lora_alpha"))
    patterns = settings.get("rank_pattern") or {}
    if not isinstance(patterns, dict):
        raise ConfigError(f"rank_pattern={cut(patterns, 80)} is not possible: it is an object, from names to masks")
    kept = patterns.get(f"{name}.lora_E", initial)
    A, E = parts["lora_A"], parts["lora_E"]
    _check_rank(len(A), sum(map(bool, kept)) if isinstance(kept, list) else number("rank_pattern", kept))
    if E.shape != (len(A), 1):
        raise ConfigError(f"lora_E is {tuple(E.shape)}; expected {(len(A), 1)}")
    divisor = float(parts["ranknum"]) if "ranknum" in parts else initial
    return LowRank(parts["lora_B"], E.double() * A.double(), (alpha if alpha > 0 else len(A)) / (divisor + RANKNUM_EPS))


def _check_rank(rows: int, rank: float) -> None:
    if rows != rank:
        raise ConfigError(f"its factors have rank {rows}, but the settings give {rank}")


def _caution(name: str, start: str, settings: Settings, magnitude: Tensor | None) -> str:
    cautions = []
    if start and "niter" in str(settings["init_lora_weights"]):
        cautions.append(
            f"{settings['init_lora_weights']} started from a randomised SVD that cannot be repeated; "
            f"the exact SVD stands in, and may differ by more than the update itself: {CONVERT}"
        )
    if magnitude is not None and magnitude.element_size() < 4:
        cautions.append(f"the magnitudes are stored in {magnitude.dtype}: their rounding is part of the update")
    if settings["peft_type"] == "LORA" and len(alphas := set(map(str, matches(settings, "lora_alpha", name)))) > 1:
        cautions.append(
            f"several alpha_patterns match ({', '.join(sorted(alphas))}): PEFT sorts them on saving and loads the first"
        )
    return "; ".join(cautions)


def _notes(convolutions: list[str], rest: list[str], saved: list[str]) -> list[str]:
    kinds = {
        "the updates of these convolutions are not measured": convolutions,
        "lora_bias: these biases were tuned too and are not measured": [k for k in rest if k.endswith(LORA_BIAS)],
        "only some rows of these were tuned; they are not measured": [k for k in rest if k.endswith(TRAINED_TOKENS)],
        "saved in full beside the low-rank updates": saved,
    }
    return [f"{note} ({len(names)}): {_some(names)}" for note, names in kinds.items() if names]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
