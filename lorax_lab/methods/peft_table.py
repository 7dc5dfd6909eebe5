"""PEFT's methods that change weight matrices, one entry each; and those that are left out, with the reason.

A new one is an entry here and a file in `conf/method/peft/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

NONE: Mapping[str, Any] = {}
R: Mapping[str, float] = {"r": 1.0}


HEADER = "| `method=peft/…` | what `rank` sets | ΔW at the start | rank of ΔW | how ΔW is read | paper |"
STARTS = {"zero": "0", "rounding": "0, to rounding", "drawn": "not 0"}


@dataclass(frozen=True)
class Entry:
    """One method of PEFT.

    Attributes:
        type: PEFT's own name of it, `peft_type` in an adapter's settings.
        paper: where it comes from; empty where PEFT names none.
        rank: the PEFT settings that the run's `rank` sets, each with the factor; empty where it has no rank.
        fixed: PEFT settings that make it this method, which nobody types.
        start: ΔW right after `attach`: `zero`, `rounding` (zero but for fp32 rounding) or `drawn` (not zero).
        update_rank: what rank ΔW has, in words: `≤ r`, `≤ 2r`, …, or `full`.
        bound: rank of ΔW at most, as a multiple of the run's rank; 0 where only the matrix bounds it.
        power: of the run's rank in that bound.
        times: the setting that this bound is a multiple of.
        plus: the setting whose directions come on top of that bound.
        unbounded: a setting and its value with which only the matrix bounds the rank after all.
        computed_in: the precision in which PEFT computes a merged weight, even if all its parts are fp64.
        factors: how ΔW is read as factors (`peft_model.FACTORS`); empty where it is merged and subtracted.
        quick: fixed settings for a trial of one layer, where the real start would take an SVD.
        stepped: whether it acts between optimizer steps (`peft_adalora`).
    """

    type: str
    paper: str
    rank: Mapping[str, float] = field(default_factory=lambda: R)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    start: str = "zero"
    update_rank: str = "full"
    bound: float = 0
    power: int = 1
    times: str = ""
    plus: str = ""
    unbounded: tuple[str, Any] | None = None
    computed_in: torch.dtype = torch.float64
    factors: str = ""
    quick: Mapping[str, Any] = field(default_factory=dict)
    stepped: bool = False

    def line(self, name: str) -> str:
        """The method as a row of the table in docs/methods.md.

        >>> Entry("IA3", "https://arxiv.org/abs/2205.05638", {}).line("ia3")
        '| `ia3` | no rank | 0 | full | merged | [2205.05638](https://arxiv.org/abs/2205.05638) |'
        """
        times = {1.0: "", 1.5: " (1.5 times)"}
        sets = ", ".join(f"`{key}`{times[factor]}" for key, factor in self.rank.items()) or "no rank"
        link = f"[{self.paper.rpartition('/')[2].rpartition('=')[2]}]({self.paper})" if self.paper else "PEFT's own"
        read = "factors" if self.factors else "merged" if self.computed_in == torch.float64 else "merged, in fp32"
        return f"| `{name}` | {sets} | {STARTS[self.start]} | {self.update_rank} | {read} | {link} |"


def _lora(paper: str, init: Any, start: str = "zero", **fixed: Any) -> Entry:
    """A variant of LoRA whose ΔW is a product of factors; `init` is its init_lora_weights."""
    cut = init in ("pissa", "olora")
    quick = {"init_lora_weights": True} if init in ("pissa", "mica") else {}
    fixed |= {} if init is None else {"init_lora_weights": init}
    words, bound = ("≤ 2r", 2) if cut else ("≤ r", 1)
    return Entry("LORA", paper, R, fixed, start, words, bound, factors="lora", quick=quick)


ARXIV = "https://arxiv.org/abs/"
FP32 = torch.float32
SMALL: Mapping[str, Any] = {"update_rank": "≤ r", "bound": 1}

TABLE: dict[str, Entry] = {
    "lora": _lora(ARXIV + "2106.09685", None, use_rslora=False, use_dora=False),
    "rslora": _lora(ARXIV + "2312.03732", None, use_rslora=True, use_dora=False),
    "pissa": _lora(ARXIV + "2404.02948", "pissa", "rounding", use_dora=False),
    "olora": _lora(ARXIV + "2406.01775", "olora", "rounding", use_dora=False),
    "mica": _lora(ARXIV + "2604.01694", "mica", use_dora=False),
    "dora": Entry("LORA", ARXIV + "2402.09353", fixed={"use_dora": True}, start="rounding"),
    "adalora": Entry(
        "ADALORA", ARXIV + "2303.10512", {"target_r": 1.0, "init_r": 1.5},
        {"use_dora": False, "use_rslora": False, "r": 8},  # it does not read r
        update_rank="≤ 1.5r", bound=1.5, factors="adalora", stepped=True,
    ),
    "vera": Entry("VERA", ARXIV + "2310.11454", factors="vera", **SMALL),
    "pvera": Entry("PVERA", ARXIV + "2512.07703", **SMALL),
    "vblora": Entry("VBLORA", ARXIV + "2405.15179", start="drawn", factors="shared", **SMALL),
    "unilora": Entry("UNILORA", ARXIV + "2506.00799", start="drawn", factors="shared", **SMALL),
    "tinylora": Entry("TINYLORA", ARXIV + "2602.04118", **SMALL),
    "delora": Entry("DELORA", ARXIV + "2503.18225", **SMALL),
    "miss": Entry("MISS", ARXIV + "2409.15371", unbounded=("init_weights", "bat"), **SMALL),
    "hra": Entry("HRA", ARXIV + "2405.17484", start="rounding", **SMALL),
    "psoft": Entry("PSOFT", "https://openreview.net/forum?id=FSHrinMArK", **SMALL),
    "deft": Entry("DEFT", "", computed_in=FP32, start="rounding", **SMALL),
    "adamss": Entry(
        "ADAMSS", "", {"subspace_rank": 1.0}, {"use_asa": False, "use_dynamic_rank": False},
        update_rank="≤ r × num_subspaces", bound=1, times="num_subspaces",
    ),
    "gralora": Entry(
        "GRALORA", ARXIV + "2505.20355", update_rank="≤ r × gralora_k + hybrid_r", bound=1, times="gralora_k",
        plus="hybrid_r",
    ),
    "loha": Entry("LOHA", ARXIV + "2108.06098", update_rank="≤ r²", bound=1, power=2),
    "lokr": Entry("LOKR", ARXIV + "2309.14859"),
    "hira": Entry("HIRA", "https://openreview.net/forum?id=TwJrTz9cRS"),
    "glora": Entry("GLORA", ARXIV + "2306.07967", fixed={"config_D_E": "none"}),
    "peanut": Entry("PEANUT", ARXIV + "2410.01870", **SMALL),
    "randlora": Entry("RANDLORA", ARXIV + "2502.00987"),
    "shira": Entry("SHIRA", ARXIV + "2406.13175"),
    "oft": Entry("OFT", ARXIV + "2306.07280", NONE, {"r": 0}),
    "boft": Entry("BOFT", ARXIV + "2311.06243", NONE, {"boft_block_num": 0}),
    "road": Entry("ROAD", ARXIV + "2409.00119", NONE),
    "ia3": Entry("IA3", ARXIV + "2205.05638", NONE),
    "fourierft": Entry("FOURIERFT", ARXIV + "2405.03003", NONE, start="drawn", computed_in=FP32),
    "waveft": Entry("WAVEFT", ARXIV + "2505.12532", NONE),
    "c3a": Entry("C3A", ARXIV + "2407.19342", NONE, start="drawn", computed_in=FP32),
    "frod": Entry("FROD", "https://doi.org/10.1609/aaai.v40i31.39813", NONE, {"progressbar": False}, start="rounding"),
    "supertuning": Entry(
        "SUPERTUNING", ARXIV + "2607.09287", NONE, {"r": None, "lora_alpha": None, "lora_dropout": 0.0}
    ),
}  # fmt: skip


def table() -> str:
    """The methods as a Markdown table."""
    rule = "|---" * HEADER.count(" | ") + "|---|"
    return "\n".join([HEADER, rule, *(entry.line(name) for name, entry in TABLE.items())])


def left_out() -> str:
    """What is left out, as a Markdown table: one row for each reason."""
    reasons = dict.fromkeys(LEFT_OUT.values())
    names = {reason: ", ".join(f"`{name}`" for name, own in LEFT_OUT.items() if own == reason) for reason in reasons}
    return "\n".join(["| left out | why |", "|---|---|", *(f"| {names[reason]} | {reason} |" for reason in reasons)])


DATA = "its start is computed from the model's activations or gradients on data, and a method here starts from weights"
PROMPT = "it changes what the model reads, and no weight matrix"
INPUT = "its update depends on the input: no one ΔW stands for it"
LEFT_OUT: dict[str, str] = {
    "eva": DATA,
    "corda": DATA,
    "lora_ga": DATA,
    "loftq": "it starts from a quantized base",
    "qalora": "it needs a quantized base",
    "osf": "it trains the matrices themselves, with more parameters than full fine-tuning, and cannot be unmerged",
    "beft": "it trains biases, and no weight matrix",
    "ln_tuning": "it trains layer norms, and no weight matrix",
    "trainable_tokens": "it trains rows of embeddings, and no linear layer",
    "lily": INPUT,
    "xlora": INPUT,
    "poly": INPUT,
    "shadow": "it runs a second model beside the first",
    **dict.fromkeys(("prompt_tuning", "multitask_prompt_tuning", "p_tuning", "prefix_tuning"), PROMPT),
    **dict.fromkeys(("cpt", "cartridge", "adaption_prompt"), PROMPT),
}
"""Methods of PEFT that are refused by name."""
