"""`python -m analysis step FOLDER`: predicted training steps, full and LoRA, over models, batches and ranks.

Reads the tables that `python -m lorax_lab.memory --tables FOLDER` wrote; needs no model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import style
from .folders import Drawn, draw_folder

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CATEGORIES = ("weights", "gradients", "optimizer_states", "activations", "temporaries")
GIB = 2**30
NO_LONGER = 0.9
"""From this share of full fine-tuning's peak on, LoRA counts as saving no memory."""


def main(arguments: list[str] | None = None) -> int:
    """Draw the tables of one folder; returns the exit code."""
    description = "Figures of what a training step holds and computes: every preset, and one model's batches and ranks."
    return draw_folder(arguments, "step", description, "python -m lorax_lab.memory --tables FOLDER", read, draw_all)


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of a folder by the name of their figure.

    Raises:
        FileNotFoundError: one is not there.
    """
    import pandas as pd

    return {name: pd.read_csv(folder / f"{name}.csv", dtype={"rank": "Int64"}) for name in DRAW}


def draw_all(tables: dict[str, pd.DataFrame], folder: Path) -> Drawn:
    """Draw each table's figure into `folder`, as PNG, PDF and CSV."""
    for name, table in tables.items():
        style.save(table, DRAW[name](table), folder / name)
    return [f"{name}.{{png,pdf,csv}}" for name in tables], []


@style.styled
def draw_presets(table: pd.DataFrame) -> Figure:
    """Two stacked bars for each model, in shares of full fine-tuning's peak."""
    models = list(dict.fromkeys(table["model"]))
    figure = style.canvas(style.PAGE, 0.9 + 0.36 * len(models))
    axes = figure.add_subplot()
    looks = list(zip(CATEGORIES, style.distinct(len(CATEGORIES)), style.HATCHES, strict=True))
    for place, model in enumerate(models):
        of_model = table[table["model"] == model]
        full_row = of_model[of_model["rank"].isna()].iloc[0]
        for side, row in ((-0.19, full_row), (0.19, of_model[of_model["rank"].notna()].iloc[0])):
            left = 0.0
            for category, colour, hatch in looks:
                width = 100 * row[category] / full_row["peak"]
                look: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
                label = category.replace("_", " ") if place == 0 and side < 0 else None
                axes.barh(place + side, width, 0.34, left=left, label=label, **look)
                left += width
            arm = "full" if row is full_row else f"LoRA r = {row['rank']}"
            text = f"{arm}: {row['peak'] / GIB:,.1f} GiB"
            axes.annotate(text, (left, place + side), (3, 0), textcoords="offset points", va="center", fontsize=6)
    axes.set_yticks(range(len(models)), models)
    axes.set_ylim(len(models) - 0.5, -0.5)
    axes.set_xlim(0, 122)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("memory at the peak, % of full fine-tuning's")
    style.title(figure, f"what a training step holds at its peak, {_about(table.iloc[0])}")
    style.legend(figure, axes, columns=3)
    return figure


@style.styled
def draw_batches(table: pd.DataFrame) -> Figure:
    """Contours over batch and sequence: the share of activations in full's peak, and LoRA's peak as a share of it."""
    full = table[table["rank"].isna()].set_index(["batch", "sequence"])
    lora = table[table["rank"].notna()].set_index(["batch", "sequence"])
    growing = (full["activations"] + full["temporaries"]) / full["peak"]
    figure = style.canvas(style.PAGE, 3.2)
    left, right = figure.subplots(1, 2, sharey=True)
    _contours(left, growing, "activations and temporaries in full fine-tuning's peak")
    _contours(right, lora["peak"] / full["peak"], "LoRA's peak as a share of full's", NO_LONGER)
    left.set_ylabel("examples in the batch")
    rank = lora["rank"].iloc[0]
    settings = _about(table.iloc[0], sizes=False)
    style.title(figure, f"{table['model'].iloc[0]}, LoRA r = {rank}: where LoRA stops saving memory ({settings})")
    return figure


