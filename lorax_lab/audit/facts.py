"""What a card says, as plain values: `card.json` holds them, the pages and the picture are made of nothing else."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from lorax_lab.audit.cuts import Scores
from lorax_lab.audit.findings import median, median_of, number, spikes_told, uniform_ranks
from lorax_lab.audit.store import Measured, by_module
from lorax_lab.audit.updates import Updates
from lorax_lab.spectra import (
    LowRank,
    gaussian_singular_values,
    has_orthogonal_factor,
    made_by_svd,
    product_spectra,
    product_test,
)

HARDLY = 0.1
"""A matrix hardly moved where its size is at most this share of the median of its module type; a layer where the median
of its matrices' shares is."""
LISTED = 12
"""Names of matrices and notes that a page lists; `card.json` has all."""
POINTS = 512
"""Directions of a curve at most; of a longer spectrum, evenly spaced ones."""
Facts = dict[str, Any]
STARTS = {
    "eva": "EVA starts from an orthogonal factor",
    "mica": "MiCA keeps an orthogonal factor",
}
"""Values of PEFT's init_lora_weights by which noise is called something else. Noise added to the starts of True,
gaussian and orthogonal is not."""
LEVEL = 0.01
"""Chance that a card of pure noise says anything else, over all of its module types (Bonferroni)."""
ABOVE = 0.002
"""Directions of one matrix of iid noise above the edge that is fitted to it, at most (`spectra.spikes`)."""
NOISE, FEWER, MORE, SPIKES, UNTESTED = "noise", "fewer", "more", "spikes", "cannot be tested"
STILL = "it did not change"
PRODUCT, IID = "Gaussian factors of its rank", "iid noise"


def facts_of(updates: Updates, measured: dict[str, Measured], failures: Sequence[str], scores: Scores | None) -> Facts:
    """Everything that a card says; what is not finite is None."""
    by_type = verdicts(updates, measured)
    rows = list(measured.values())
    return _finite(
        {
            "title": updates.title,
            "base": updates.base.name if updates.base else None,
            "kinds": sorted({str(m.row["kind"]) for m in rows}),
            "parameters": _parameters(updates, rows),
            "verdict": asdict(overall(by_type)),
            "energy": {f"{share:.0%}": rank for share, rank in uniform_ranks(rows).items()},
            "modules": [_module(name, members, by_type[name]) for name, members in by_module(rows).items()],
            "untested": _untested(by_type),
            "layers": _layers(rows),
            "scores": _scored(scores) if scores else None,
            "notes": [f"{note.kind}: {note.name}: {note.detail}" for note in updates.notes]
            + [f"not measured: {failure}" for failure in failures],
        }
    )


def _untested(by_type: dict[str, Verdict]) -> dict[str, list[str]]:
    """Module types by the reason why they cannot be tested, and of how many matrices it is where not of all."""
    reasons: dict[str, list[str]] = {}
    for module, verdict in by_type.items():
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
    facts: Facts = {"module": name, "count": len(members), "verdict": asdict(verdict)}
    facts |= {key: median_of([m.row for m in members], key) for key in keys}
    if verdict.null:
        facts["null"] = {key: median_of([m.row for m in members], f"null.{key}") for key in keys[1:]}
    return facts | {"curve": _curve(members, verdict)}


def _curve(members: Sequence[Measured], verdict: Verdict) -> list[Facts]:
    """The share of the energy ‖ΔW‖²_F in the top k directions: median, least and most over layers, and the null's."""
    shares = [_shares(m.sigma[None], float(m.row["frobenius_norm"]))[0] for m in members if m.row["frobenius_norm"]]
    if not shares:
        return []
    longest = max(map(len, shares))
    grid = np.stack([np.pad(share, (0, longest - len(share)), mode="edge") for share in shares])
    null = _null_shares(members, verdict, longest)
    ks = np.unique(np.linspace(1, longest, min(longest, POINTS)).round().astype(int))
    columns = (np.median(grid, axis=0), grid.min(axis=0), grid.max(axis=0), null)
    return [
        dict(zip(("k", "median", "low", "high", "null"), (k, *(c[k - 1] for c in columns)), strict=True)) for k in ks
    ]


def _null_shares(members: Sequence[Measured], verdict: Verdict, longest: int) -> np.ndarray:
    """The mean over the members' nulls; NaN where no null is valid."""
    if verdict.null not in (PRODUCT, IID):
        return np.full(longest, math.nan)
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
    every = median([size for size in sizes.values() if size > 0])  # a type that did not move is held against others
    usual = {
        module: (median([sizes[str(m.row["matrix"])] for m in members]) if len(members) > 1 else 0.0) or every
        for module, members in by_module(rows).items()
    }
    shares: dict[str, list[float]] = defaultdict(list)
    matrices = []
    for m in rows:
        name, middle = str(m.row["matrix"]), usual[str(m.row["module"])]
        share = sizes[name] / middle
        shares[layer_of(name)].append(share)
        place = {"matrix": name, "module": m.row["module"], "layer": layer_of(name)}
        matrices.append(place | {"size": sizes[name], "share": share})
    layers = {layer: median(those) for layer, those in shares.items()}
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
    return asdict(scores) | {"cuts": cuts, "test": test, "full": scores.full}


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


