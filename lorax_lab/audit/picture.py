"""A card's picture: energy by module type beside its null, and the score when cut.

It is drawn here and not by `analysis`: a card is one page that leaves the lab, beside an adapter on a hub.
"""

import io
import math
import textwrap
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lorax_lab.audit.facts import Facts
from lorax_lab.record.palette import CATEGORICAL

WIDTH, ACROSS, MOST, LETTERS = 8.0, 4, 8, 26
"""Inches; panels in a row; module types that are drawn, those with the most energy; letters of a name, its last."""
LINE, NULL = CATEGORICAL[0], "0.45"
STYLE: Any = {
    "font.size": 8, "axes.titlesize": 8.5, "axes.titlelocation": "left", "axes.labelsize": 8,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5, "legend.frameon": False,
    "text.parse_math": False,  # names are a user's own: a $ in them is no formula
}  # fmt: skip
FAR = 6
"""Margins below the whole down to which differences are drawn."""


def png(facts: Facts, title: list[str]) -> bytes:
    """The picture, 200 dots per inch; the same facts give the same bytes. `title` has lines."""
    with mpl.rc_context(STYLE):
        content = io.BytesIO()
        draw(facts, title).savefig(content, format="png", dpi=200, metadata={"Software": None})
    return content.getvalue()


def draw(facts: Facts, title: list[str]) -> Figure:
    """All panels on one page: above the energies, below the cuts."""
    drawn = sorted((m for m in facts["modules"] if m["curve"]), key=lambda m: -m["energy"])[:MOST]
    modules = [m for m in facts["modules"] if m in drawn]
    rows = math.ceil(len(modules) / ACROSS)
    lines = [part for line in title for part in textwrap.wrap(line, 125)]
    heights = [height for height in (1.65 * rows, 2.6 if facts["scores"] else 0.0) if height]
    figure = Figure(figsize=(WIDTH, 0.35 + 0.15 * len(lines) + sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=8.5)
    parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).flat) if heights else []
    if rows:
        _energies(parts[0], modules, rows)
    if facts["scores"]:
        _cuts(parts[-1].subplots(), facts["scores"])
    return figure


def _energies(part: Any, modules: list[Facts], rows: int) -> None:
    """The share of the energy in the top k directions, a panel for each module type."""
    every = list(part.subplots(rows, min(ACROSS, len(modules)), squeeze=False, sharey=True).flat)
    for axes, module in zip(every, modules, strict=False):
        curve = {key: [point[key] for point in module["curve"]] for key in module["curve"][0]}
        k, null = curve["k"], curve["null"]
        axes.fill_between(k, curve["low"], curve["high"], color=LINE, alpha=0.2, linewidth=0)
        axes.plot(k, curve["median"], "o-" if len(k) <= 16 else "-", color=LINE, markersize=3, label="update")
        if null[0] is not None:
            axes.plot(k, null, color=NULL, linestyle="--", label="noise, its valid null")
        else:
            axes.text(0.97, 0.06, "no valid null", transform=axes.transAxes, ha="right", color="0.3", fontsize=7.5)
        for share in (0.9, 0.99):
            axes.axhline(share, color="0.8", linewidth=0.7, zorder=0)
        name = module["module"]
        axes.set_title(name if len(name) <= LETTERS else f"…{name[1 - LETTERS :]}")
        axes.set_ylim(0, 1.04)
        axes.set_yticks([0, 0.5, 0.9, 0.99], ["0", ".5", ".9", ".99"])
        axes.set_xscale("log", base=2, subs=[])
        ticks = [2**i for i in range(0, max(k).bit_length(), 1 if max(k) <= 64 else 2)]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
    for axes in every[len(modules) :]:
        axes.remove()
    legends = [axes.get_legend_handles_labels() for axes in every[: len(modules)]]
    part.legend(*max(legends, key=lambda legend: len(legend[1])), loc="outside lower right", ncols=2)
    part.supxlabel("top k directions (line: median layer, band: all)", fontsize=8)
    part.supylabel("share of ‖ΔW‖²", fontsize=8)


def _cuts(axes: Axes, scores: Facts) -> None:
    """What a cut changes of the score against k, on validation; at the chosen k on test too."""
    cuts, margin, chosen, test = scores["cuts"], scores["margin"], scores["chosen"], scores["test"]
    k, value = [cut["k"] for cut in cuts], [cut["difference"] for cut in cuts]
    axes.axhline(0, color="0.3", linewidth=0.9, label="whole")
    axes.axhspan(-margin, 0, color="0.9", zorder=0, label=f"within {margin:g}")
    if None not in (ends := [cut["surely"] for cut in cuts[:-1]]):
        axes.vlines(k[:-1], value[:-1], ends, color=LINE, linewidth=1, alpha=0.7)
        axes.plot(k[:-1], ends, linestyle="", marker="_", color=LINE, alpha=0.7, label="lower end, one-sided 95 %")
    axes.plot(k, value, color=LINE, marker="o", markersize=3.5, label="validation")
    axes.plot([chosen], [value[k.index(chosen)]], "o", color="black", markersize=9, fillstyle="none", label="chosen")
    if chosen != scores["full"]:
        ends = [] if test["low"] is None else [[test["difference"] - test["low"]], [test["high"] - test["difference"]]]
        right = chosen * 1.12 if chosen else 0.1
        axes.errorbar(right, test["difference"], yerr=ends or None, fmt="x", color="black", label="test, 95 %")
    if margin and min(value) < -FAR * margin:
        axes.set_ylim(-FAR * margin, max(value) + 0.5 * margin)
        axes.set_title("lower ones are in the table", loc="right", fontsize=7)
    axes.set_xscale("symlog", base=2, linthresh=1)
    axes.set_xlim(-0.4, 1.25 * max(k))
    ticks = [*(tick for tick in k if tick.bit_count() < 2 and tick < max(k) / 1.5), max(k)]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    better = "" if scores["higher_is_better"] else " (above 0: better)"
    axes.set(xlabel="k directions in every matrix", ylabel=f"{scores['metric']}, cut − whole{better}")
    axes.set_title(f"score when cut: {scores['task']}")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), handlelength=1.5)