def _contours(axes: Axes, values: pd.Series, title: str, line: float | None = None) -> None:
    """Both axes are log₂, and the interpolation between the points is too."""
    import numpy as np

    grid = values.rename("share").reset_index().pivot_table(index="batch", columns="sequence", values="share")
    across, up, heights = np.log2(grid.columns), np.log2(grid.index), grid.to_numpy()
    levels = [tenth / 10 for tenth in range(11)]
    axes.contourf(across, up, heights, levels=levels, cmap=style.PALETTE, vmin=0, vmax=1.2)
    thin = [level for level in levels if level != line]
    drawn = axes.contour(across, up, heights, levels=thin, colors="black", linewidths=0.5)
    for text in axes.clabel(drawn, fmt="%.1f", fontsize=6.5, colors="black", inline_spacing=1):
        text.set(clip_on=False, **style.halo())
    if line is not None:
        axes.contour(across, up, heights, levels=[line], colors="black", linewidths=2.5)
        title += f" (thick: {line:.0%})"
    axes.set_xticks(across[::2], [f"{tick:,}" for tick in grid.columns[::2]])
    axes.set_yticks(up[::2], [f"{tick:,}" for tick in grid.index[::2]])
    axes.set_title(title)
    axes.set_xlabel("tokens of an example")


@style.styled
def draw_ranks(table: pd.DataFrame) -> Figure:
    """Memory and operations of a step against LoRA's rank, as shares of full fine-tuning's."""
    full = table[table["rank"].isna()].iloc[0]
    lora = table[table["rank"].notna()]
    figure = style.canvas(style.PAGE, 2.9)
    titles = {"peak": "memory at the peak", "operations": "floating-point operations"}
    for axes, (key, title) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
        shares = 100 * lora[key] / full[key]
        axes.plot(lora["rank"].astype(int), shares, label="LoRA", **style.looks(1)[0])
        _level(axes, 100, "full")
        style.rank_axis(axes, [int(rank) for rank in lora["rank"]])
        axes.set_ylim(0, max(110, 1.1 * shares.max()))
        axes.set_xlabel("rank of LoRA")
        axes.set_title(title)
    figure.axes[0].set_ylabel("% of full fine-tuning's")
    style.title(figure, f"{full['model']}: what a step takes against LoRA's rank, {_about(full)}")
    return figure


@style.styled
def draw_cost(table: pd.DataFrame) -> Figure:
    """A step's operations and its measured time against LoRA's rank, as shares of full fine-tuning's; the time's bars
    are quartiles."""
    figure = style.canvas(style.COLUMN, 3.0)
    axes, look = figure.add_subplot(), style.looks(2)
    ranks, first = table["rank"].astype(int), table.iloc[0]
    axes.plot(ranks, table["operations"], label="operations", **look[0])
    bars = [table["time"] - table["time_low"], table["time_high"] - table["time"]]
    axes.errorbar(ranks, table["time"], bars, label="time, median and quartiles", capsize=2, **look[1])
    for share, text in ((1.0, "full"), (2 / 3, "2/3, the\nlimit")):
        _level(axes, share, text)
    style.rank_axis(axes, list(ranks))
    axes.set(xlabel="rank of LoRA", ylabel="share of full fine-tuning's step")
    axes.set_ylim(0, None)
    sizes = f"{first['batch']} × {first['sequence']} tokens"
    style.title(figure, f"{first['model']}, {sizes}: a step of LoRA against one of full fine-tuning")
    style.legend(figure, axes, columns=1)
    return figure


def _level(axes: Axes, value: float, name: str) -> None:
    """A dotted line, with its name right of the axes, where it lies over no other line."""
    axes.axhline(value, color="black", linestyle=":", linewidth=1)
    placement: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
    axes.annotate(name, (1.0, value), (3, 0), xycoords=("axes fraction", "data"), **placement)


def _about(row: pd.Series, sizes: bool = True) -> str:
    where = f"{row['batch']} × {row['sequence']} tokens, " if sizes else ""
    return f"{where}{row['optimizer']}, {row['precision']}, {row['attention']} attention"


DRAW = {"step_presets": draw_presets, "step_batches": draw_batches, "step_ranks": draw_ranks}
