"""Two curves of an update beside those of noise: its singular values, and the energy that its top directions hold.

Where the singular values follow the noise, their directions may be chance. What rises above the noise edge is signal
only if the rest is distributed as iid noise. Below the rounding edge directions may come from the weights' storage.

The best rank-r part of a matrix holds Σ_{i≤r} σ_i² of its ‖ΔW‖²_F (Eckart & Young 1936); with several matrices, each
at rank r, energies add up. Pure noise has the same shapes and norms, and is of factors where the update is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import style
from ..groups import CannotDraw, representative
from .rows import FITTED, MOST, Row, noise_values, note, points

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
ALL, NOISE, MODULE = "all matrices", "pure noise of the same shapes", "module"
LEVELS = (0.5, 0.9, 0.99)
TIE = 1e-9
"""Relative tolerance. Sums of energies are more exact than this, so a level that is met exactly needs no further
direction."""
Part = tuple["np.ndarray", float, bool]
"""Energies of the directions, descending; ‖ΔW‖²_F; whether the former are all of the latter."""


# ---- singular values


def value_table(rows: pd.DataFrame, sigma: dict[str, np.ndarray]) -> pd.DataFrame:
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
        for series, curve, first in ((UPDATE, values, 0), _noise_curve(row, values)):
            index = [i for i in points(first + len(curve)) if i > first]
            line = {"series": series, "i": index, "sigma": curve[[i - 1 - first for i in index]]}
            parts += [pd.DataFrame(facts | line)] if index else []
    return pd.concat(parts, ignore_index=True).astype({"layer": "Int64"})


def _noise_curve(row: Row, values: np.ndarray) -> tuple[str, np.ndarray, int]:
    """The bulk that the fitted noise makes, after the spikes; where none was fitted, noise of the update's own norm."""
    fitted = row["noise_std"] >= 0
    spikes = int(row["spikes"]) if fitted and row["spikes"] > 0 else 0
    unit = noise_values(row, spikes)
    if unit is None:
        return SAME_NORM, np.empty(0), 0
    if fitted:
        return BULK, unit * row["noise_std"], spikes
    norm = row["frobenius_norm"] if row["frobenius_norm"] >= 0 else np.linalg.norm(values)
    return PRODUCT if row["rank"] > 0 else SAME_NORM, unit * norm / np.linalg.norm(unit), 0


@style.styled
def draw_values(table: pd.DataFrame) -> Figure:
    """A panel per matrix, layers down, module types across; both axes logarithmic."""
    place = table["layer"].astype(float).fillna(-1)
    layers, modules = sorted(set(place)), list(dict.fromkeys(table["module"]))
    positive = table[table["sigma"] > 0]["sigma"]
    edges = table[table["noise_edge"] > 0]["noise_edge"]
    lowest = edges.min() / DEPTH if len(edges) else positive.min() / 2
    bottom = max(lowest, positive.max() / DEEPEST)
    figure, grid = style.spectra_grid(len(layers), len(modules), 1.75, table["i"].max())
    for across, layer in zip(grid, layers, strict=True):
        for axes, module in zip(across, modules, strict=True):
            _value_panel(axes, table[(table["module"] == module) & (place == layer)], bottom)
    first = grid[0][0]
    first.set_ylim(bottom, 2 * table["sigma"].max())
    hidden = (table["rounding_edge"] <= bottom).any()
    below = "\nwhere no rounding edge is drawn, it lies below the axis" if hidden else ""
    for name in dict.fromkeys(table["series"]):
        first.plot([], [], label=name, **LOOKS[str(name)])
    for edge, dashes in EDGES.items():
        if (table[edge] > bottom).any():
            first.plot([], [], label=edge.replace("_", " "), color="0.35", linewidth=0.7, linestyle=dashes)
    title = f"Singular values of ΔW, beside those of noise{below}"
    return style.finish(figure, title, first, columns=max(2, len(modules)))


def _value_panel(axes: Axes, rows: pd.DataFrame, bottom: float) -> None:
    if rows.empty:
        axes.set_axis_off()
        return
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


# ---- energy


