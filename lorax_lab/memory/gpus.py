"""How many GPUs a step needs, whole or sharded over several."""

from __future__ import annotations

from lorax_lab.memory.predict import Prediction

GIB = 2**30
GPU_SIZES = (24, 48, 80, 141)
"""GiB of memory of common GPUs; each reports this size within 1 %."""
RESERVED = GIB
"""Bytes of each GPU that the driver, its libraries and the gaps between blocks take: a round figure."""
MOST = 4096


def sharded_peak(prediction: Prediction, gpus: int) -> int:
    """Bytes at the peak on each of `gpus` GPUs; each GPU has its own batch.

    Weights, gradients and optimizer states are divided among them (ZeRO stage 3, Rajbhandari et al. 2020), activations
    and temporaries are not. A layer is whole again while it is used, and the next one is already being fetched.
    Embeddings and head, which lie outside the layers, stay whole.
    """
    if gpus == 1:
        return prediction.ledger.peak_bytes
    return max(-(-static // gpus) + other for static, other in prediction.moments) + prediction.gathered


def gpus_needed(prediction: Prediction, size: int) -> int | None:
    """The fewest GPUs of `size` GiB that hold the step.

    None where no number of them does: the part that each GPU must hold whole is too large already.
    """
    room = size * GIB - RESERVED
    if sharded_peak(prediction, 1) <= room:
        return 1
    if sharded_peak(prediction, MOST) > room:
        return None
    low, high = 2, MOST  # the peak falls with the number of GPUs
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if sharded_peak(prediction, middle) <= room else (middle + 1, high)
    return low
