"""What a card says, as plain values: `card.json` holds them, the pages and the picture are made of nothing else."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from lorax_lab.audit.cuts import Scores
from lorax_lab.audit.findings import number, uniform_ranks
from lorax_lab.audit.store import Measured
from lorax_lab.audit.updates import Updates
from lorax_lab.audit.verdict import IID, PRODUCT, UNTESTED, Verdict, overall, verdicts
from lorax_lab.spectra import gaussian_singular_values, product_spectra

HARDLY = 0.1
"""A matrix hardly moved where its size is at most this share of the median of its module type; a layer where the median
of its matrices' shares is."""
LISTED = 12
"""Names of matrices and notes that a page lists; `card.json` has all."""
POINTS = 512
"""Directions of a curve at most; of a longer spectrum, evenly spaced ones."""
Facts = dict[str, Any]


def facts_of(updates: Updates, measured: dict[str, Measured], failures: Sequence[str], scores: Scores | None) -> Facts:
    """Everything that a card says; what is not finite is None."""
    by_module = verdicts(updates, measured)
    rows = list(measured.values())
    groups: dict[str, list[Measured]] = defaultdict(list)
    for m in rows:
        groups[str(m.row["module"])].append(m)
    return _finite(
        {
            "title": updates.title,
            "base": updates.base.name if updates.base else None,
            "kinds": sorted({str(m.row["kind"]) for m in rows}),
            "parameters": _parameters(updates, rows),
            "verdict": dataclasses.asdict(overall(by_module)),
            "energy": {f"{share:.0%}": rank for share, rank in uniform_ranks(rows).items()},
            "modules": [_module(name, members, by_module[name]) for name, members in groups.items()],
            "untested": _untested(by_module),
            "layers": _layers(rows),
            "scores": _scored(scores) if scores else None,
            "notes": [f"{note.kind}: {note.name}: {note.detail}" for note in updates.notes]
            + [f"not measured: {failure}" for failure in failures],
        }
    )


def _untested(by_module: dict[str, Verdict]) -> dict[str, list[str]]:
    """Module types by the reason why they cannot be tested, and of how many matrices it is where not of all."""
    reasons: dict[str, list[str]] = {}
    for module, verdict in by_module.items():
        if verdict.finding == UNTESTED:
            few = f" ({verdict.untested} of {verdict.matrices} matrices)"
            reasons.setdefault(verdict.reason + few * (verdict.untested < verdict.matrices), []).append(module)
    return reasons


def _parameters(updates: Updates, rows: Sequence[Measured]) -> Facts:
    """How many numbers were trained, and of how many weights they are an update."""
    adapted = sum(int(m.row["out"]) * int(m.row["in"]) for m in rows)
    counts: Facts = {"matrices": len(rows), "adapted_weights": adapted}
    if updates.base:
        untied = [stored for name, stored in updates.base.tensors.items() if name not in updates.base.tied]
        counts["base"] = sum(math.prod(stored.shape) for stored in untied)
    if updates.adapter is None:
        return counts | {"changed_matrices": sum(m.row["frobenius_norm"] > 0 for m in rows)}
    products = [update.product for update in updates.adapter.updates.values()]
    magnitudes = [u.magnitude for u in updates.adapter.updates.values() if u.magnitude is not None]
    return counts | {
        "factors": sum(p.B.numel() + p.A.numel() for p in products) + sum(m.numel() for m in magnitudes),
        "beside": sum(tensor.numel() for tensor in updates.adapter.saved.values()),
        "ranks": sorted({len(p.A) for p in products}),
        "update_ranks": sorted({int(m.row["numerical_rank"]) for m in rows}),
        "scalings": sorted({round(p.scaling, 6) for p in products}),
    }


def _module(name: str, members: Sequence[Measured], verdict: Verdict) -> Facts:
    keys = ("relative_norm", "effective_rank", "stable_rank", "energy_rank_90", "energy_rank_99")
    facts: Facts = {"module": name, "count": len(members), "verdict": dataclasses.asdict(verdict)}
    facts |= {key: _median([number(m.row.get(key)) for m in members]) for key in keys}
    if verdict.null:
        nulls = ("effective_rank", "stable_rank", "energy_rank_90", "energy_rank_99")
        facts["null"] = {key: _median([number(m.row.get(f"null.{key}")) for m in members]) for key in nulls}
    return facts | {"curve": _curve(members, verdict)}


