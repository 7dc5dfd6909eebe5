"""The singular values of an update, beside those of noise.

Where they follow the noise, their directions may be chance. What rises above the noise edge is signal only if the rest
is distributed as iid noise. Below the rounding edge directions may come from the weights' storage.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import style
from ..groups import CannotDraw, representative

FITTED = ("noise_std", "noise_edge", "rounding_edge", "spikes", "spikes_told", "bulk_misfit", "above_rounding")
"""Columns of an audit about the noise that is fitted to an update's bulk, and about rounding."""
UPDATE, BULK = "ΔW", "noise fitted to its bulk"
SAME_NORM, PRODUCT = "noise of the same norm", "noise of the same rank and norm"
LOOKS: dict[str, dict[str, Any]] = {
    UPDATE: {"color": "black"},
    BULK: {"color": "0.5", "linestyle": "--"},
    SAME_NORM: {"color": "0.5", "linestyle": "--"},
    PRODUCT: {"color": "0.5", "linestyle": (0, (2, 1))},
}
EDGES = {"noise_edge": ":", "rounding_edge": "-."}
DEPTH, DEEPEST = 30, 1e8
"""How far the axis goes below the noise edge, and below the largest value."""
FEW, LETTERS = 16, 34
"""Up to this many values each has a mark; width of a panel in letters."""
POINTS = 250
"""Of a curve at most, evenly spaced in the logarithm of their index."""
DRAWS = 64
"""The noise of a low-rank update is averaged over this many products."""


def table(rows: pd.DataFrame, sigma: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row per point: up to 3 module types × 3 layers, the update and the noise.

    Columns: matrix, module, layer, out, in, rank (of factors), those of `FITTED` (noise_std, noise_edge, rounding_edge,
    spikes, …), measured (number of singular values that are known), series, i (from 1, for fitted noise from
    spikes + 1; thinned where they lie close), sigma.

    Raises:
        CannotDraw: no matrix changed.
    """
    moved = rows["matrix"].isin([name for name, values in sigma.items() if (values > 0).any()])
    is_measured = rows["matrix"].isin([name for name, values in sigma.items() if len(values)])
    measured = rows[is_measured & rows["module"].isin(rows[moved]["module"])]
    if measured.empty:
        raise CannotDraw("no matrix changed")
    chosen = representative(measured).drop_duplicates(["layer", "module"])
    chosen["layer"] = measured["layer"].loc[chosen.index]  # a model without layers was given one
    parts = []
    for row in chosen.to_dict("records"):
        values = sigma[row["matrix"]]
        facts = {name: row[name] for name in ("matrix", "module", "layer", "out", "in", "rank", *FITTED)}
        facts["measured"] = len(values)
        for series, curve, first in ((UPDATE, values, 0), _noise_curve(row)):
            index = np.unique(np.geomspace(1, max(first + len(curve), 1), POINTS).round().astype(int))
            index = index[index > first]
            line = {"series": series, "i": index, "sigma": curve[index - 1 - first]}
            parts += [pd.DataFrame(facts | line)] if len(curve) else []
    return pd.concat(parts, ignore_index=True).astype({"layer": "Int64"})


def _noise_curve(row: dict[Any, Any]) -> tuple[str, np.ndarray, int]:
    """The bulk that the fitted noise makes, after the spikes, of the rest's shape, (out − spikes, in − spikes); where
    none was fitted, noise of the update's own norm."""
    fitted = row["noise_std"] >= 0
    spikes = int(row["spikes"]) if fitted and row["spikes"] > 0 else 0
    rank = int(row["rank"]) if row["rank"] > 0 else None
    unit = _unit_noise(int(row["out"]) - spikes, int(row["in"]) - spikes, rank)
    if fitted:
        return BULK, unit * row["noise_std"], spikes
    return PRODUCT if rank else SAME_NORM, unit * row["frobenius_norm"] / np.linalg.norm(unit), 0


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel per matrix, layers down, module types across; both axes logarithmic."""
    positive = table[table["sigma"] > 0]["sigma"]
    edges = table[table["noise_edge"] > 0]["noise_edge"]
    lowest = edges.min() / DEPTH if len(edges) else positive.min() / 2
    bottom = max(lowest, positive.max() / DEEPEST)
    figure, first, panels = style.spectra_grid(table, 1.75)
    for axes, rows in panels:
        _value_panel(axes, rows, bottom)
    first.set_ylim(bottom, 2 * table["sigma"].max())
    hidden = (table["rounding_edge"] <= bottom).any()
    below = "\nwhere no rounding edge is drawn, it lies below the axis" if hidden else ""
    for name in dict.fromkeys(table["series"]):
        first.plot([], [], label=name, **LOOKS[str(name)])
    for edge, dashes in EDGES.items():
        if (table[edge] > bottom).any():
            first.plot([], [], label=edge.replace("_", " "), color="0.35", linewidth=0.7, linestyle=dashes)
    title = f"Singular values of ΔW, beside those of noise{below}"
    return style.finish(figure, title, first, columns=max(2, table["module"].nunique()))


def _value_panel(axes: Axes, rows: pd.DataFrame, bottom: float) -> None:
    first = rows.iloc[0]
    for name, part in rows.groupby("series", sort=False):
        marks: dict[str, Any] = {"marker": "o", "markersize": 3} if name == UPDATE and len(part) <= FEW else {}
        axes.plot(part["i"], part["sigma"].where(part["sigma"] > 0), **LOOKS[str(name)], **marks)
    for edge, dashes in EDGES.items():
        if first[edge] > bottom:
            axes.axhline(first[edge], color="0.35", linewidth=0.7, linestyle=dashes)
    moved = (rows[rows["series"] == UPDATE]["sigma"] > 0).any()
    place, *findings = _heading(first)
    axes.set_title("\n".join([place, *(findings if moved else ["did not change"])]))


def _heading(first: pd.Series[Any]) -> list[str]:
    """The matrix's place, how many directions stand above the noise if that is known, and how far rounding reaches."""
    layer = "" if pd.isna(first["layer"]) else f"layer {first['layer']:.0f}, "
    lines = [style.folded(f"{layer}{first['module']}", LETTERS)]
    if first["spikes_told"] >= 0:
        lines.append(f"{first['spikes']:,.0f} of {min(first['out'], first['in']):,.0f} above the noise")
        if first["above_rounding"] < first["spikes"]:
            lines.append(f"only {first['above_rounding']:,.0f} above rounding")
    elif first["spikes"] >= 0:
        misfit = first["bulk_misfit"]
        lines.append(
            "its bulk was not measured" if math.isnan(misfit) else f"the rest is no iid noise (KS {misfit:.2f})"
        )
    elif first["rank"] > 0:
        lines.append(f"factors of rank {first['rank']:,.0f}")
    return lines


@cache
def _unit_noise(out_features: int, in_features: int, rank: int | None) -> np.ndarray:
    """Singular values of Gaussian noise of this shape with entries of std 1, descending; with a rank the root mean
    squares of those of products of Gaussian factors."""
    from lorax_lab.spectra import gaussian_singular_values, product_spectra

    shape = (out_features, in_features)
    if rank is None:
        return gaussian_singular_values(shape).numpy()
    return product_spectra(shape, rank, DRAWS).square().mean(0).sqrt().numpy()
