"""What a precision costs on this processor: tried, not guessed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import lru_cache

from lorax_lab.config import RunConfig, TrainConfig

SLOWER = 1.2
"""A ratio above which bf16 is said to be slower; a busy machine moves it by less."""
SIDE, TRIES = 512, 5


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
