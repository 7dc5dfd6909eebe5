"""PEFT's methods that change weight matrices, one entry each; and those that are left out, with the reason.

A new one is an entry here and a file in `conf/method/peft/`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Entry:
    """One method of PEFT."""

    type: str  # PEFT's own name of it, `peft_type` in an adapter's settings
    rank: Mapping[str, float] = field(default_factory=lambda: {"r": 1.0})  # what the run's `rank` sets, times a factor
    fixed: Mapping[str, Any] = field(default_factory=dict)  # settings that make it this method, which nobody types
    start: str = "zero"  # ΔW after `attach`: `zero`, `rounding` (zero but for fp32 rounding) or `drawn` (not zero)
    most: Callable[[Any, int], float] | None = None  # (settings, rank) gives the rank of ΔW; None: the matrix bounds it
    computed_in: torch.dtype = torch.float64  # the precision of PEFT's merged weight, even if all parts are fp64
    has_factors: bool = False  # whether ΔW is read as LoRA's factors; else it is merged and subtracted
    quick: Mapping[str, Any] = field(default_factory=dict)  # for a trial of one layer, where the start takes an SVD
    cuts_rank: bool = False  # whether it takes directions away between optimizer steps (`peft_adalora`)


def _rank(settings: Any, rank: int) -> int:
    return rank


def _lora(start: str = "zero", most: Callable[[Any, int], float] = _rank, quick: Any = None, **fixed: Any) -> Entry:
    return Entry("LORA", fixed=fixed, start=start, most=most, has_factors=True, quick=quick or {})


NONE: Mapping[str, float] = {}
FP32 = torch.float32
PLAIN = {"init_lora_weights": True}
TABLE: dict[str, Entry] = {
    "lora": _lora(use_rslora=False, use_dora=False),
    "rslora": _lora(use_rslora=True, use_dora=False),
    "pissa": _lora("rounding", lambda s, r: 2 * r, PLAIN, use_dora=False, init_lora_weights="pissa"),
    "olora": _lora("rounding", lambda s, r: 2 * r, use_dora=False, init_lora_weights="olora"),
    "mica": _lora(quick=PLAIN, use_dora=False, init_lora_weights="mica"),
    "dora": Entry("LORA", fixed={"use_dora": True}, start="rounding"),
    "adalora": Entry(
        "ADALORA", {"target_r": 1.0, "init_r": 1.5},
        {"use_dora": False, "use_rslora": False, "r": 8, "total_step": 2**31},  # r is not read; the loop says the steps
        most=lambda s, r: 1.5 * r, has_factors=True, cuts_rank=True,
    ),
    "vera": Entry("VERA", most=_rank),
    "pvera": Entry("PVERA", most=_rank),
    "vblora": Entry("VBLORA", start="drawn", most=_rank),
    "unilora": Entry("UNILORA", start="drawn", most=_rank),
    "tinylora": Entry("TINYLORA", fixed={"init_weights": True}, most=_rank),  # False: from what memory happens to hold
    "delora": Entry("DELORA", most=_rank),
    "miss": Entry("MISS", most=lambda s, r: float("inf") if s.init_weights == "bat" else r),
    "hra": Entry("HRA", fixed={"apply_GS": False}, start="rounding", most=_rank),  # True: from rounding errors
    "psoft": Entry("PSOFT", most=_rank),
    "deft": Entry("DEFT", start="rounding", most=_rank, computed_in=FP32),
    "adamss": Entry(
        "ADAMSS", {"subspace_rank": 1.0}, {"use_asa": False, "use_dynamic_rank": False},
        most=lambda s, r: r * s.num_subspaces,
    ),
    "gralora": Entry("GRALORA", most=lambda s, r: r * s.gralora_k + s.hybrid_r),
    "loha": Entry("LOHA", most=lambda s, r: r**2),
    "lokr": Entry("LOKR"),
    "hira": Entry("HIRA"),
    "glora": Entry("GLORA", fixed={"config_D_E": "none"}),
    "peanut": Entry("PEANUT", most=_rank),
    "randlora": Entry("RANDLORA"),
    "shira": Entry("SHIRA"),
    "oft": Entry("OFT", NONE, {"r": 0}),
    "boft": Entry("BOFT", NONE, {"boft_block_num": 0}),
    "road": Entry("ROAD", NONE),
    "ia3": Entry("IA3", NONE, {"feedforward_modules": []}),
    "fourierft": Entry("FOURIERFT", NONE, start="drawn", computed_in=FP32),
    "waveft": Entry("WAVEFT", NONE),
    "c3a": Entry("C3A", NONE, start="drawn", computed_in=FP32),
    "frod": Entry("FROD", NONE, {"progressbar": False}, start="rounding"),
    "supertuning": Entry("SUPERTUNING", NONE, {"r": None, "lora_alpha": None, "lora_dropout": 0.0}),
}  # fmt: skip
REASONS = {
    "eva, corda, lora_ga": "its start is computed from data, and a method here starts from weights",
    "loftq, qalora": "it needs a quantized base",
    "osf": "it trains the matrices themselves, with more parameters than full fine-tuning, and cannot be unmerged",
    "beft, ln_tuning, trainable_tokens": "it trains biases, norms or embeddings, and no weight matrix",
    "lily, xlora, poly": "its update depends on the input: no one ΔW stands for it",
    "shadow": "it runs a second model beside the first",
    "prompt_tuning, multitask_prompt_tuning, p_tuning, prefix_tuning, cpt, cartridge, adaption_prompt": (
        "it changes what the model reads, and no weight matrix"
    ),
}
LEFT_OUT = {name: reason for names, reason in REASONS.items() for name in names.split(", ")}
"""Methods of PEFT that are refused by name, and why."""
