"""What a card says, as plain values: `card.json` holds them, the page and the picture are made of nothing else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import poisson

from lorax_lab import spectra
from lorax_lab.audit.findings import energy_held, median_of, uniform_ranks
from lorax_lab.audit.updates import Updates, in_title
from lorax_lab.record.files import plain_values
from lorax_lab.spectra import LowRank

HARDLY = 0.1
"""A layer hardly moved where the median of its matrices' sizes, as shares of the medians of their module types, is at
most this."""
POINTS = 512
"""Directions of a curve at most; of a longer spectrum, evenly spaced ones."""
Facts = dict[str, Any]
NO_NULL = ("adalora", "pissa", "olora", "eva", "mica")
"""Kinds of updates, and values of PEFT's init_lora_weights, by which noise is called something else. Noise added to the
starts of True, gaussian and orthogonal is not."""
LEVEL = 0.01
"""Chance that a card of pure noise says anything else, over all of its module types (Bonferroni)."""
ABOVE = 0.002
"""Directions of one matrix of iid noise above the edge that is fitted to it, at most (`spectra.spikes`)."""
FAR = 2.0
"""No direction of iid noise stands so many times above its edge, so a single one tells, whatever else is tested."""
NOISE, FEWER, MORE, SPIKES, UNTESTED = "noise", "fewer", "more", "spikes", "cannot be tested"
STILL = "it did not change"
PRODUCT, IID = "Gaussian factors of its rank", "iid noise"
UNTAUGHT, UNTAUGHT_RANKS = (1.0, 2.3), (4, 64)
"""Stable ranks of LoRAs that were trained on labels drawn at random, and their ranks: the least and the most over the
arms of the published studies, of each the median over matrices and seeds."""
SUMMARY = ("relative_norm", "effective_rank", "stable_rank", "energy_rank_90", "energy_rank_99")
"""Medians that a card has of each module type."""


def facts_of(updates: Updates, rows: pd.DataFrame, failures: Sequence[str], scores: Facts | None) -> Facts:
    """Everything that a card says, from rows of `findings.complete` and scores of `cuts.score`; what is not finite is
    None."""
    by_type = verdicts(updates, rows)
    notes = [f"{note.kind}: {note.name}: {note.detail}" for note in updates.notes]
    untested: dict[str, list[str]] = {}
    for name, verdict in by_type.items():
        if verdict.finding == UNTESTED:
            untested.setdefault(verdict.reason, []).append(name)
    facts: Facts = {
        "title": updates.title,
        "base": in_title(updates.base.name) if updates.base else None,
        "kinds": sorted(set(rows["kind"])),
        "parameters": _parameters(updates, rows),
        "verdict": overall(by_type)._asdict(),
        "energy": uniform_ranks(rows),
        "worst": _worst(rows),
        "untaught": {"ranks": UNTAUGHT_RANKS, "stable_rank": UNTAUGHT},
        "stable_rank": median_of(rows[rows["frobenius_norm"] > 0], "stable_rank"),
        "modules": [_module(name, rows[rows["module"] == name], verdict) for name, verdict in by_type.items()],
        "untested": untested,
        "layers": _layers(rows),
        "scores": scores,
        "notes": notes + [f"not measured: {failure}" for failure in failures],
    }
    return Facts(plain_values(facts))


def _parameters(updates: Updates, rows: pd.DataFrame) -> Facts:
    counts: Facts = {"matrices": len(rows), "adapted_weights": int((rows["out"] * rows["in"]).sum())}
    if updates.base:
        untied = [stored for name, stored in updates.base.tensors.items() if name not in updates.base.tied]
        counts["base"] = sum(math.prod(stored.shape) for stored in untied)
    if updates.adapter is None:
        return counts | {"changed_matrices": int((rows["frobenius_norm"] > 0).sum())}
    products = [update.product for update in updates.adapter.updates.values()]
    magnitudes = sum(u.magnitude.numel() for u in updates.adapter.updates.values() if u.magnitude is not None)
    magnitudes += sum(len(u.product.A) for u in updates.adapter.updates.values() if u.kind == "adalora")  # its E
    return counts | {
        "factors": sum(p.B.numel() + p.A.numel() for p in products) + magnitudes,
        "beside": sum(tensor.numel() for tensor in updates.adapter.saved.values()),
        "ranks": sorted({len(p.A) for p in products}),
        "update_ranks": sorted(set(rows["numerical_rank"].astype(int))),
        "scalings": sorted({round(p.scaling, 6) for p in products}),
    }


def _worst(rows: pd.DataFrame) -> Facts | None:
    """The matrix of which the rank that holds 90 % over all matrices holds the least, that share, and the rank that its
    own 90 % needs. None where nothing moved."""
    moved = rows[rows["frobenius_norm"] > 0]
    rank = uniform_ranks(rows)["90%"]
    if rank is None:
        return None
    shares = energy_held(moved) / np.square(moved["frobenius_norm"].to_numpy(float))[:, None]
    worst = int(np.argmin(shares[:, rank - 1]))
    needs = int(np.flatnonzero(shares[worst] >= 0.9 * (1 - 1e-9))[0]) + 1
    name = moved["matrix"].iloc[worst].removesuffix(".weight")
    return {"matrix": name, "share": shares[worst, rank - 1], "needs": needs}


def _module(name: str, members: pd.DataFrame, verdict: Verdict) -> Facts:
    energy = float((members["frobenius_norm"] ** 2).sum())
    facts: Facts = {"module": name, "count": len(members), "verdict": verdict._asdict(), "energy": energy}
    facts |= {key: median_of(members, key) for key in SUMMARY}
    if verdict.null:
        facts["null"] = {key: median_of(members, f"null.{key}") for key in SUMMARY[1:]}
    return facts | {"curve": _curve(members, verdict)}


def _curve(members: pd.DataFrame, verdict: Verdict) -> list[Facts]:
    """The share of the energy ‖ΔW‖²_F in the top k directions: median, least and most over layers, and the null's."""
    moved = members[members["frobenius_norm"] > 0]
    if moved.empty:
        return []
    shares = energy_held(moved) / np.square(moved["frobenius_norm"].to_numpy(float))[:, None]
    curves = {"median": np.median(shares, axis=0), "low": shares.min(axis=0), "high": shares.max(axis=0)}
    longest = shares.shape[1]
    curves["null"] = _null_shares(moved, verdict, longest)
    ks = np.unique(np.linspace(1, longest, min(longest, POINTS)).round().astype(int))
    return [{"k": k} | {name: curve[k - 1] for name, curve in curves.items()} for k in ks]


