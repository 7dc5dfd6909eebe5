"""What an audit says about an update and noise: its ranks beside four nulls, and the directions above its own noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lorax_lab.audit.store import Measured
from lorax_lab.spectra import NULLS, Row, noise_misfit, tells_spikes

NOT_TOLD = "not told"
KEPT = {
    "scaled": "with the update's own scales of rows and columns",
    "signs": "with its magnitudes and other signs",
    "permuted": "with its entries in another order",
}
"""What each null of `NULLS` keeps."""
CORRELATED = (
    "Noise whose entries are correlated can lie below all of these too: directions that reproduce over seeds are "
    "better evidence."
)


def number(value: float | None) -> float:
    """NaN for what was not measured."""
    return math.nan if value is None else float(value)


def told(row: Row) -> Row:
    """Columns that say whether a dense update's `spikes` are directions above noise: `spikes_told`, NaN where they are
    not, and then `spikes_not_told`, why."""
    if "spikes" not in row:
        return {}
    shape, misfit = (row["out"], row["in"]), number(row.get("bulk_misfit"))
    if tells_spikes(misfit, number(row.get("noise_std")), shape):
        return {"spikes_told": row["spikes"]}
    iid = noise_misfit(shape)
    reason = f"the bulk is not that of iid noise: misfit {misfit:.2g}, iid noise has {iid:.2g}"
    return {"spikes_told": math.nan, "spikes_not_told": "no bulk was measured" if math.isnan(misfit) else reason}


def least_null(row: Row) -> float:
    """The lowest effective rank of the nulls that keep an update's structure; NaN where they were not drawn."""
    drawn = [number(row.get(f"nulls.{name}.effective_rank")) for name in NULLS]
    return math.nan if any(map(math.isnan, drawn)) else min(drawn)


def beside_noise(dense: Sequence[Measured]) -> str:
    """The median effective rank beside those of iid noise and of each null that was drawn; how many directions stand
    above the noise, where that is told."""
    rows = [m.row for m in dense]
    effective = _median(rows, "effective_rank")
    parts = [f"The median effective rank is {effective:,.0f}; iid noise of these shapes has "] if effective else []
    parts += [f"{_median(rows, 'null.effective_rank'):,.0f}"] if parts else []
    drawn = {name: _median(rows, f"nulls.{name}.effective_rank") for name in NULLS} if parts else {}
    parts += [f", noise {KEPT[name]} {value:,.0f}" for name, value in drawn.items() if value]
    parts += [f". {CORRELATED} " if any(drawn.values()) else ". "] if parts else []
    return "".join(parts) + _spikes(rows)


def _spikes(rows: list[Row]) -> str:
    counted = [row for row in rows if "spikes_not_told" not in told(row)]
    others = [row for row in rows if "spikes_not_told" in told(row)]
    parts = []
    if counted:
        counts = sorted(int(row["spikes"]) for row in counted)
        held = sum(row["spike_energy"] * row["frobenius_norm"] ** 2 for row in counted)
        share = held / sum(row["frobenius_norm"] ** 2 for row in counted)
        which = f" (in the {len(counted)} of {len(rows)} matrices where that is told)" if others else ""
        parts.append(
            f"{spread(counts)} directions of a matrix stand above its noise{which}, {np.median(counts):.0f} in the "
            f"median. Together they hold {share:.0%} of the energy ‖ΔW‖²_F."
        )
    if others:
        misfits = [misfit for row in others if not math.isnan(misfit := number(row.get("bulk_misfit")))]
        iid = max(noise_misfit((row["out"], row["in"])) for row in others)
        why = (
            f"the bulk is not that of iid noise (Kolmogorov–Smirnov distance up to {max(misfits):.2g}, where iid noise "
            f"has {iid:.2g})"
            if misfits
            else "only the top of the spectrum was measured"
        )
        parts.append(
            f"In {len(others)} of {len(rows)} matrices {why}: how many of their directions stand above its noise is "
            f"{NOT_TOLD}."
        )
    return " ".join(parts)


def spread(counts: list[int]) -> str:
    """The least and the most of sorted numbers, or the one that both are."""
    low, high = counts[0], counts[-1]
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _median(rows: list[Row], key: str) -> float | None:
    known = [value for row in rows if not math.isnan(value := number(row.get(key)))]
    return float(np.median(known)) if known else None
