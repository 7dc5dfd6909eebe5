"""Which cards a step fits on, whole or sharded over several."""

from __future__ import annotations

from lorax_lab.memory.predict import Prediction

GIB = 2**30
CARDS = (24, 48, 80, 141)
"""GiB of memory of common cards; what they report is within 1 % of this."""
RESERVED = GIB
"""Bytes of every card that the driver, its libraries and the gaps between blocks take: a round figure."""
MOST = 4096


def sharded_peak(prediction: Prediction, cards: int) -> int:
    """Bytes at the peak of each of `cards` cards, the batch being each card's own.

    Weights, gradients and optimizer states are divided among them (ZeRO stage 3, Rajbhandari et al. 2020), activations
    and temporaries are not. A layer is whole again while it is used, and the next one is already being fetched. What
    lies outside the layers (embeddings, head) stays whole.
    """
    if cards == 1:
        return prediction.ledger.peak_bytes
    return max(-(-static // cards) + other for static, other in prediction.moments) + prediction.gathered


def cards_needed(prediction: Prediction, card: int) -> int | None:
    """The fewest cards of `card` GiB that hold the step; None where no number does, because the part that every card
    must hold is too large already."""
    room = card * GIB - RESERVED
    if sharded_peak(prediction, 1) <= room:
        return 1
    if sharded_peak(prediction, MOST) > room:
        return None
    low, high = 2, MOST  # the peak falls with the number of cards
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if sharded_peak(prediction, middle) <= room else (middle + 1, high)
    return low
