"""An audit's findings, as sentences and as a table by module type."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from lorax_lab.audit.noise import NOT_TOLD, beside_noise, least_null, number, spread, told
from lorax_lab.audit.store import Measured
from lorax_lab.spectra import MEASURES

SHARES = (0.5, 0.9, 0.99)
NOT_ACCURACY = (
    "Energy is not accuracy. Only a run measures how a truncated update scores: python -m lorax_lab.run method=full"
)


def uniform_ranks(measured: list[Measured]) -> dict[float, int | None]:
    """For each share, the smallest rank r such that the best rank-r updates of all matrices hold it of Σ‖ΔW‖²_F.

    Eckart & Young 1936, matrix by matrix. None where only the top of each spectrum is known and does not hold it.
    """
    longest = max((len(m.sigma) for m in measured), default=0)
    held, total = np.zeros(longest), 0.0
    for m in measured:
        energy = np.square(m.sigma)
        held += np.pad(np.cumsum(energy), (0, longest - len(energy)), mode="edge") if len(energy) else 0.0
        total += m.row["frobenius_norm"] ** 2
    ranks: dict[float, int | None] = {}
    for share in SHARES:
        enough = np.flatnonzero(held >= share * total * (1 - 1e-9))
        ranks[share] = int(enough[0]) + 1 if total and len(enough) else None
    return ranks


def table(measured: list[Measured]) -> Table:
    """One line per module type: medians over its matrices, and how many measures rounding decides in any of them."""
    groups: dict[str, list[Measured]] = defaultdict(list)
    for m in measured:
        groups[m.row["module"]].append(m)
    shown = Table(
        title="by module type: medians over its matrices", title_justify="left", caption_justify="left", box=SIMPLE_HEAD
    )
    shown.add_column("module", overflow="fold", min_width=28)
    for heading in ("n", "‖ΔW‖/‖W‖", "effective/noise", "null", "stable", "spikes"):
        shown.add_column(heading, justify="right")
    for share in SHARES:
        shown.add_column(f"{share:.0%}", justify="right")
    shown.add_column("flagged", justify="right")
    for module, members in groups.items():
        shown.add_row(module, *_cells(members))
    shown.caption = (
        "n: number of matrices. effective/noise: effective rank, and that of noise of the same shape (for an adapter, "
        "of Gaussian factors of its rank). null: the lowest effective rank of noise that keeps the update's "
        "scales, magnitudes or entries. spikes: directions above the noise; not told where the bulk of a matrix is not "
        f"that of iid noise. 50%, 90%, 99%: the LoRA rank that could hold this share. flagged: how many of "
        f"{len(MEASURES)} measures rounding decides"
    )
    return shown


def _cells(members: list[Measured]) -> list[str]:
    flags = {name for m in members for name in str(m.row.get("untrusted") or "").split()}
    return [
        str(len(members)),
        _median(members, "relative_norm", ".2g"),
        f"{_median(members, 'effective_rank')} / {_median(members, 'null.effective_rank')}",
        _of([least_null(m.row) for m in members]),
        _median(members, "stable_rank"),
        NOT_TOLD if any("spikes_not_told" in told(m.row) for m in members) else _median(members, "spikes", ",.0f"),
        *[_median(members, f"energy_rank_{share:.0%}".rstrip("%"), ",.0f") for share in SHARES],
        str(len(flags)),
    ]


def _median(members: list[Measured], key: str, form: str = "") -> str:
    return _of(_known(members, key), form)


def _of(values: list[float], form: str = "") -> str:
    """The median of the known values; by default with one decimal below 100 and with none above."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    median = float(np.median(known))
    return format(median, form or (",.0f" if median >= 100 else ".1f"))


def _known(members: list[Measured], key: str) -> list[float]:
    return [m.row[key] for m in members if not math.isnan(number(m.row.get(key)))]


def findings(measured: list[Measured]) -> list[str]:
    """A paragraph each on: size, its ranks beside noise's, which rank could hold the update, what storage leaves."""
    changed = [m for m in measured if m.row["frobenius_norm"] > 0]
    if not changed:
        return [_size(measured, changed)]
    dense = [m for m in changed if "spikes" in m.row]
    noise = beside_noise(dense) if dense else _factors(changed)
    return [_size(measured, changed), noise, _uniform_rank(changed), NOT_ACCURACY, *_storage(changed)]


def _size(measured: list[Measured], changed: list[Measured]) -> str:
    weights = sum(m.row["out"] * m.row["in"] for m in measured)
    text = f"{len(measured)} matrices with {weights:,} weights were measured"
    if not changed:
        return f"{text}; none of them changed."
    if same := len(measured) - len(changed):
        text += f"; {same} did not change at all"
    relative = _known(changed, "relative_norm")
    norm = f" In the median matrix ‖ΔW‖ is {np.median(relative):.2g} of ‖W‖." if relative else ""
    return f"{text}.{norm}"


def _factors(changed: list[Measured]) -> str:
    ranks = sorted({int(m.row["rank"]) for m in changed if "rank" in m.row})
    return (
        f"The update is a product of factors of rank {spread(ranks)}. Its median effective rank is "
        f"{_median(changed, 'effective_rank', '.1f')}; Gaussian factors of that rank have "
        f"{_median(changed, 'null.effective_rank', '.1f')}."
    )


def _uniform_rank(changed: list[Measured]) -> str:
    measured = max(len(m.sigma) for m in changed)
    parts = [
        f"more than the {measured} measured for {share:.0%}" if rank is None else f"{rank} for {share:.0%}"
        for share, rank in uniform_ranks(changed).items()
    ]
    text = f"One LoRA rank for every matrix could hold a share of the energy from this rank on: {', '.join(parts)}."
    dense = [m for m in changed if "rank" not in m.row]
    if dense:
        size = np.median([min(m.row["out"], m.row["in"]) for m in dense])
        null = _median(dense, "null.energy_rank_90", ",.0f")
        text += f" In the median matrix pure noise of its shape needs {null} of {size:,.0f} directions for 90%."
    return text


def _storage(changed: list[Measured]) -> list[str]:
    pairs = [m for m in changed if m.row["kind"] == "pair"]
    if not pairs:
        return []
    dtypes = sorted({f"{m.row['base_dtype']} → {m.row['tuned_dtype']}" for m in pairs})
    rounded = sum(m.row["rounding_share"] * m.row["frobenius_norm"] ** 2 for m in pairs)
    share = rounded / sum(m.row["frobenius_norm"] ** 2 for m in pairs)
    text = f"The weights are stored as {', '.join(dtypes)}. Rounding alone makes {share:.2g} of the energy of ΔW."
    flagged: dict[str, int] = defaultdict(int)
    for m in pairs:
        for name in str(m.row.get("untrusted") or "").split():
            flagged[name] += 1
    if not flagged:
        return [f"{text} No measure depends on the directions below the rounding edge."]
    names = ", ".join(f"{name} ({count} of {len(pairs)} matrices)" for name, count in flagged.items())
    return [f"{text} Do not trust these measures, because directions below the rounding edge decide them: {names}."]
