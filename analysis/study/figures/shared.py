"""Directions that pairs of full updates have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import style
from .. import update
from ..records import Records

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LATEX = False


def table(records: Records) -> pd.DataFrame | None:
    """`update.shared`; None where the directions were not measured."""
    return None if records.shared is None else update.shared(records.shared)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """φ(k, k) of pairs of full updates over k, beside what random subspaces have."""
    figure = style.canvas(style.PAGE, 3.0)
    kinds = list(dict.fromkeys(table["pair"]))
    for axes, side in zip(figure.subplots(1, 2, sharey=True), ("column", "row"), strict=True):
        rows = table[table["side"] == side]
        for kind, look in zip(kinds, style.looks(len(kinds)), strict=True):
            of = rows[rows["pair"] == kind]
            bars = [of["similarity"] - of["low"], of["high"] - of["similarity"]]
            axes.errorbar(of["k"], of["similarity"], bars, capsize=2, label=kind, **look)
        chance = rows[rows["pair"] == kinds[0]]
        axes.plot(chance["k"], chance["random"], color="0.4", linestyle="--", label="random subspaces")
        style.rank_axis(axes, [int(k) for k in chance["k"]])
        axes.set(xlabel="k", title=f"{side} space")
    figure.axes[0].set_ylabel("φ(k, k)")
    figure.axes[0].set_ylim(0, None)
    text = "directions that full updates have in common: similarity of their top k, mean over matrices"
    style.title(figure, f"{text}; 95 % intervals over the pairs")
    style.legend(figure, figure.axes[0], columns=2)
    return figure
