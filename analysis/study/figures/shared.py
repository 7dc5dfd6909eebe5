"""Directions that pairs of full updates have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import style
from .. import update
from ..records import Records

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "the directions that pairs of full updates have in common"
SPACES = ("column", "row")


def table(records: Records) -> pd.DataFrame | None:
    """`update.shared`; None where the directions were not measured."""
    return None if records.shared is None else update.shared(records.shared)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """φ(k, k) of full updates over k, a panel per kind of pair, beside what random subspaces have."""
    kinds = list(dict.fromkeys(table["pair"]))
    figure, panels = style.panels(len(kinds), 1.7, "k", "φ(k, k)")
    for axes, kind in zip(panels, kinds, strict=True):
        for number, (side, look) in enumerate(zip(SPACES, style.looks(len(SPACES)), strict=True)):
            of = table[(table["pair"] == kind) & (table["side"] == side)]
            bars = [of["similarity"] - of["low"], of["high"] - of["similarity"]]
            settings = look | {"markersize": 3.5, "capsize": 2, "label": f"{side} space"}
            style.bars(axes, of["k"], of["similarity"], bars, style.spread_out(number, len(SPACES), 3.0), **settings)
            random = {"color": look["color"], "linestyle": ":", "linewidth": 1}
            axes.plot(of["k"], of["random"], label=f"random subspaces of the {side} space", **random)
        style.rank_axis(axes, sorted({int(k) for k in table["k"]}))
        axes.set_title(style.wrapped(kind, 32))
    panels[0].set_ylim(0, None)
    text = "directions that full updates have in common: similarity of their top k, mean over matrices"
    style.title(figure, f"{text}; 95 % intervals over the pairs")
    style.legend(figure, panels[0], columns=2)
    return figure
