"""The reference: the full fine-tune that a LoRA run is compared with. Which one it is, and whether it can be used."""

from __future__ import annotations

from pathlib import Path

from lorax_lab.config import RunConfig
from lorax_lab.record import record
from lorax_lab.record.folder import check_file, recorded_sha256

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


def lacks_comparison(folder: Path, reference: str | None) -> bool:
    """Whether a completed run is still to be compared with its reference: it was not, or the reference's weights have
    changed since.

    Args:
        folder: the run's, with a completed record.
        reference: run id of its reference; None where it wants none.
    """
    if reference is None:
        return False
    result = record.read_record(folder).completed
    if result.reference is None:
        return True
    if result.reference != reference or result.comparison is None:
        return False
    weights = reference_sha256(folder.parent / reference)
    return weights is not None and weights != result.comparison.weights_sha256


def reference_sha256(reference: Path) -> str | None:
    """The hash of the reference's weights, as its record has it; None where that cannot be said."""
    from lorax_lab.methods import METHODS, REFERENCE

    try:
        return recorded_sha256(reference, METHODS[REFERENCE].weights)
    except record.DamagedRecord:
        return None


def why_unusable(reference: Path) -> str | None:
    """Why a run cannot be compared with the reference in this folder; None where it can."""
    from lorax_lab.methods import METHODS, REFERENCE

    weights, status = METHODS[REFERENCE].weights, record.status_of(reference)
    if status is None or status == "damaged":
        return f"its reference {reference.name} is {status or 'not recorded'}"
    if status != "completed":
        reason = record.read_record(reference).reason
        return f"its reference {reference.name} is {status}" + (f" ({reason})" if reason else "")
    if not (reference / weights).exists():
        return f"the weights of its reference {reference.name} are gone; with force=true it is trained again"
    try:
        check_file(reference, weights)
    except record.DamagedRecord as error:
        return str(error)
    return None
