"""Functional rank: cut every update to its top k singular directions at once, put it back, and score.

The spectrum says how ΔW looks; this says what it does. The cut model is W0 + [ΔW]_k in every measured matrix,
the remainder is W0 + ΔW − [ΔW]_k. Everything that is not a measured matrix (head, embeddings, biases, norms)
stays as trained, so k = full is the tuned model and k = 0 shows what the rest alone does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.models import delta_view


@dataclass(frozen=True)
class Directions:
    """The thin SVD of an update, U (out, m), sigma (m,), Vh (m, in), fp32 or wider."""

    U: Tensor
    sigma: Tensor
    Vh: Tensor

    def cut(self, k: int) -> Tensor:
        """[ΔW]_k = U_k diag(σ_k) V_kᵀ, (out, in)."""
        return (self.U[:, :k] * self.sigma[:k]) @ self.Vh[:k]


def cut_ranks(full: int) -> list[int]:
    """0, the powers of two below `full`, and `full`.

    >>> cut_ranks(12)
    [0, 1, 2, 4, 8, 12]
    """
    return [0] + [2**i for i in range(full.bit_length()) if 2**i < full] + [full]


def functional_rank(
    model: nn.Module,
    base: dict[str, Tensor],
    directions: dict[str, Directions],
    whole: dict[str, float],
    score: Callable[[nn.Module], dict[str, float]],
    on_score: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Scores of the cut and of the remainder for each k in `cut_ranks`.

    Args:
        model: the tuned model; its weights are put back, to the bit, before this returns.
        base: W0 of each measured matrix, (out, in).
        directions: the SVD of each matrix's update.
        whole: metrics of the tuned model on the validation split.
        score: metrics of any model on the validation split.
        on_score: called with the number of scores done and in all.

    Returns:
        Rows `{"k": …, "part": "cut" | "remainder", **metrics}`; `remainder` at k is all but the top k.
    """
    views = {name: delta_view(model.get_submodule(name)) for name in directions}
    tuned = {name: view.detach().clone() for name, view in views.items()}
    full = max(len(d.sigma) for d in directions.values())
    ranks = cut_ranks(full)
    jobs = [("cut", k) for k in ranks if k < full] + [("remainder", k) for k in ranks if 0 < k < full]
    scores = {("cut", full): whole, ("remainder", 0): whole}
    try:
        for part, k in jobs:
            for name, view in views.items():
                _put(view, part, k, base[name], tuned[name], directions[name])
            scores[part, k] = score(model)
            on_score(len(scores) - 2, len(jobs))
    finally:
        with torch.no_grad():
            for name, view in views.items():
                view.copy_(tuned[name])
    scores["remainder", full] = scores["cut", 0]
    return [{"k": k, "part": part, **scores[part, k]} for part in ("cut", "remainder") for k in ranks]


@torch.no_grad()
def _put(view: Tensor, part: str, k: int, base: Tensor, tuned: Tensor, directions: Directions) -> None:
    if part == "cut" and k >= len(directions.sigma):
        view.copy_(tuned)
    elif part == "cut":
        view.copy_(base.double() + directions.cut(k))
    else:
        view.copy_(tuned.cpu().double() - directions.cut(k))
