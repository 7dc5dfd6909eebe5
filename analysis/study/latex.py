r"""Tables for a paper: booktabs, a mean and its interval in one cell, units in the head, the rules in a note below.

They need `\usepackage{booktabs,longtable}` and nothing else, and fit a text that is 5.5 inches wide. A table with more
rows than a page has is a longtable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..scores import DIRECTION, unit

if TYPE_CHECKING:
    import pandas as pd

PAGE_ROWS = 40
"""Rows of a table that fit on a page."""
NONE = "---"
BOTH, INTERVAL = " & ", r"r@{\,}l"
"""Between a mean and its interval, which are columns of their own under one head: the means' points stand in a line."""
FRAME = r"\footnotesize\setlength{\tabcolsep}{2pt}"
ESCAPES = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "−": r"$-$",
    "—": "---",
    "α": r"$\alpha$",
    "Δ": r"$\Delta$",
    "φ": r"$\varphi$",
}


@dataclass(frozen=True)
class Column:
    """A column of a table: its head, the unit below it, and how its cells are set (`l`, `r`, or `INTERVAL`)."""

    head: str
    unit: str = ""
    align: str = "l"


def document(columns: Sequence[Column], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """The table, whose cells are LaTeX already.

    Args:
        rows: cells of each row; an empty row is a rule between two parts, a row of one cell a heading over its part.
        notes: sentences below the table.
    """
    align = "".join(column.align for column in columns)
    width = len(columns) + sum(column.align == INTERVAL for column in columns)
    heads = [_heads(columns, [column.head for column in columns])]
    heads += [_heads(columns, [column.unit for column in columns])] if any(column.unit for column in columns) else []
    head = [r"\toprule", *heads, r"\midrule"]
    body = [_row(row, width) for row in rows]
    note = rf"\par\smallskip\noindent\parbox{{\linewidth}}{{{' '.join(notes)}}}\par}}"
    is_long = len(rows) > PAGE_ROWS
    frame = "longtable" if is_long else "tabular"
    repeated = [r"\endhead"] if is_long else []
    begin = rf"\begin{{{frame}}}{{@{{}}{align}@{{}}}}"
    lines = [rf"{{{FRAME}", begin, *head, *repeated, *body, r"\bottomrule", rf"\end{{{frame}}}", note]
    return "\n".join(lines) + "\n"


def units(table: pd.DataFrame) -> tuple[float, int, str]:
    """By what a table's scores are multiplied, with how many digits they stand, and the unit in the head: hundredths;
    where lower is better the scores are no shares, and stay as they are, in the unit that they have."""
    return (100.0, 1, r"$\times 100$") if DIRECTION not in table else (1.0, 3, escaped(unit(table)))


def _heads(columns: Sequence[Column], texts: Sequence[str]) -> str:
    """A line of the head, each text over all that its column has."""
    pairs = zip(columns, texts, strict=True)
    return _line([rf"\multicolumn{{2}}{{l}}{{{text}}}" if column.align == INTERVAL else text for column, text in pairs])


def _row(cells: Sequence[str], width: int) -> str:
    if not cells:
        return r"\midrule"
    if len(cells) == 1:
        return rf"\multicolumn{{{width}}}{{@{{}}l}}{{\textit{{{cells[0]}}}}} \\"
    line = _line(cells)
    assert line.count(BOTH) == width - 1, (cells, width)
    return line


def _line(cells: Sequence[str]) -> str:
    return BOTH.join(cells) + r" \\"


def escaped(text: str) -> str:
    r"""Text as LaTeX prints it.

    >>> print(escaped("95 % of movie_reviews"))
    95 \% of movie\_reviews
    """
    return "".join(ESCAPES.get(letter, letter) for letter in text)


def bold(text: str) -> str:
    r"""A cell in bold, its mathematics too.

    >>> print(bold("4"), bold("$-0.9$ & [$-1.8$, $0.0$]"))
    \textbf{4} \textbf{\boldmath $-0.9$} & \textbf{\boldmath [$-1.8$, $0.0$]}
    """
    parts = [rf"\boldmath {part}" if "$" in part else part for part in text.split(BOTH)]
    return BOTH.join(rf"\textbf{{{part}}}" for part in parts)


def number(value: float, digits: int = 1, signed: bool = False) -> str:
    r"""A number in mathematical print, `---` where there is none; it is never a negative zero.

    >>> print(number(-0.46), number(-0.04, signed=True), number(2.5, signed=True), number(float("nan")))
    $-0.5$ $0.0$ $+2.5$ ---
    """
    if not math.isfinite(value):
        return NONE
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    is_zero = float(text) == 0
    return f"${text.lstrip('+-') if is_zero else text}$"


def of_interval(
    mean: float, low: float, high: float, signed: bool = False, scale: float = 100.0, digits: int = 1
) -> str:
    r"""The cell of an `INTERVAL` column: a mean with its interval, or without one.

    >>> print(of_interval(-0.009, -0.018, 0.0, signed=True))
    $-0.9$ & [$-1.8$, $0.0$]
    """
    value = number(scale * mean, digits, signed)
    if not math.isfinite(mean) or math.isnan(low):
        return f"{value}{BOTH}"
    return f"{value}{BOTH}[{number(scale * low, digits, signed)}, {number(scale * high, digits, signed)}]"


def scientific(value: float) -> str:
    r"""A number of any size, such as a learning rate.

    >>> print(scientific(0.002), scientific(2.5e-05))
    $0.002$ $2.5\times10^{-5}$
    """
    mantissa, _, exponent = f"{value:g}".partition("e")
    return f"${mantissa}\\times10^{{{int(exponent)}}}$" if exponent else f"${mantissa}$"


def probability(value: float) -> str:
    r"""A p value to three digits.

    >>> print(probability(0.0214), probability(1e-5), probability(1.0))
    $.021$ $<.001$ $1.000$
    """
    return "$<.001$" if value < 0.0005 else number(value, 3).replace("$0.", "$.")


def whole(value: float) -> str:
    r"""A number of things, with thin spaces between thousands.

    >>> print(whole(22713216))
    22\,713\,216
    """
    return NONE if not math.isfinite(value) else f"{value:,.0f}".replace(",", r"\,")
