"""A figure of the page: what plotly draws of it, the table behind it, and the command that makes it.

The only door to plotly. Traces are built by plotly's own classes, which refuse what the browser would not draw.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorax_lab.windows.palette import SEQUENTIAL

from .. import constant, style

if TYPE_CHECKING:
    import pandas as pd

Trace = dict[str, Any]
DIGITS = 6
"""Significant digits of the numbers that are drawn, and of those in the CSV files of the page."""
DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}
SYMBOLS = {
    "o": "circle",
    "s": "square",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
}
"""What plotly calls matplotlib's dashes and marks."""
INK, QUIET = "#1a1a1a", "#767676"
"""Colours of what the others are compared with, and of levels such as noise."""
CATEGORY = 26
"""Letters of a line of a category's name beside its axis, at most."""
TICKS_APART = 0.4
"""The least distance of two numbers on an axis of ranks, in powers of two."""
COLLAPSED_MARK = {"symbol": "x-thin", "size": 11, "color": INK, "line": {"width": 2, "color": INK}}


@dataclass(frozen=True)
class View:
    """One state of a figure, which a menu on the page chooses: traces and layout as plotly.js takes them."""

    name: str
    traces: list[Trace]
    layout: dict[str, Any]


@dataclass(frozen=True)
class Plot:
    """A figure of the page.

    Attributes:
        name: the stem of its CSV's name.
        title: what it shows, or what was found.
        views: its states; the first is shown at once.
        table: what its CSV has.
        command: what to type to make it, or its CSV.
        notes: what a reader has to know, such as which runs are missing or how it was thinned.
        wide: whether it has the whole width of the page.
        picture: the figure as PNG, where there is no interactive form of it.
    """

    name: str
    title: str
    views: list[View]
    table: pd.DataFrame
    command: str
    notes: tuple[str, ...] = ()
    wide: bool = False
    picture: bytes | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether there is something to see; where not, a note says why."""
        return bool(self.views) or self.picture is not None


def plain(text: object) -> str:
    """A text that plotly shows to the letter: it would read tags and entities in it.

    >>> plain("a<b> & c")
    'a&lt;b&gt; &amp; c'
    """
    return html.escape(str(text), quote=False)


def folded(text: object) -> str:
    """As `plain`, on lines of at most `CATEGORY` letters. What is no category is folded by the page, to its width."""
    return "<br>".join(plain(line) for line in style.wrapped(str(text), CATEGORY).split("\n"))


def looks(count: int) -> list[dict[str, Any]]:
    """Settings of `count` lines, those of `style.looks` in plotly's words."""
    from matplotlib.colors import to_hex

    return [
        {
            "line": {"color": to_hex(look["color"]), "dash": DASHES[look["linestyle"]], "width": 2},
            "marker": {"color": to_hex(look["color"]), "symbol": SYMBOLS[look["marker"]], "size": 7},
        }
        for look in style.looks(count)
    ]


def scatter(name: object, x: Iterable[Any], y: Iterable[Any], **settings: Any) -> Trace:
    """A line, or points, with the given settings of `plotly.graph_objects.Scatter`."""
    from plotly.graph_objects import Scatter

    return dict(Scatter(name=plain(name), x=numbers(x), y=numbers(y), **settings).to_plotly_json())


def level(name: object, value: float, ends: tuple[float, float], **line: Any) -> Trace:
    """A level line from one end of the horizontal axis to the other."""
    look = {"color": INK, "width": 1.5} | line
    hover = f"%{{y:.{DIGITS}g}}"
    return scatter(name, ends, (value, value), mode="lines", line=look, hovertemplate=hover)


def band(low: float, high: float) -> dict[str, Any]:
    """A grey band between two levels, over the whole width."""
    low, high = numbers((low, high))
    fill = {"fillcolor": QUIET, "opacity": 0.15, "line": {"width": 0}, "layer": "below"}
    return {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": low, "y1": high} | fill


def constant_level(rows: pd.DataFrame, ends: tuple[float, float]) -> list[Trace]:
    """A level at what one answer for every input scores, such as the majority class, where the rows know it."""
    found = constant.of_rows(rows)
    return [level(found[1], found[0], ends, color=QUIET, dash="longdash")] if found else []


def bars(means: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> dict[str, Any]:
    """Error bars from `lows` to `highs` around the means; none where an end is no number."""
    above = [high - mean for mean, high in zip(means, highs, strict=True)]
    below = [mean - low for mean, low in zip(means, lows, strict=True)]
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, value) if math.isfinite(value) else None for value in above],
        "arrayminus": [max(0.0, value) if math.isfinite(value) else None for value in below],
        "thickness": 1.2,
        "width": 3,
    }


def place(size: float) -> float:
    """Where a rank or k stands on the axis: log₂ of it, and 0 one step to the left of 1.

    >>> place(0), place(1), place(8)
    (-1.0, 0.0, 3.0)
    """
    return math.log2(size) if size > 0 else -1.0


def places(sizes: Iterable[Any]) -> list[float]:
    """As `place`, of several."""
    return [place(float(size)) for size in sizes]


def rank_axis(sizes: Iterable[Any], title: str) -> dict[str, Any]:
    """An axis on which each of the sizes is numbered, at its `place`, but one whose number would lie under that of the
    next larger one."""
    every = sorted({int(size) for size in sizes})
    near = {a for a, b in itertools.pairwise(every) if place(b) - place(a) < TICKS_APART}
    every = [size for size in every if size not in near]
    text = [f"{size:,}" for size in every]
    return axis(title) | {"tickmode": "array", "tickvals": places(every), "ticktext": text, "zeroline": False}


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with its title."""
    return {"title": {"text": plain(title), "standoff": 10}, "zeroline": False, "automargin": True} | more


def ends_of(sizes: Iterable[Any]) -> tuple[float, float]:
    """The first and the last place of some sizes, a little apart, for a level line."""
    where = places(sizes) or [0.0]
    return min(where) - 0.3, max(where) + 0.3


def numbers(values: Iterable[Any]) -> list[Any]:
    """Plain values for JSON: floats to `DIGITS` significant digits, None for what is no number.

    >>> numbers([1, 0.12345678, float("nan"), "a", None])
    [1, 0.123457, None, 'a', None]
    """
    return [_number(value) for value in values]


def _number(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else None if value != value else str(value)


def colourscale() -> list[list[Any]]:
    """The sequential palette, light to dark, as a colour scale from 0 to 1."""
    last = len(SEQUENTIAL) - 1
    return [[number / last, colour] for number, colour in enumerate(SEQUENTIAL)]