def _null_shares(members: pd.DataFrame, verdict: Verdict, longest: int) -> np.ndarray:
    """The mean over the members' nulls; NaN where no null is valid."""
    if not verdict.null:
        return np.full(longest, math.nan)
    total = np.zeros(longest)
    forms = members[["out", "in", "rank"]].fillna(0).astype(int).itertuples(index=False, name=None)
    for (*sides, rank), count in Counter(forms).items():
        drawn = spectra.product_spectra(sides, rank) if rank else spectra.gaussian_singular_values(sides)[None]
        energy = np.square(drawn.numpy())
        shares = (np.cumsum(energy, axis=1) / energy.sum(axis=1, keepdims=True)).mean(axis=0)
        total += count * np.pad(shares, (0, longest - len(shares)), mode="edge")
    return total / len(members)


def _layers(rows: pd.DataFrame) -> Facts:
    relative = bool(rows["relative_norm"].notna().all())
    size = rows["relative_norm"] if relative else rows["frobenius_norm"] / np.sqrt(rows["out"] * rows["in"])
    middle = size.groupby(rows["module"]).transform("median")
    alone = rows["module"].map(rows["module"].value_counts()) < 2
    middle[alone | (middle == 0)] = size[size > 0].median()  # a type that did not move is held against others
    of_layer = rows["matrix"].str.replace(r"((?:^|\.)\d+)\..*", r"\1", regex=True)  # its name up to the first number
    layers = (size / middle).groupby(of_layer, sort=False).median().dropna()
    return {
        "unit": "‖ΔW‖ / ‖W0‖" if relative else "root mean square entry of ΔW",
        "moved": bool((size > 0).any()),
        "median": float(size.median()),
        "hardly": list(layers.index[layers <= HARDLY]),
        "least": min(zip(layers, layers.index, strict=True)) if len(layers) else None,
        "matrices": rows[["matrix", "module"]].assign(size=size).to_dict("records"),
    }