def energy_table(rows: pd.DataFrame, sigma: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row per line and rank. Columns: line (`all`, `noise` or `module`), module, matrices (how many), energy
    (Σ‖ΔW‖²_F), r (thinned where a line has many; exact where it reaches 50, 90 and 99 %), share. A module type that
    did not change has one row without a share; where only the top k are known, a line ends at the smallest k.

    Raises:
        CannotDraw: no matrix changed, or none has its norm.
    """
    measured = rows[rows["matrix"].isin(list(sigma)) & (rows["frobenius_norm"] >= 0)].to_dict("records")
    if not any(row["frobenius_norm"] > 0 for row in measured):
        raise CannotDraw("no matrix changed" if measured else "no matrix has its norm and singular values")
    by_module: dict[str, list[Part]] = {}
    parts, noise = [], []
    for row in measured:
        squares, energy = sigma[row["matrix"]] ** 2, row["frobenius_norm"] ** 2
        is_whole = len(squares) >= min(row["out"], row["in"]) or bool(squares.sum() >= energy * (1 - TIE))
        parts.append((squares, energy, is_whole))
        by_module.setdefault(str(row["module"]), []).append(parts[-1])
        if (unit := noise_values(row)) is not None:
            noise.append((unit**2 * energy / (unit**2).sum(), energy, True))
    lines = [_energy_line("all", ALL, parts)]
    lines += [_energy_line("noise", NOISE, noise)] if len(noise) == len(parts) else []
    return pd.concat([*lines, *(_energy_line(MODULE, *item) for item in by_module.items())], ignore_index=True)


def _energy_line(kind: str, name: str, parts: list[Part]) -> pd.DataFrame:
    """The share of the energy in the top r of every matrix, up to the last r that every matrix knows."""
    total = sum(energy for _, energy, _ in parts)
    facts = {"line": kind, "module": name, "matrices": len(parts), "energy": total}
    if not total > 0:
        return pd.DataFrame(facts | {"r": [1], "share": [math.nan]})
    longest = max(len(squares) for squares, _, _ in parts)
    last = min((len(squares) for squares, _, is_whole in parts if not is_whole), default=longest)
    held = np.sum([np.pad(squares, (0, longest - len(squares))).cumsum() for squares, _, _ in parts], axis=0)
    shares = (held[:last] / total).clip(max=1.0)
    reached = [int((shares < level * (1 - TIE)).sum()) + 1 for level in LEVELS]
    index = sorted({*points(len(shares)), *(r for r in reached if r <= len(shares))})
    return pd.DataFrame(facts | {"r": index, "share": shares[[r - 1 for r in index]]})


@style.styled
def draw_energy(table: pd.DataFrame) -> Figure:
    """The share over the rank: of all matrices with its ranks at the levels, of noise, and a line per module type."""
    changed = table[(table["line"] == MODULE) & table["share"].notna()]
    strongest = list(changed.drop_duplicates("module").nlargest(MOST, "energy")["module"])
    shown = [name for name in dict.fromkeys(changed["module"]) if name in strongest]
    figure = style.canvas(style.PAGE, 3.6 + 0.07 * len(shown))
    axes = figure.subplots()
    style.index_axis(axes, table["r"].max())
    whole, noise = (table[table["line"] == line] for line in ("all", "noise"))
    axes.plot(whole["r"], whole["share"], color="black", linewidth=2.6, label=ALL, zorder=1.9)
    if len(noise):
        axes.plot(noise["r"], noise["share"], color="0.4", linestyle="--", linewidth=1.8, label=NOISE, zorder=2.5)
    for number, (name, look) in enumerate(zip(shown, style.looks(len(shown)), strict=True)):
        part = changed[changed["module"] == name]
        sparse = style.sparse(number, len(part))
        axes.plot(part["r"], part["share"], label=name, linewidth=0.8, markersize=3, markevery=sparse, **look)
    axes.set(
        ylabel="share of the energy Σ‖ΔW‖²", ylim=(0, 1.02), xlabel="rank r that is kept, the same in every matrix"
    )
    axes.set_yticks([0, 0.25, *LEVELS], ["0", "25%", "50%", "90%", "99%"])
    for level in LEVELS:
        axes.axhline(level, color="0.6", linewidth=0.6, linestyle=":", zorder=0)
        reached = whole[whole["r"] == _reaches(whole, level)]
        axes.plot(reached["r"], reached["share"], "o", color="white", markeredgecolor="black", zorder=4)
    still = table[(table["line"] == MODULE) & table["share"].isna()]["module"]
    weak = [name for name in changed["module"] if name not in strongest]
    notes = [*note("did not change", still), *note("in the table only, for their small energy", weak)]
    return style.finish(figure, "\n".join([_finding(table), *notes]), axes, columns=2)


def _reaches(rows: pd.DataFrame, level: float) -> int | None:
    enough = rows[rows["share"] >= level * (1 - TIE)]["r"]
    return int(enough.min()) if len(enough) else None


def _finding(table: pd.DataFrame) -> str:
    """The ranks at which all matrices together, and noise, reach the levels."""
    lines = []
    for kind, name in (("all", "ΔW"), ("noise", "pure noise")):
        if len(rows := table[table["line"] == kind]):
            ranks = [_reaches(rows, level) for level in LEVELS]
            lines.append(f"{name} " + ", ".join(f"{rank:,}" if rank else f">{rows['r'].max():,}" for rank in ranks))
    return f"Rank that holds 50, 90 and 99% of the energy, one for all matrices: {'; '.join(lines)}"
