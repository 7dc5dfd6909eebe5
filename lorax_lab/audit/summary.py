"""What an audit found, in words and as a table by module type."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from lorax_lab.audit.store import Measured
from lorax_lab.audit.updates import Updates
from lorax_lab.spectra import MEASURES

SHARES = (0.5, 0.9, 0.99)


def uniform_ranks(measured: list[Measured]) -> dict[float, int | None]:
    """Smallest rank r, one for all matrices, such that their best rank-r updates hold a share of Σ‖ΔW‖²_F.

    Eckart & Young 1936, matrix by matrix. None where only the top of the spectra is known and does not reach it.
    """
    longest = max((len(m.sigma) for m in measured), default=0)
    held, total = np.zeros(longest), 0.0
    for m in measured:
        energy = np.square(m.sigma)
        held += np.pad(np.cumsum(energy), (0, longest - len(energy)), mode="edge") if len(energy) else 0.0
        total += m.row["frobenius_norm"] ** 2
    found: dict[float, int | None] = {}
    for share in SHARES:
        enough = np.flatnonzero(held >= share * total * (1 - 1e-9))
        found[share] = int(enough[0]) + 1 if total and len(enough) else None
    return found


def table(measured: list[Measured]) -> Table:
    """One line per module type: medians over its matrices, and the largest of them where that tells more."""
    groups: dict[str, list[Measured]] = defaultdict(list)
    for m in measured:
        groups[m.row["module"]].append(m)
    shown = Table(
        title="by module type: medians over its matrices", title_justify="left", caption_justify="left", box=SIMPLE_HEAD
    )
    shown.add_column("module", overflow="fold", min_width=30)
    for heading in ("n", "‖ΔW‖/‖W‖", "effective/noise", "stable", "spikes", "energy"):
        shown.add_column(heading, justify="right")
    for share in SHARES:
        shown.add_column(f"{share:.0%}", justify="right")
    shown.add_column("flagged", justify="right")
    for module, members in groups.items():
        shown.add_row(module, *_cells(members))
    shown.caption = (
        "n: matrices; effective/noise: effective rank, and that of noise of the same shape (for factors: of Gaussian "
        "factors of their rank); spikes: directions above the noise, and the energy they hold; 50%: the LoRA rank "
        f"that could hold that share of it; flagged: of {len(MEASURES)} measures, those that the rounding floor decides"
    )
    return shown


def _cells(members: list[Measured]) -> list[str]:
    flags = {name for m in members for name in str(m.row.get("untrusted") or "").split()}
    return [
        str(len(members)),
        _median(members, "relative_norm", ".2g"),
        f"{_median(members, 'effective_rank')} / {_median(members, 'null.effective_rank')}",
        _median(members, "stable_rank"),
        _median(members, "spikes", ",.0f"),
        _median(members, "spike_energy", ".0%"),
        *[_median(members, f"energy_rank_{share:.0%}".rstrip("%"), ",.0f") for share in SHARES],
        str(len(flags)),
    ]


def _median(members: list[Measured], key: str, form: str = "") -> str:
    """The median of the known values; without a form with one decimal below 100, none from there on."""
    values = [m.row[key] for m in members if not math.isnan(_number(m.row.get(key)))]
    if not values:
        return "–"
    median = float(np.median(values))
    return format(median, form or (",.0f" if median >= 100 else ".1f"))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def verdict(subject: Updates, measured: list[Measured]) -> list[str]:
    """The findings, a sentence or two each: size, what stands above the noise, which rank would carry it, storage."""
    changed = [m for m in measured if m.row["frobenius_norm"] > 0]
    said = [_size(measured, changed)]
    if changed:
        said += [_above_noise(changed), _carried(changed), _functional(), *_storage(changed)]
    return [sentence for sentence in said if sentence]


def _size(measured: list[Measured], changed: list[Measured]) -> str:
    count = f"{len(measured)} matrices with {sum(m.row['out'] * m.row['in'] for m in measured):,} weights were measured"
    same = len(measured) - len(changed)
    still = f"; {same} did not change at all" if same else ""
    if not changed:
        return f"{count}; none of them changed."
    relative = [m.row["relative_norm"] for m in changed if not math.isnan(_number(m.row.get("relative_norm")))]
    size = f" The update is {np.median(relative):.2g} of the weights' norm in the median matrix." if relative else ""
    return f"{count}{still}.{size}"


def _above_noise(changed: list[Measured]) -> str:
    known = [m for m in changed if "spikes" in m.row]
    if not known:
        ranks = sorted({int(m.row["rank"]) for m in changed if "rank" in m.row})
        effective = np.median([m.row["effective_rank"] for m in changed])
        null = np.median([m.row["null.effective_rank"] for m in changed])
        return (
            f"The update is a product of factors of rank {_range(ranks)}. Its effective rank is {effective:.1f} in the "
            f"median; Gaussian factors of that rank would have {null:.1f}."
        )
    counts = [int(m.row["spikes"]) for m in known]
    energy = sum(m.row["spike_energy"] * m.row["frobenius_norm"] ** 2 for m in known)
    share = energy / sum(m.row["frobenius_norm"] ** 2 for m in known)
    effective = [m.row["effective_rank"] for m in known if not math.isnan(_number(m.row.get("effective_rank")))]
    null = np.median([m.row["null.effective_rank"] for m in known])
    text = (
        f"The effective rank is {np.median(effective):,.0f} in the median, noise's {null:,.0f}. " if effective else ""
    )
    text += (
        f"{_range(sorted(counts))} directions of a matrix stand above its noise (median {np.median(counts):.0f}); all "
        f"of them hold {share:.0%} of the energy ‖ΔW‖²_F."
    )
    misfits = [m.row["bulk_misfit"] for m in known if not math.isnan(_number(m.row.get("bulk_misfit")))]
    far = sum(m.row["bulk_misfit"] > 2 * _misfit_of_noise(m) for m in known if "bulk_misfit" in m.row)
    if far:
        text += (
            f" In {far} of {len(known)} matrices the rest is not distributed as iid noise (Kolmogorov–Smirnov distance "
            f"up to {max(misfits):.2f}): there the edge is that of the best-fitting noise, and what lies below it need "
            "not be chance."
        )
    return text


def _misfit_of_noise(measured: Measured) -> float:
    """What `bulk_misfit` is for iid noise of this shape; twice that is no noise."""
    m = min(measured.row["out"], measured.row["in"])
    return (0.4 + 0.27 * math.log2(m)) / m


def _carried(changed: list[Measured]) -> str:
    ranks = uniform_ranks(changed)
    parts = [f"{rank} for {share:.0%}" for share, rank in ranks.items() if rank is not None]
    parts += [
        f"more than the {max(len(m.sigma) for m in changed)} measured for {s:.0%}"
        for s, r in ranks.items()
        if r is None
    ]
    text = f"A LoRA of one rank in every matrix could hold the update's energy from this rank on: {', '.join(parts)}."
    dense = [m for m in changed if "rank" not in m.row]
    if dense:
        size = np.median([min(m.row["out"], m.row["in"]) for m in dense])
        null = np.median([m.row["null.energy_rank_90"] for m in dense])
        text += f" Pure noise of these shapes would need {null:,.0f} of {size:,.0f} for 90% in the median matrix."
    return text


def _functional() -> str:
    return "Energy is not accuracy: what a cut update scores is told by the functional rank of a run, not by this."


def _storage(changed: list[Measured]) -> list[str]:
    pairs = [m for m in changed if m.row["kind"] == "pair"]
    if not pairs:
        return []
    dtypes = sorted({f"{m.row['base_dtype']} → {m.row['tuned_dtype']}" for m in pairs})
    rounded = sum(m.row["rounding_share"] * m.row["frobenius_norm"] ** 2 for m in pairs)
    share = rounded / sum(m.row["frobenius_norm"] ** 2 for m in pairs)
    said = f"Stored as {', '.join(dtypes)}: rounding alone would put {share:.2g} of the energy into ΔW."
    flagged: dict[str, int] = defaultdict(int)
    for m in pairs:
        for name in str(m.row.get("untrusted") or "").split():
            flagged[name] += 1
    if not flagged:
        return [f"{said} No measure depends on what lies under the rounding floor."]
    names = ", ".join(f"{name} ({count} of {len(pairs)} matrices)" for name, count in flagged.items())
    return [f"{said} Do not trust, because what lies under the rounding floor decides them: {names}."]


def _range(numbers: list[int]) -> str:
    low, high = numbers[0], numbers[-1]
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
