"""What a precision costs on this processor: tried, not guessed. And `train.precision=auto`, the faster one here."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from lorax_lab.config import AUTO, RunConfig, TrainConfig
from lorax_lab.config.overrides import values_of
from lorax_lab.launch.trials import chosen
from lorax_lab.launch.words import key_of

SLOWER = 1.2
"""A ratio above which bf16 is said to be slower; a busy machine moves it by less."""
KEY = "train.precision"
FASTER = 0.8
"""A ratio up to which `auto` chooses bf16; above it, casts between the precisions take what the products save."""
SIDE, TRIES = 512, 5


def settled(config: RunConfig) -> RunConfig:
    """The configuration with fp32 or bf16 in the place of `auto`. Both decide bits, so a run's name follows from the
    one that is chosen, and all arms of a sweep have the same."""
    if config.train.precision != AUTO:
        return config
    return replace(config, train=replace(config.train, precision=faster(config.train)))


def faster(config: TrainConfig) -> str:
    """`bf16` where products are faster in it: tried on a processor, known of GPUs with units for it; else `fp32`."""
    import torch

    if on_a_processor(config):
        return chosen("precision", ("fp32", "bf16"), _decide)
    gpu = config.device in (AUTO, "cuda") and torch.cuda.is_available()
    return "bf16" if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def _decide() -> tuple[str, float]:
    ratio = bf16_ratio()
    return "bf16" if ratio <= FASTER else "fp32", ratio


def of_auto(overrides: Iterable[str], config: RunConfig) -> list[str]:
    """What `train.precision=auto`, if it is typed, stands for here."""
    if not any(key_of(override) == KEY and AUTO in values_of(override) for override in overrides):
        return []
    return [f"{KEY}=auto is {KEY}={faster(config.train)} here"]


def notes(configs: Iterable[RunConfig]) -> list[str]:
    """What is to be said of the precision of runs before they begin."""
    asked = any(config.train.precision == "bf16" and on_a_processor(config.train) for config in configs)
    if not asked or (ratio := bf16_ratio()) <= SLOWER:
        return []
    cost = f"a product of matrices takes {ratio:.1f} times as long in bf16 as in fp32 here"
    return [f"train.precision=bf16: {cost}, tried just now; type train.precision=fp32 for speed"]


def on_a_processor(config: TrainConfig) -> bool:
    """Whether a run trains on the machine's processor, and on no accelerator."""
    import torch

    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    return config.device == "cpu" or (config.device == "auto" and not accelerated)


@lru_cache(maxsize=1)
def bf16_ratio() -> float:
    """Time of a bf16 product of square matrices on this processor over that of an fp32 one, the best of five each."""
    import torch

    def seconds(dtype: torch.dtype) -> float:
        matrix = torch.full((SIDE, SIDE), 0.5, dtype=dtype)
        best = float("inf")
        for _ in range(TRIES + 1):
            start = time.perf_counter()
            matrix @ matrix
            best = min(best, time.perf_counter() - start)
        return best

    return seconds(torch.bfloat16) / seconds(torch.float32)
