"""How much of ΔW's energy the best update of one rank r holds, by module type, for all, and for pure noise.

The best rank-r part of a matrix holds Σ_{i≤r} σ_i² of its ‖ΔW‖²_F (Eckart & Young 1936); with several matrices, each
at rank r, energies add up. Pure noise of the same shapes and norms, as products of factors where the update is one,
says how much a rank holds without any structure.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .. import style
from ..groups import CannotDraw
from .rows import Row, known_whole, listed, noise_values, points, strongest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALL, NOISE, MODULE = "all matrices", "pure noise of the same shapes", "module"
LEVELS = (0.5, 0.9, 0.99)
ROW, LINE, WIDTH = 0.07, 0.125, 28
"""Inches between rows of module types and of a line of their names, and the letters of such a line."""
MARK_SIZES = (7.0, 5.5, 4.0)
"""Of the levels' marks: where they meet, each can be seen."""
TIE = 1e-9
"""Relative tolerance. Sums of energies are more exact than this, so a level that is met exactly needs no further
direction."""
Part = tuple["np.ndarray", float, bool]
"""Energies of the directions, descending; ‖ΔW‖²_F; whether the former are all of the latter."""


def table(rows: pd.DataFrame, sigma: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row per line and rank. Columns: line (`all`, `noise` or `module`), module, matrices (how many), energy
    (Σ‖ΔW‖²_F), r (thinned where a line has many; exact where it reaches 50, 90 and 99 %), share. A module type that
    did not change has one row without a share; where only the top k are known, a line ends at the smallest k.

    Raises:
        CannotDraw: no matrix changed, or none has its norm.
    """
    import pandas as pd

    known = rows[rows["matrix"].isin(list(sigma)) & (rows["frobenius_norm"] >= 0)].to_dict("records")
    if not any(row["frobenius_norm"] > 0 for row in known):
        raise CannotDraw("no matrix changed" if known else "no matrix has its norm and singular values")
    parts = [_part(row, sigma[row["matrix"]]) for row in known]
    lines = [_line("all", ALL, parts)]
    noise = [_noise_part(row) for row in known]
    if all(noise):
        lines.append(_line("noise", NOISE, [part for part in noise if part]))
    for module in dict.fromkeys(row["module"] for row in known):
        members = [part for row, part in zip(known, parts, strict=True) if row["module"] == module]
        lines.append(_line(MODULE, str(module), members))
    return pd.concat(lines, ignore_index=True)


def _part(row: Row, values: np.ndarray) -> Part:
    return values**2, row["frobenius_norm"] ** 2, known_whole(row, values)


def _noise_part(row: Row) -> Part | None:
    unit = noise_values(row)
    energy = row["frobenius_norm"] ** 2
    return None if unit is None else (unit**2 * energy / (unit**2).sum(), energy, True)


def _line(kind: str, name: str, parts: list[Part]) -> pd.DataFrame:
    import pandas as pd

    total = sum(energy for _, energy, _ in parts)
    facts = {"line": kind, "module": name, "matrices": len(parts), "energy": total}
    if not total > 0:
        return pd.DataFrame(facts | {"r": [1], "share": [math.nan]})
    held = (_held(parts) / total).clip(max=1.0)
    reached = [int((held < level * (1 - TIE)).sum()) + 1 for level in LEVELS]
    index = sorted({*points(len(held)), *(r for r in reached if r <= len(held))})
    return pd.DataFrame(facts | {"r": index, "share": held[[r - 1 for r in index]]})


def _held(parts: list[Part]) -> np.ndarray:
    """Σ over matrices of the energy in their top r, for r = 1, 2, … up to the last r that every matrix knows."""
    import numpy as np

    longest = max(len(energy) for energy, _, _ in parts)
    known = min((len(energy) for energy, _, whole in parts if not whole), default=longest)
    held = np.zeros(longest)
    for energy, _, _ in parts:
        if len(energy):
            held += np.pad(np.cumsum(energy), (0, longest - len(energy)), mode="edge")
    return held[:known]


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Left, the share over the rank: of all matrices with its ranks at the levels, of noise, and a thin line per module
    type. Right, the ranks at the levels, a row per module type."""
    lines = table[table["line"] == MODULE]
    changed = lines[lines["share"].notna()]
    shown = strongest(changed.drop_duplicates("module"), "energy")
    noise = table[table["line"] == "noise"]
    rows = [(ALL, table[table["line"] == "all"]), *((name, changed[changed["module"] == name]) for name in shown)]
    rows += [(NOISE, noise)] if len(noise) else []
    lines_of_names = max(style.folded(name, WIDTH).count("\n") + 1 for name, _ in rows[: 1 + len(shown)])
    figure = style.canvas(style.PAGE, max(3.6, 1.5 + (ROW + LINE * lines_of_names) * len(rows)))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1))
    for axes in (left, right):
        style.index_axis(axes, table["r"].max())
    _draw_all(left, rows[0][1])
    if len(noise):
        left.plot(noise["r"], noise["share"], color="0.4", linestyle="--", linewidth=1.8, label=NOISE, zorder=2.5)
    for number, name in enumerate(shown):
        part = changed[changed["module"] == name]
        thin: dict[str, Any] = {"color": "0.7", "linewidth": 0.7, "zorder": 1.5}
        left.plot(part["r"], part["share"], label="_" if number else "each module type", **thin)
    left.set(
        ylabel="share of the energy Σ‖ΔW‖²", ylim=(0, 1.02), xlabel="rank r that is kept, the same in every matrix"
    )
    left.set_yticks([0, 0.25, *LEVELS], ["0", "25%", "50%", "90%", "99%"])
    _draw_levels(right, rows)
    style.title(figure, "\n".join([_finding(table), *_left_out(lines, changed, shown)]))
    style.legend(figure, left, 3)
    right.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(LEVELS), handletextpad=0.3, columnspacing=1.2)
    return figure


