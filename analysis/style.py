"""One look for every figure, legible in grey, and the files that a figure becomes."""

import functools
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation

from lorax_lab.record.files import write_csv, write_whole
from lorax_lab.record.palette import CATEGORICAL, SEQUENTIAL

COLUMN, PAGE, HIGHEST = 3.5, 7.0, 7.5
"""Widths of a paper's column and of its page, and the height of a figure without its title at most, inches."""
PALETTE = "ranks"
"""`lorax_lab.record.palette.SEQUENTIAL` between its two ends, by its name: of ranks, k and heat maps. Light is little,
dark is much."""
ENDS = ("#def5e5", "#0b0405")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
FONT = 7.5
"""Points of every letter, but for the few that stand in a cell or at a point."""
TITLE_LINES, TITLE_LINE = 3, 0.15
"""Lines of a title for which a figure has room, and the inches that another takes."""
LETTER, GAP = 0.66, 5.0
"""Width of a digit as a share of its height; points between two numbers of an axis."""
ZERO = 1.0
"""How far below 1 an axis of ranks has its 0, octaves."""
BESIDE = 4.0
"""Points by which what stands beside a mean is moved: the seeds behind it, or another line's mean."""
LEAST, ABOVE = 0.5, 1.4
"""What stands for 0 on an axis of estimated ranks, and by how much above the largest that was tried "more than that"
stands."""
LINES = ("-", "--", "-.", ":")
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx")
INK = "0.15"
LOOK: Any = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 1.0),
    **dict.fromkeys(("patch.linewidth", "xtick.minor.width", "ytick.minor.width"), 0.8),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 4.8),
    **dict.fromkeys(("xtick.minor.size", "ytick.minor.size"), 3.2),
    "font.sans-serif": ["Arial", "DejaVu Sans", "Liberation Sans", "Bitstream Vera Sans", "sans-serif"],
    "legend.title_fontsize": 9.6,
    "grid.color": "0.8",
    "axes.axisbelow": True,
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
    "axes.titlelocation": "left",
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "legend.fontsize": FONT,
    "legend.frameon": False,
    "font.size": FONT,
    "hatch.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,  # letters stay letters, so a journal can edit and search them
}
METADATA: dict[str, dict[str, Any]] = {"png": {}, "pdf": {"CreationDate": None}}
Draw = Callable[..., Figure]
mpl.colormaps.register(LinearSegmentedColormap.from_list(PALETTE, (ENDS[0], *SEQUENTIAL, ENDS[1])), force=True)


def styled(draw: Draw) -> Draw:
    """`draw` under the lab's style, whatever the caller's own style is; nothing of it stays behind."""

    @functools.wraps(draw)
    def wrapper(*arguments: Any) -> Figure:
        with mpl.rc_context(LOOK):
            return draw(*arguments)

    return wrapper


