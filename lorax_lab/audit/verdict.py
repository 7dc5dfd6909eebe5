"""Whether an update is told from noise, module type by module type, each against a null that is valid for it.

| update | null |
|---|---|
| a product of trained factors, LoRA | Gaussian factors of its shape and rank (`spectra.products`) |
| a difference of two checkpoints whose bulk is that of iid noise | Marchenko & Pastur's edge of that noise |
| any other | none: it cannot be tested |

A LoRA's own singular values are never held against Marchenko & Pastur's edge: it is the edge of another matrix.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from lorax_lab.audit.findings import spikes_told
from lorax_lab.audit.store import Measured
from lorax_lab.audit.updates import Updates
from lorax_lab.spectra import LowRank, has_orthogonal_factor, made_by_svd, product_test

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
    groups: dict[str, list[Measured]] = defaultdict(list)
    for m in measured.values():
        groups[str(m.row["module"])].append(m)
    level = LEVEL / len(groups) if groups else LEVEL
    return {
        module: replace(_verdict(updates, members, level), matrices=len(members)) for module, members in groups.items()
    }


def overall(by_module: dict[str, Verdict]) -> Verdict:
    """Noise where every module type that can be tested is; else the most frequent reason, of what moved."""
    tested = [verdict for verdict in by_module.values() if verdict.finding != UNTESTED]
    matrices = sum(verdict.matrices for verdict in by_module.values())
    if tested:
        findings = [verdict.finding for verdict in tested if verdict.finding != NOISE]
        return Verdict(max(findings, key=findings.count, default=NOISE), tested[0].null, matrices=matrices)
    untested: dict[str, int] = defaultdict(int)
    for verdict in by_module.values():
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
    if kinds & {"adalora"}:
        return "AdaLoRA prunes directions and keeps its factors orthogonal: no null is known"
    if other := next((kind for kind in kinds if "pissa" in kind or "olora" in kind), None):
        name = "PiSSA" if "pissa" in other else "OLoRA"
        return f"{name} starts from the base's own directions: its noise is not that of random factors"
    start = str(updates.adapter.settings.get("init_lora_weights")).lower() if updates.adapter else ""
    if start in STARTS:
        return f"{STARTS[start]}: its noise is not that of random factors"
    if all(len(m.sigma) < 2 for m in moved):
        return "rank 1 has one singular value, and a spectrum needs two"
    if not (products := _products(updates, moved)):
        return ""
    if all(map(made_by_svd, products)):
        return "an SVD made its factors: what was cut away is not in the file"
    if all(map(has_orthogonal_factor, products)):
        return "a factor is orthogonal, or begins so: its noise is not that of random factors"
    return ""


def _products(updates: Updates, moved: Sequence[Measured]) -> list[LowRank]:
    names = {str(m.row["matrix"]) for m in moved}
    factors = [matrix.update() for matrix in updates.matrices if matrix.name in names]
    return [update for update in factors if isinstance(update, LowRank)]


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
