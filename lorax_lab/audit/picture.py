"""A card's picture: energy by module type beside its null, sizes by layer, and the score when cut.

It is drawn here and not by `analysis`: a card is one page that leaves the lab, beside an adapter on a hub, and the
command that writes it writes it whole. `analysis` draws what entries have left, many records on one figure.
"""

from __future__ import annotations

import io
import math
import textwrap
from typing import TYPE_CHECKING, Any

from lorax_lab.audit.facts import Facts
from lorax_lab.record.palette import CATEGORICAL, sequential_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, ACROSS, MOST = 8.0, 4, 8
"""Inches; panels in a row; module types that are drawn, those with the most energy."""
LINE, NULL = CATEGORICAL[0], "0.45"
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "text.parse_math": False,  # names are a user's own: a $ in them is no formula
}
FAR = 6
"""Margins below the whole down to which differences are drawn; those further down are written."""
MOST_LAYERS, MOST_TYPES = 40, 14
"""Rows and columns of the map of sizes that can be read."""


def png(facts: Facts, title: list[str]) -> bytes:
    """The picture, 200 dots per inch; the same facts give the same bytes. `title` has lines, none on a page."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figure = draw(facts, title)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=200, metadata={"Software": None})
    return content.getvalue()


def draw(facts: Facts, title: list[str]) -> Figure:
    """All panels on one page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = _drawn(facts)
    rows = math.ceil(len(drawn) / ACROSS)
    layers, types = _axes_of(facts)
    below = facts["layers"]["moved"] and bool(types)
    lower = min(4.5, 1.3 + 0.16 * max(len(layers), 9)) if below or facts["scores"] else 0.0
    lines = [part for line in title for part in textwrap.wrap(line, 125)]
    figure = Figure(figsize=(WIDTH, 0.35 + 0.15 * len(lines) + 1.65 * rows + lower), layout="constrained")
    FigureCanvasAgg(figure)
    if lines:
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=8.5)
    both: Any = (figure, figure)
    if rows and lower:
        both = figure.subfigures(2, 1, height_ratios=(1.65 * rows, lower))
    upper, under = both
    if rows:
        _energies(upper, drawn, rows)
    panels = [panel for panel, there in ((_sizes, below), (_cuts, facts["scores"])) if there]
    if panels and lower:
        for axes, panel in zip(under.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            panel(axes, facts)
    return figure


def _drawn(facts: Facts) -> list[Facts]:
    with_curve = [m for m in facts["modules"] if m["curve"]]
    sizes = {m["module"]: 0.0 for m in with_curve}
    for matrix in facts["layers"]["matrices"]:
        if matrix["module"] in sizes:
            sizes[matrix["module"]] += (matrix["size"] or 0.0) ** 2
    kept = sorted(sizes, key=sizes.__getitem__, reverse=True)[:MOST]
    return [m for m in with_curve if m["module"] in kept]


def _energies(part: Any, drawn: list[Facts], rows: int) -> None:
    """The share of the energy in the top k directions, a panel for each module type."""
    every = list(part.subplots(rows, min(ACROSS, len(drawn)), squeeze=False, sharey=True).flat)
    for axes, module in zip(every, drawn, strict=False):
        curve = module["curve"]
        k = [point["k"] for point in curve]
        axes.fill_between(k, [p["low"] for p in curve], [p["high"] for p in curve], color=LINE, alpha=0.2, linewidth=0)
        marker = "o" if len(k) <= 16 else ""
        axes.plot(k, [p["median"] for p in curve], color=LINE, marker=marker, markersize=3, label="update")
        if curve[0]["null"] is not None:
            axes.plot(k, [p["null"] for p in curve], color=NULL, linestyle="--", label="noise, its valid null")
        else:
            axes.text(0.97, 0.06, "no valid null", transform=axes.transAxes, ha="right", color="0.3", fontsize=7.5)
        for share in (0.9, 0.99):
            axes.axhline(share, color="0.8", linewidth=0.7, zorder=0)
        axes.set_title(_short(module["module"]))
        axes.set_ylim(0, 1.04)
        axes.set_yticks([0, 0.5, 0.9, 0.99], ["0", ".5", ".9", ".99"])
        _rank_axis(axes, max(k))
    for axes in every[len(drawn) :]:
        axes.remove()
    shown = [pair for axes in every[: len(drawn)] for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    handles = {label: handle for handle, label in shown}
    part.legend(handles.values(), handles.keys(), loc="outside lower right", ncols=2)
    part.supxlabel("top k directions (band: least and most over the layers)", fontsize=8)
    part.supylabel("share of ‖ΔW‖²", fontsize=8)


def _rank_axis(axes: Axes, largest: int) -> None:
    step = 1 if largest <= 4 else 2 if largest <= 64 else 4
    if largest > 4:
        axes.set_xscale("log", base=2)
    ticks = range(1, largest + 1) if step == 1 else [step**i for i in range(16) if step**i <= largest]
    axes.set_xticks(list(ticks), [str(tick) for tick in ticks])
    axes.minorticks_off()


def _axes_of(facts: Facts) -> tuple[list[str], list[str]]:
    """Layers and module types of the map of sizes: those that are in a numbered layer."""
    placed = [m for m in facts["layers"]["matrices"] if m["layer"] != m["matrix"]] or facts["layers"]["matrices"]
    return list(dict.fromkeys(m["layer"] for m in placed)), list(dict.fromkeys(m["module"] for m in placed))


def _sizes(axes: Axes, facts: Facts) -> None:
    """How large the updates are, layers down, module types across; the mean where a cell has several."""
    import numpy as np

    layers, types = (names[:most] for names, most in zip(_axes_of(facts), (MOST_LAYERS, MOST_TYPES), strict=True))
    cells: dict[tuple[str, str], list[float]] = {}
    for m in facts["layers"]["matrices"]:
        cells.setdefault((m["layer"], m["module"]), []).append(math.nan if m["size"] is None else m["size"])
    grid = np.array([[np.mean(cells.get((layer, module), [math.nan])) for module in types] for layer in layers])
    image = axes.imshow(grid, cmap=sequential_map(), aspect="auto", vmin=0)
    axes.set_xticks(range(len(types)), [_short(module, 24) for module in types], rotation=40, ha="right")
    axes.set_yticks(range(len(layers)), _layer_names(layers))
    axes.set_title(f"{facts['layers']['unit']}, by layer")
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = axes.figure.colorbar(image, ax=axes)
    bar.outline.set_visible(False)


def _layer_names(layers: list[str]) -> list[str]:
    """Their numbers where they are of one stack, else names that are as short as they can be."""
    stacks = {layer.rpartition(".")[0] for layer in layers}
    if len(stacks) == 1:
        return [layer.rpartition(".")[2] for layer in layers]
    return [_short(".".join(layer.split(".")[-2:]), 20) for layer in layers]


def _cuts(axes: Axes, facts: Facts) -> None:
    """What a cut changes of the score against k, on validation; at the chosen k on test too."""
    scores = facts["scores"]
    cuts = scores["cuts"]
    k, value = [cut["k"] for cut in cuts], [cut["difference"] for cut in cuts]
    axes.axhline(0, color="0.3", linewidth=0.9, label="whole")
    axes.axhspan(-scores["margin"], 0, color="0.9", zorder=0, label=f"within {scores['margin']:g}")
    if None not in (ends := [cut["surely"] for cut in cuts[:-1]]):
        axes.vlines(k[:-1], value[:-1], ends, color=LINE, linewidth=1, alpha=0.7)
        axes.plot(k[:-1], ends, linestyle="", marker="_", color=LINE, alpha=0.7, label="lower end, one-sided 95 %")
    axes.plot(k, value, color=LINE, marker="o", markersize=3.5, label="validation")
    chosen, test = scores["chosen"], scores["test"]
    axes.plot([chosen], [value[k.index(chosen)]], "o", color="black", markersize=9, fillstyle="none", label="chosen")
    if chosen != scores["full"]:
        ends = [] if test["low"] is None else [[test["difference"] - test["low"]], [test["high"] - test["difference"]]]
        right = chosen * 1.12 if chosen else 0.1
        axes.errorbar(right, test["difference"], yerr=ends or None, fmt="x", color="black", label="test, 95 %")
    floor = -FAR * scores["margin"]
    if scores["margin"] and min(value) < floor:
        axes.set_ylim(
            floor, max(0.5 * scores["margin"], *(cut["difference"] + 0.25 * scores["margin"] for cut in cuts))
        )
        for at, below in zip(k, value, strict=True):
            if below < floor:
                axes.annotate(f"{below:+.2f} ↓", (at, floor), (0, 4), textcoords="offset points", ha="center")
    axes.set_xscale("symlog", base=2, linthresh=1)
    axes.set_xlim(-0.4, 1.25 * max(k))
    ticks = [tick for tick in k if tick == 0 or tick == max(k) or tick & (tick - 1) == 0]
    if len(ticks) > 2 and ticks[-1] <= 1.5 * ticks[-2]:
        del ticks[-2]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    better = "" if scores["higher_is_better"] else " (above 0: better)"
    axes.set(xlabel="k directions in every matrix", ylabel=f"{scores['metric']}, cut − whole{better}")
    axes.set_title(f"score when cut: {scores['task']}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, handlelength=1.5)


def _short(name: str, letters: int = 26) -> str:
    """The end of a long name, which tells it from others."""
    return name if len(name) <= letters else f"…{name[-letters + 1 :]}"