def canvas(width: float, height: float) -> Figure:
    """An empty figure, in inches, that belongs to no window. None is higher than what a screen or a page shows."""
    figure = Figure(figsize=(width, min(height, HIGHEST)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(
    count: int, height: float, xlabel: str, ylabel: str, across: int = 3, room: float = 0.9, sharey: bool = True
) -> tuple[Figure, list[Axes]]:
    """A page-wide figure of `count` panels on a common horizontal axis, at most `across` in a row, each row `height`
    inches high; the outer ones are labelled. Title and legend have `room` inches."""
    across = min(count, across)
    rows = -(-count // across)
    figure = canvas(PAGE, room + height * rows)
    return figure, panels_in(figure, count, rows, across, xlabel, ylabel, sharex=True, sharey=sharey)


def panels_in(
    figure: Figure | SubFigure, count: int, rows: int, across: int, xlabel: str, ylabel: str, **share: Any
) -> list[Axes]:
    """`count` panels in a figure or a part of it, row by row; the outer ones are labelled."""
    grid = list(figure.subplots(rows, across, squeeze=False, **share).flat)
    for axes in grid[count:]:
        axes.remove()
    for axes in grid[:count:across]:
        axes.set_ylabel(ylabel)
    for axes in grid[max(0, count - across) : count]:
        axes.set_xlabel(xlabel)
        axes.tick_params(labelbottom=True)
    return grid[:count]


def spectra_grid(table: pd.DataFrame, height: float) -> tuple[Figure, Axes, list[tuple[Axes, pd.DataFrame]]]:
    """A figure of spectra: layers down, module types across, each row `height` inches high; both axes logarithmic, with
    a tick of the index, `i`, at each power of 2, or of 4 where there are many. Returns the figure, its first axes, and
    each panel that has rows in the table, with these; the others are not shown."""
    place = table["layer"].astype(float).fillna(-1)
    layers, modules, longest = sorted(set(place)), list(dict.fromkeys(table["module"])), table["i"].max()
    figure = canvas(max(COLUMN, 0.4 + 2.2 * len(modules)), 1.1 + height * len(layers))
    grid = figure.subplots(len(layers), len(modules), sharex=True, sharey=True, squeeze=False)
    panels = []
    for axes, (layer, module) in zip(grid.flat, product(layers, modules), strict=True):
        rows = table[(place == layer) & (table["module"] == module)]
        if rows.empty:
            axes.set_axis_off()
        else:
            panels.append((axes, rows))
    first, step = grid[0][0], 2 if longest <= 32 else 4
    first.set_xscale("log", base=2)
    first.set_xticks([step**power for power in range(16) if step**power <= max(longest, 1)])
    first.xaxis.set_major_formatter("{x:,.0f}")
    first.minorticks_off()
    first.set_yscale("log")
    grid[-1][len(modules) // 2].set_xlabel("index i")
    grid[len(layers) // 2][0].set_ylabel("singular value σᵢ")
    return figure, first, panels


def heat_map(
    axes: Axes, values: np.ndarray, texts: Sequence[str], layers: list[int], modules: list[str], **scale: Any
) -> QuadMesh:
    """A heat map, layer by module type, in which dark is much; what stands in a dark cell is white.

    Args:
        values: of the colours, (layers, modules) fp64; NaN leaves a cell empty.
        texts: of the cells, row by row; none where there is no room for them.
    """
    edges: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.4} if texts else {}
    mesh = axes.pcolormesh(values, cmap=PALETTE, **scale, **edges)
    luminance = mesh.to_rgba(np.ma.masked_invalid(values))[..., :3] @ (0.21, 0.72, 0.07)
    for (i, j), text in zip(np.ndindex(values.shape) if texts else (), texts, strict=True):
        if not text:
            continue
        ink = "white" if luminance[i, j] < 0.5 and not math.isnan(values[i, j]) else "0.15"
        axes.text(j + 0.5, i + 0.5, text, ha="center", va="center_baseline", color=ink, fontsize=6)
    axes.set(ylabel="layer", ylim=(len(layers), 0))
    axes.spines[:].set_visible(False)
    axes.label_outer()
    shown = range(0, len(layers), math.ceil(len(layers) / (40 if texts else 20)))
    axes.set_yticks([i + 0.5 for i in shown], [str(layers[i]) for i in shown])
    axes.set_xticks([i + 0.5 for i in range(len(modules))], modules, rotation=90)
    axes.tick_params(length=0)
    return mesh


def colours(count: int) -> list[Any]:
    """`count` colours of things in an order, such as ranks, from light to dark; none too light for a line on white."""
    shades = mpl.colormaps[PALETTE]
    return [shades(place / (count + 3))[:3] for place in range(3, count + 3)]


def distinct(count: int) -> list[str]:
    """`count` colours of things without an order, such as tasks. After the last they begin again: marks and dashes
    tell those apart."""
    return list(islice(cycle(CATEGORICAL), count))


def finish(figure: Figure, text: str, axes: Axes, columns: int) -> Figure:
    """The figure with its title and, below it, the legend of `axes`."""
    title(figure, text)
    legend(figure, axes, columns)
    return figure


def title(figure: Figure, text: str) -> None:
    """A title over the whole figure, at its left edge, wrapped to its width. A long one makes the figure higher."""
    width = int(figure.get_figwidth() * 15.5)
    lines = "\n".join(folded_evenly(line, width) for line in text.split("\n"))
    had, more = (max(0, shown.count("\n") + 1 - TITLE_LINES) for shown in (figure.get_suptitle(), lines))
    figure.set_figheight(figure.get_figheight() + TITLE_LINE * (more - had))
    figure.suptitle(lines, x=0.01, ha="left", fontsize=FONT)


def folded_evenly(line: str, width: int) -> str:
    """A line folded to as few lines as `width` letters need, of about one length.

    >>> print(folded_evenly("surely in 0 and 4 of 6", 20))
    surely in 0
    and 4 of 6
    """
    count = len(textwrap.wrap(line, width, break_on_hyphens=False))
    folds = (textwrap.wrap(line, less, break_on_hyphens=False) for less in range(width // 2, width + 1))
    return "\n".join(next(lines for lines in folds if len(lines) <= count))


def lead(figure: Figure, claim: str) -> None:
    """What a figure found, above what its title says of it."""
    title(figure, f"{claim}\n{figure.get_suptitle()}".strip())


def remark(figure: Figure, text: str) -> None:
    """One more line of the title, for which the figure becomes higher."""
    figure.set_figheight(figure.get_figheight() + TITLE_LINE)
    figure.suptitle(f"{figure.get_suptitle()}\n{text}", x=0.01, ha="left", fontsize=FONT)


def stamp(figure: Figure, text: str) -> None:
    """A framed note above the title, at the right edge, that nobody overlooks and that covers nothing."""
    frame = {"boxstyle": "square,pad=0.3", "facecolor": "white", "edgecolor": "black", "linewidth": 0.8}
    figure.set_figheight(figure.get_figheight() + 0.25)
    figure.suptitle(f"\n\n{figure.get_suptitle()}", x=0.01, ha="left", fontsize=FONT)
    figure.text(0.985, 0.985, text, ha="right", va="top", weight="bold", bbox=frame)


def legend(figure: Figure, axes: Axes, columns: int) -> None:
    """The legend of `axes` below the figure, where it covers no data. A `$` in a label, which may be a user's own name,
    begins no formula."""
    handles, labels = axes.get_legend_handles_labels()
    width = int(figure.get_figwidth() * 18 / columns) - 8
    labels = [textwrap.fill(label, width) for label in labels]
    below = figure.legend(handles, labels, loc="outside lower left", ncols=columns, handlelength=2.6)
    for text in below.get_texts():
        text.set_multialignment("left")
        text.set_parse_math(False)


def legend_entry(axes: Axes, name: str, **look: Any) -> None:
    """An entry in the legend of `axes` for what several panels may show; it stands there once."""
    if name not in axes.get_legend_handles_labels()[1]:
        axes.plot([], [], label=name, **look)


def rank_axis(axes: Axes, ranks: list[int]) -> None:
    """A log₂ axis of ranks. Each tick is one of them and has its number; where two numbers would meet, the smaller rank
    has no tick, but for the smallest. 0, where it is one of them, has its place on the left."""
    if 0 in ranks:
        axes.set_xscale("symlog", base=2, linthresh=1, linscale=ZERO / 2)
        axes.set_xlim(-0.4, 1.25 * max(ranks))
    else:
        axes.set_xscale("log", base=2)
    first, *larger = sorted(ranks)
    places = {rank: math.log2(rank) if rank else -ZERO for rank in (first, *larger)}
    octaves = places[max(ranks)] - places[first] + 0.7
    room = 72 * axes.get_window_extent().width / _figure(axes).dpi / octaves
    apart = (LETTER * FONT * len(f"{max(ranks):,}") + GAP) / room
    shown: list[int] = []
    for rank in reversed(larger):
        if places[rank] - places[first] >= apart and (not shown or places[shown[0]] - places[rank] >= apart):
            shown.insert(0, rank)
    axes.set_xticks([first, *shown], [f"{rank:,}" for rank in (first, *shown)])
    axes.minorticks_off()


def estimate_axis(axes: Axes, largest: float) -> None:
    """A vertical log₂ axis of ranks from 0, which has its place below 1, to at least `largest`."""
    top = 1.2 * ABOVE * max(2.0, largest)
    axes.set_yscale("log", base=2)
    axes.set_ylim(0.8 * LEAST, top)
    ticks = [2**power for power in range(16) if 2**power <= top]
    axes.set_yticks([LEAST, *ticks], ["0", *(f"{tick:,}" for tick in ticks)])
    axes.minorticks_off()


def looks(count: int) -> list[dict[str, Any]]:
    """Settings of `count` lines without an order that differ in colour, dashes and mark, so that no two are alike in
    grey."""
    settings = zip(distinct(count), cycle(LINES), cycle(MARKERS), strict=False)
    return [{"color": colour, "linestyle": line, "marker": marker} for colour, line, marker in settings]


def shifted(axes: Axes, points: float) -> Any:
    """The transform of data that are drawn so many points to the right of their place, on any scale of the axis."""
    return axes.transData + ScaledTranslation(points / 72, 0, _figure(axes).dpi_scale_trans)


def bars(axes: Axes, places: Any, means: Any, low: Any, high: Any, *, shift: float = 0.0, **look: Any) -> None:
    """Means with their intervals, drawn `shift` points to the right of their places; the axes make room for them as for
    any. An end that is NaN has no bar."""
    place, mean, low, high = (np.asarray(values, float) for values in (places, means, low, high))
    reach = np.maximum([mean - low, high - mean], 0)  # an end may lie on the other side of its mean by rounding
    axes.errorbar(place, mean, reach, transform=shifted(axes, shift), **look)
    ends = [np.column_stack([place, np.where(np.isnan(end), mean, end)]) for end in (mean - reach[0], mean + reach[1])]
    corners = np.concatenate(ends)
    axes.update_datalim(corners[np.isfinite(corners).all(axis=1)])
    axes.autoscale_view()


def zero_and_margin(axes: Axes, margin: float | None, **look: Any) -> None:
    """The level of no difference, and dashed the difference that is the margin, where there is one."""
    axes.axhline(0, color="0.4", linewidth=0.8, **look)
    if margin is not None:
        axes.axhline(margin, color="0.4", linewidth=0.8, linestyle="--", **look)


def _figure(axes: Axes) -> Figure:
    """The whole figure that the axes belong to."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def spread_out(number: float, count: int, apart: float = BESIDE) -> float:
    """By how many points the `number`-th of `count` lines is shifted so that none covers another, their middle not.

    >>> [spread_out(i, 3, 4.0) for i in range(3)]
    [-4.0, 0.0, 4.0]
    """
    return apart * (number - (count - 1) / 2)


def lines(names: Sequence[Any], apart: float = 2 * BESIDE) -> Iterator[tuple[Any, dict[str, Any], float]]:
    """Each name with the look of its line, and by how many points it is shifted so that no line covers another."""
    for number, (name, look) in enumerate(zip(names, looks(len(names)), strict=True)):
        yield name, look, spread_out(number, len(names), apart)


def halo(width: float = 2) -> dict[str, Any]:
    """Settings of a text, or a mark, that stays legible over lines."""
    return {"path_effects": [withStroke(linewidth=width, foreground="white")]}


def folded(name: str, width: int) -> str:
    """A dotted name on lines of at most `width` letters, broken after its dots or underscores where it has them.

    >>> folded("block_sparse_moe.experts.w1", 20)
    'block_sparse_moe.\\nexperts.w1'
    """
    if len(name) <= width:
        return name
    cut = max(name.rfind(mark, 0, width) for mark in "._") + 1 or width
    return f"{name[:cut]}\n{folded(name[cut:], width)}"


def wrapped(name: str, width: int) -> str:
    """A name of several words on lines of at most `width` letters."""
    return textwrap.fill(name, width, break_on_hyphens=False)


def save(table: pd.DataFrame, figure: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.png` (200 dpi), `.pdf` and `.csv`, each whole and without a date: the same table gives the
    same bytes."""
    with mpl.rc_context(LOOK):
        for kind, metadata in METADATA.items():
            write = functools.partial(figure.savefig, format=kind, dpi=200, metadata=metadata)
            write_whole(Path(f"{stem}.{kind}"), write)
            figure.set_layout_engine("none")  # the PDF keeps the layout of the PNG
    write_csv(Path(f"{stem}.csv"), table)
    return [Path(f"{stem}.{kind}") for kind in (*METADATA, "csv")]
