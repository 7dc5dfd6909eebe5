"""Effective rank of every update, layer by module type, beside what noise of the same shape has.

The effective rank is exp H(p), p_i = σ_i / Σσ (Roy & Vetterli 2007). A share of 1 is what noise gives: dense for
full fine-tuning, a product of Gaussian factors of the same rank for LoRA. Only shares well below it are structure.
"""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorax_lab.record.result import UNDEFINED

from .. import style
from ..groups import CannotDraw, Group, spread
from ..variants import REFERENCE, choice, collapsed, of_collapsed, shared

TITLE = "heat map of the effective rank, layer by module type, as a share of what noise has"
NONE = "–"
"""What stands in a cell without a value."""
PANELS, WIDEST, TALLEST = 4, 8, 12
"""Panels at most; module types that still fit two panels beside each other; layers that still fit two lines."""


def table(group: Group) -> pd.DataFrame:
    """One row per run and matrix: `effective_rank`, that of noise in `null`, and their ratio `share`, NaN where
    noise tells nothing (rank 1, and methods that have no null); where a measure of some matrix has no value,
    `undefined` says why.

    Raises:
        CannotDraw: no matrix was measured.
    """
    from lorax_lab.record.measures import has_null

    if group.matrices.empty:
        raise CannotDraw(f"no update was measured; type {group.command('rank=4,8,16')}")
    reasons = [UNDEFINED] if UNDEFINED in group.matrices else []
    places = ["layer", "module", "matrix"]
    measured = group.matrices[["run_id", *places, "effective_rank", "null.effective_rank", *reasons]]
    measured = measured.rename(columns={"null.effective_rank": "null"})
    rows = group.runs[["run_id", *group.columns, "best"]].merge(measured, on="run_id")
    rows = rows.astype({"rank": "Int64", "layer": "Int64", "effective_rank": float, "null": float})
    is_usable = [has_null(method, null) for method, null in zip(rows["method"], rows["null"], strict=True)]
    rows = rows.assign(share=rows["effective_rank"] / np.where(is_usable, rows["null"], math.nan), **group.title)
    return rows[[*group.title, *group.columns, "best", *places, "effective_rank", "null", "share", *reasons]]


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A heat map per arm, coloured by the share; each cell says the effective rank and, below it, the share.

    Of several variants of a method and rank, the best; of many arms, the reference and a spread of the others.
    Matrices outside the layers, and the other variants, are in the table only.
    """
    best = table[table["best"]]
    rows = best[best["layer"].notna()] if best["layer"].notna().any() else best.assign(layer=0)
    arms = list(dict.fromkeys(rows["arm"]))
    reference = list(dict.fromkeys(rows.loc[rows["method"] == REFERENCE, "arm"]))
    shown = spread([arm for arm in arms if arm not in reference], PANELS - len(reference)) + reference
    layers, modules = sorted({int(layer) for layer in rows["layer"]}), list(dict.fromkeys(rows["module"]))
    across = 2 if len(shown) % 2 == 0 and len(modules) <= WIDEST else 1
    width = max(style.COLUMN, min(style.PAGE, 1.0 + across * 0.55 * len(modules)))
    names = [f"{arm}{of_collapsed(rows[rows['arm'] == arm])}" for arm in shown]
    titles = [style.wrapped(name, int(15 * (width - 0.6) / across)) for name in names]
    panel = 0.2 + 0.15 * max(title.count("\n") + 1 for title in titles)
    panel += (0.34 if len(layers) <= TALLEST else 0.19) * len(layers)
    down = math.ceil(len(shown) / across)
    figure = style.canvas(width, 0.9 + 0.07 * max(map(len, modules)) + down * panel)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for arm, axes, title in zip(shown, grid.flat, titles, strict=True):
        _panel(axes, rows[rows["arm"] == arm], layers, modules)
        axes.set_title(title)
    bar = figure.colorbar(grid[0][0].collections[0], ax=grid, location="bottom", aspect=50, shrink=0.6)
    bar.set_label("share of noise's effective rank (in brackets)")
    first, seeds = rows.iloc[0], rows["seed"].nunique()
    text = f"{first['model']} on {first['task']}: effective rank of ΔW"
    text += f", mean over {seeds} seeds" if seeds > 1 else ""
    text += f"; {len(shown)} of {len(arms)} methods and ranks" if len(shown) < len(arms) else ""
    style.title(figure, text + shared(table) + choice(table) + collapsed(rows) + _without_value(rows))
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, layers: list[int], modules: list[str]) -> None:
    def grid(column: str) -> np.ndarray:
        means = rows.pivot_table(column, "layer", "module", lambda values: values.mean(skipna=False))
        return means.reindex(index=layers, columns=modules).to_numpy(float)

    shares, between = grid("share"), "\n" if len(layers) <= TALLEST else " "
    texts = [_words(*pair, between) for pair in zip(grid("effective_rank").flat, shares.flat, strict=True)]
    style.heat_map(axes, shares, texts, layers, modules, vmin=0, vmax=1)


def _words(value: float, share: float, between: str) -> str:
    """`212 (.69)`, with a space or a line break between; no brackets where noise tells nothing."""
    if value != value:
        return NONE
    size = f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    if share != share:
        return size
    return f"{size}{between}({share:.2f})".replace("(0.", "(.")


def _without_value(rows: pd.DataFrame) -> str:
    """Says why cells have no value: a mean over matrices or seeds would overlook one that has none."""
    if not rows["effective_rank"].isna().any():
        return ""
    bare = rows[rows["effective_rank"].isna()]
    reasons = dict.fromkeys(bare[UNDEFINED].dropna()) if UNDEFINED in bare else {}
    count = bare[["arm", "seed", "matrix"]].drop_duplicates().shape[0]
    return f"\n{NONE}: no effective rank in {count:,} matrices{': ' * bool(reasons)}{', or '.join(reasons)}"