# ---- whether an update is told from noise, module type by module type, each against a null that is valid for it
#
# A product of trained factors, LoRA, has Gaussian factors of its shape and rank (`spectra.products`). A difference of
# two checkpoints whose bulk is that of iid noise has Marchenko & Pastur's edge of that noise; any other has none. A
# LoRA's own singular values are never held against that edge: it is the edge of another matrix.


class Verdict(NamedTuple):
    """What is known of one module type, or of the whole update."""

    finding: str  # `noise`, `fewer`, `more`, `spikes` or `cannot be tested`
    null: str = ""  # what it was held against; empty where nothing was
    reason: str = ""  # why it cannot be tested, or empty
    p: float = math.nan  # of the test, before the correction for the number of module types; NaN without one


def verdicts(updates: Updates, rows: pd.DataFrame) -> dict[str, Verdict]:
    """The verdict on each module type."""
    groups = rows.groupby("module", sort=False)
    level = LEVEL / max(len(groups), 1)
    return {str(name): _verdict(updates, members, level) for name, members in groups}


def overall(by_type: dict[str, Verdict]) -> Verdict:
    """Noise where every module type that can be tested is; else the most frequent reason, of what moved."""
    tested = [verdict for verdict in by_type.values() if verdict.finding != UNTESTED]
    if tested:
        findings = [verdict.finding for verdict in tested if verdict.finding != NOISE]
        return Verdict(max(findings, key=findings.count, default=NOISE), tested[0].null)
    reasons = [verdict.reason for verdict in by_type.values()]
    reason = max(reasons, key=lambda reason: (reason != STILL, reasons.count(reason)), default="nothing was measured")
    return Verdict(UNTESTED, reason=reason)


def _verdict(updates: Updates, members: pd.DataFrame, level: float) -> Verdict:
    moved = members[members["frobenius_norm"] > 0]
    if moved.empty:
        return Verdict(UNTESTED, reason=STILL)
    if all(len(sigma) < 2 for sigma in moved["sigma"]):
        return Verdict(UNTESTED, reason="rank 1 has one singular value, and a spectrum needs two")
    if moved["rank"].isna().any():
        return _dense(moved, level)
    if reason := _no_product_null(updates, moved):
        return Verdict(UNTESTED, reason=reason)
    sigmas = [torch.from_numpy(sigma) for sigma in moved["sigma"]]
    forms = moved[["out", "in", "rank"]].astype(int).itertuples(index=False, name=None)
    test = spectra.product_test(sigmas, list(forms))
    if not test.p < level:
        return Verdict(NOISE, PRODUCT, p=test.p)
    strongest = max(test.z.values(), key=abs)
    return Verdict(FEWER if strongest < 0 else MORE, PRODUCT, p=test.p)


def _no_product_null(updates: Updates, moved: pd.DataFrame) -> str:
    """Why products of trained factors are no null of these, or empty."""
    start = str(updates.adapter.settings.get("init_lora_weights")).lower() if updates.adapter else ""
    kinds = {part for kind in set(moved["kind"]) for part in kind.split("+")}
    if special := [name for name in NO_NULL if name in (*kinds, start)]:
        return f"it is {special[0]}, whose parts are not random factors: its noise has no known null"
    names = set(moved["matrix"])
    factors = [matrix.update() for matrix in updates.matrices if matrix.name in names]
    products = [update for update in factors if isinstance(update, LowRank)]
    if products and all(map(spectra.made_by_svd, products)):
        return "an SVD made its factors: what was cut away is not in the file"
    if products and all(map(spectra.has_orthogonal_factor, products)):
        return "a factor is orthogonal, or begins so: its noise is not that of random factors"
    return ""


def _dense(moved: pd.DataFrame, level: float) -> Verdict:
    if moved["kind"].str.contains("dora").any():
        return Verdict(UNTESTED, reason="DoRA scales the whole weight: ΔW is neither a product nor has it an iid bulk")
    if moved["spikes_not_told"].notna().any():
        return Verdict(UNTESTED, reason="its bulk is not that of iid noise")
    is_far = (moved["spectral_norm"] > FAR * moved["noise_edge"]).any()  # the edge is 0 where there is no noise
    p = 0.0 if is_far else float(poisson.sf(int(moved["spikes"].sum()) - 1, ABOVE * len(moved)))
    return Verdict(NOISE if p >= level else SPIKES, IID, p=p)