def _curve(members: Sequence[Measured], verdict: Verdict) -> list[Facts]:
    """The share of the energy ‖ΔW‖²_F in the top k directions: median, least and most over layers, and the null's."""
    shares = [_shares(m.sigma[None], float(m.row["frobenius_norm"]))[0] for m in members if m.row["frobenius_norm"]]
    if not shares:
        return []
    longest = max(map(len, shares))
    grid = np.stack([np.pad(share, (0, longest - len(share)), mode="edge") for share in shares])
    null = _null_shares(members, verdict, longest)
    picked = np.unique(np.linspace(1, longest, min(longest, POINTS)).round().astype(int))
    return [
        {
            "k": int(k),
            "median": float(np.median(grid[:, k - 1])),
            "low": float(grid[:, k - 1].min()),
            "high": float(grid[:, k - 1].max()),
            "null": None if null is None else float(null[k - 1]),
        }
        for k in picked
    ]


def _null_shares(members: Sequence[Measured], verdict: Verdict, longest: int) -> np.ndarray | None:
    """The mean over the members' nulls; None where no null is valid."""
    if verdict.null not in (PRODUCT, IID):
        return None
    forms = [(int(m.row["out"]), int(m.row["in"]), int(m.row.get("rank", 0))) for m in members]
    total = np.zeros(longest)
    for form in set(forms):
        drawn = product_spectra(form[:2], form[2]) if form[2] else gaussian_singular_values(form[:2])[None]
        shares = _shares(drawn.numpy()).mean(axis=0)
        total += forms.count(form) * np.pad(shares, (0, longest - len(shares)), mode="edge")
    return total / len(forms)


def _shares(sigma: np.ndarray, norm: float | None = None) -> np.ndarray:
    energy = np.square(sigma)
    return np.cumsum(energy, axis=1) / (energy.sum(axis=1, keepdims=True) if norm is None else norm**2)


def _layers(rows: Sequence[Measured]) -> Facts:
    """How large each matrix's update is, and which layers and matrices hardly moved."""
    relative = all(not math.isnan(number(m.row.get("relative_norm"))) for m in rows)
    sizes = {str(m.row["matrix"]): _size(m, relative) for m in rows}
    by_type: dict[str, list[float]] = defaultdict(list)
    for m in rows:
        by_type[str(m.row["module"])].append(sizes[str(m.row["matrix"])])
    every = _median([size for size in sizes.values() if size > 0])  # a type that did not move is held against others
    usual = {module: (_median(those) if len(those) > 1 else 0.0) or every for module, those in by_type.items()}
    shares: dict[str, list[float]] = defaultdict(list)
    matrices = []
    for m in rows:
        name, middle = str(m.row["matrix"]), usual[str(m.row["module"])]
        share = sizes[name] / middle
        shares[layer_of(name)].append(share)
        place = {"matrix": name, "module": m.row["module"], "layer": layer_of(name)}
        matrices.append(place | {"size": sizes[name], "share": share})
    layers = {layer: _median(those) for layer, those in shares.items()}
    hardly = [layer for layer, share in layers.items() if share <= HARDLY]
    single = [m["matrix"] for m in matrices if m["share"] <= HARDLY and m["layer"] not in hardly]
    return {
        "unit": "‖ΔW‖ / ‖W0‖" if relative else "root mean square entry of ΔW",
        "moved": any(size > 0 for size in sizes.values()),
        "hardly": hardly,
        "hardly_matrices": single,
        "least": min(((share, layer) for layer, share in layers.items() if not math.isnan(share)), default=None),
        "matrices": matrices,
    }


def layer_of(name: str) -> str:
    """A matrix's layer: its dotted name up to the first number; the whole name where it has none.

    >>> layer_of("bert.encoder.layer.3.output.dense.weight"), layer_of("classifier.weight")
    ('bert.encoder.layer.3', 'classifier.weight')
    """
    parts = name.split(".")
    first = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return name if first is None else ".".join(parts[: first + 1])


def _size(m: Measured, relative: bool) -> float:
    if relative:
        return float(m.row["relative_norm"])
    return float(m.row["frobenius_norm"]) / math.sqrt(int(m.row["out"]) * int(m.row["in"]))


def _scored(scores: Scores) -> Facts:
    cuts = [{"k": k, "score": value} | change._asdict() for k, (value, change) in sorted(scores.cuts.items())]
    test = {"score": scores.test[0]} | scores.test[1]._asdict()
    return dataclasses.asdict(scores) | {"cuts": cuts, "test": test, "full": scores.full}


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(median(known)) if known else math.nan


def _finite(value: Any) -> Any:
    """Plain values, None for NaN and infinite ones, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return " ".join(value.split()).replace("¦", "|")  # signs that `card.txt.j2` parts its text by
    return int(value) if isinstance(value, np.integer) else bool(value) if isinstance(value, np.bool_) else value