def _draw_all(axes: Axes, rows: pd.DataFrame) -> None:
    axes.plot(rows["r"], rows["share"], color="black", linewidth=2.6, label=ALL, zorder=1.9)
    for level in LEVELS:
        axes.axhline(level, color="0.6", linewidth=0.6, linestyle=":", zorder=0)
        if (rank := _reaches(rows, level)) is not None:
            share = rows[rows["r"] == rank]["share"].iloc[0]
            axes.plot([rank, rank], [0, share], color="0.4", linewidth=0.6, linestyle=":", zorder=0)
            axes.plot(rank, share, "o", color="white", markeredgecolor="black", markersize=6, zorder=4)


def _draw_levels(axes: Axes, rows: list[tuple[str, pd.DataFrame]]) -> None:
    """A mark at the rank at which each row reaches each level; an arrow where it ends before."""
    looks = list(zip(LEVELS, style.colours(len(LEVELS)), style.MARKERS, MARK_SIZES, strict=False))
    for place, (_, part) in enumerate(rows):
        reached = [_reaches(part, level) for level in LEVELS]
        known = [rank for rank in reached if rank is not None]
        last = int(part["r"].max())
        axes.plot([min([*known, last]), last if None in reached else max(known)], [place] * 2, color="0.7", linewidth=1)
        for (level, colour, marker, size), rank in zip(looks, reached, strict=True):
            look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": size, "linestyle": ""}
            axes.plot(rank or math.nan, place, label=f"{level:.0%}" if place == 0 else "_", **look)
        if None in reached:
            axes.plot(last, place, marker=r"$\rightarrow$", color="black", markersize=6)
    axes.set_yticks(
        range(len(rows)), [style.folded(name, WIDTH) if name != NOISE else "pure noise" for name, _ in rows]
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("rank that holds so much of the energy")


def _reaches(rows: pd.DataFrame, level: float) -> int | None:
    enough = rows[rows["share"] >= level * (1 - TIE)]["r"]
    return int(enough.min()) if len(enough) else None


def _finding(table: pd.DataFrame) -> str:
    """The ranks at which all matrices together, and noise, reach the levels."""
    ranks_reached = "; ".join(
        f"{name} {', '.join(_said(table[table['line'] == line], level) for level in LEVELS)}"
        for line, name in (("all", "ΔW"), ("noise", "pure noise"))
        if (table["line"] == line).any()
    )
    return f"Rank that holds 50, 90 and 99% of the energy, one for all matrices: {ranks_reached}"


def _said(rows: pd.DataFrame, level: float) -> str:
    rank = _reaches(rows, level)
    return f">{rows['r'].max():,}" if rank is None else f"{rank:,}"


def _left_out(lines: pd.DataFrame, changed: pd.DataFrame, shown: list[str]) -> list[str]:
    still = [str(name) for name in dict.fromkeys(lines["module"]) if name not in set(changed["module"])]
    weak = [str(name) for name in dict.fromkeys(changed["module"]) if name not in shown]
    notes = [f"did not change: {listed(still)}"] if still else []
    notes += [f"in the table only, for their small energy: {listed(weak)}"] if weak else []
    return notes
