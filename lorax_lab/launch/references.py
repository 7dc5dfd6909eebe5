"""The reference: the full fine-tune that a LoRA run is compared with. Which one it is, and whether it can be used."""

from __future__ import annotations

from pathlib import Path

from lorax_lab.config import RunConfig
from lorax_lab.store import record
from lorax_lab.store.folder import check_file

REFERENCE_DROPS = ("method", "rank", "train.learning_rate")
"""Overrides of a LoRA run that its full fine-tune does not take over. Each method has its own learning rate."""


def wants_reference(config: RunConfig) -> bool:
    """Whether a run is compared with a full fine-tune: a full fine-tune, a trial and a run with `reference=false` are
    not."""
    from lorax_lab.methods import METHODS

    return config.reference and not METHODS[config.method.name].is_reference and config.measure != "trial"


def reference_overrides(overrides: list[str]) -> list[str]:
    """The same command line with the reference's method: same model, task, data, budget and seed.

    >>> reference_overrides(["rank=8", "seed=1", "train.epochs=2", "method.alpha=32"])
    ['seed=1', 'train.epochs=2', 'method=full']
    """
    from lorax_lab.methods import REFERENCE

    keys = [override.partition("=")[0].lstrip("+") for override in overrides]
    kept = [
        override
        for override, key in zip(overrides, keys, strict=True)
        if not key.startswith("method.") and key not in REFERENCE_DROPS
    ]
    return [*kept, f"method={REFERENCE}"]


def why_unusable(reference: Path) -> str | None:
    """Why a run cannot be compared with the reference in this folder; None where it can."""
    from lorax_lab.methods import METHODS, REFERENCE

    weights = METHODS[REFERENCE].weights
    if record.status_of(reference) != "completed" or not (reference / weights).exists():
        return f"{reference.name} is not complete, or its weights are gone"
    try:
        check_file(reference, weights)
    except record.DamagedRecord as error:
        return str(error)
    return None