# ---- whether an update is told from noise, module type by module type, each against a null that is valid for it
#
# A product of trained factors, LoRA, has Gaussian factors of its shape and rank (`spectra.products`). A difference of
# two checkpoints whose bulk is that of iid noise has Marchenko & Pastur's edge of that noise; any other has none. A
# LoRA's own singular values are never held against that edge: it is the edge of another matrix.


@dataclass(frozen=True)
class Verdict:
    """What is known of one module type, or of the whole update.

    Args:
        finding: `noise`, `fewer`, `more`, `spikes` or `cannot be tested`.
        null: what it was held against; empty where nothing was.
        reason: why it cannot be tested, or empty.
        p: of the test, before the correction for the number of module types; NaN without one.
        untested: how many matrices the reason is of.
        matrices: how many there are.
    """

    finding: str
    null: str = ""
    reason: str = ""
    p: float = math.nan
    untested: int = 0
    matrices: int = 0


def verdicts(updates: Updates, measured: dict[str, Measured]) -> dict[str, Verdict]:
    """The verdict on each module type."""
    groups = by_module(measured.values())
    level = LEVEL / max(len(groups), 1)
    return {
        module: replace(_verdict(updates, members, level), matrices=len(members)) for module, members in groups.items()
    }


def overall(by_type: dict[str, Verdict]) -> Verdict:
    """Noise where every module type that can be tested is; else the most frequent reason, of what moved."""
    tested = [verdict for verdict in by_type.values() if verdict.finding != UNTESTED]
    matrices = sum(verdict.matrices for verdict in by_type.values())
    if tested:
        findings = [verdict.finding for verdict in tested if verdict.finding != NOISE]
        return Verdict(max(findings, key=findings.count, default=NOISE), tested[0].null, matrices=matrices)
    untested: dict[str, int] = defaultdict(int)
    for verdict in by_type.values():
        untested[verdict.reason] += verdict.untested
    reason = max(untested, key=lambda reason: (reason != STILL, untested[reason]), default="nothing was measured")
    return Verdict(UNTESTED, reason=reason, untested=untested[reason], matrices=matrices)


def _verdict(updates: Updates, members: Sequence[Measured], level: float) -> Verdict:
    moved = [m for m in members if m.row["frobenius_norm"] > 0]
    if not moved:
        return Verdict(UNTESTED, reason=STILL, untested=len(members))
    if all("rank" in m.row for m in moved):
        reason = _no_product_null(updates, moved)
        return Verdict(UNTESTED, reason=reason, untested=len(moved)) if reason else _product(moved, level)
    return _dense(moved, level)


def _no_product_null(updates: Updates, moved: Sequence[Measured]) -> str:
    """Why products of trained factors are no null of these, or empty."""
    kinds = {str(m.row["kind"]) for m in moved}
    if "adalora" in kinds:
        return "AdaLoRA prunes directions and keeps its factors orthogonal: no null is known"
    for name in ("PiSSA", "OLoRA"):
        if any(name.lower() in kind for kind in kinds):
            return f"{name} starts from the base's own directions: its noise is not that of random factors"
    start = str(updates.adapter.settings.get("init_lora_weights")).lower() if updates.adapter else ""
    if start in STARTS:
        return f"{STARTS[start]}: its noise is not that of random factors"
    if all(len(m.sigma) < 2 for m in moved):
        return "rank 1 has one singular value, and a spectrum needs two"
    names = {str(m.row["matrix"]) for m in moved}
    factors = [matrix.update() for matrix in updates.matrices if matrix.name in names]
    products = [update for update in factors if isinstance(update, LowRank)]
    if not products:
        return ""
    if all(map(made_by_svd, products)):
        return "an SVD made its factors: what was cut away is not in the file"
    if all(map(has_orthogonal_factor, products)):
        return "a factor is orthogonal, or begins so: its noise is not that of random factors"
    return ""


def _product(moved: Sequence[Measured], level: float) -> Verdict:
    forms = [(int(m.row["out"]), int(m.row["in"]), int(m.row["rank"])) for m in moved]
    test = product_test([torch.from_numpy(m.sigma) for m in moved], forms)
    if not test.p < level:
        return Verdict(NOISE, PRODUCT, p=test.p)
    strongest = max(test.z.values(), key=abs)
    return Verdict(FEWER if strongest < 0 else MORE, PRODUCT, p=test.p)


def _dense(moved: Sequence[Measured], level: float) -> Verdict:
    if any("dora" in str(m.row["kind"]) for m in moved):
        reason = "DoRA scales the whole weight: ΔW is neither a product nor has it an iid bulk"
        return Verdict(UNTESTED, reason=reason, untested=len(moved))
    untold = [m for m in moved if "spikes" not in m.row or "spikes_not_told" in spikes_told(m.row)]
    if untold:
        why = "its bulk is not that of iid noise" if "spikes" in untold[0].row else "it has no bulk"
        return Verdict(UNTESTED, reason=why, untested=len(untold))
    count = sum(int(m.row["spikes"]) for m in moved)
    p = _poisson_tail(count, ABOVE * len(moved))
    return Verdict(NOISE if p >= level else SPIKES, IID, p=p)


def _poisson_tail(count: int, mean: float) -> float:
    """Chance of `count` or more where `mean` are expected.

    >>> _poisson_tail(0, 0.1), round(_poisson_tail(1, 0.1), 4)
    (1.0, 0.0952)
    """
    return 1.0 - sum(math.exp(-mean) * mean**i / math.factorial(i) for i in range(count)) if count < 100 else 0.0
