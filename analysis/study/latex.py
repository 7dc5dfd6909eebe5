r"""Tables for a paper, whose layout and words stand in `analysis/pages/*.tex.j2`: booktabs, a mean and its interval in
two columns under one head, units in the head, the rules in a note below.

They need `\usepackage{booktabs,longtable}` and nothing else, and fit a text that is 5.5 inches wide. A table with more
rows than a page has is a longtable.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..pages import printed, unsigned_zero
from ..scores import DIRECTION, unit

if TYPE_CHECKING:
    import pandas as pd

NONE, BOTH = "---", " & "
ESCAPES = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{"≤": r"$\leq$", "≥": r"$\geq$", "·": r"$\cdot$", "×": r"$\times$", "−": r"$-$", "—": "---"},
    **{"α": r"$\alpha$", "Δ": r"$\Delta$", "φ": r"$\varphi$"},
}


def written(template: str, table: pd.DataFrame, **numbers: Any) -> str:
    """A figure's table as LaTeX. Scores are hundredths; where lower is better they are no shares, and stay as they are,
    in the unit that they have."""
    scale, digits, of_unit = (100.0, 1, r"$\times 100$") if DIRECTION not in table else (1.0, 3, escaped(unit(table)))

    def interval(row: dict[str, Any], name: str = "", signed: bool = False, is_bold: bool = False) -> str:
        keys = [f"{name}{end}" for end in ("", "_low", "_high")] if name else ["mean", "low", "high"]
        mean, low, high = (number(scale * float(row[key]), digits, signed) for key in keys)
        ends = "" if NONE in (mean, low) else f"[{low}, {high}]"
        return f"{bold(mean)} & {bold(ends)}" if is_bold else f"{mean} & {ends}"

    words = {"interval": interval, "tex": escaped, "bold": bold, "number": number, "whole": whole}
    return printed(f"{template}.tex", **words, **numbers, unit=of_unit, scale=scale, scientific=scientific)


def escaped(text: object) -> str:
    r"""Text as LaTeX prints it.

    >>> print(escaped("95 % of movie_reviews"))
    95 \% of movie\_reviews
    """
    return "".join(ESCAPES.get(letter, letter) for letter in str(text))


def bold(text: str) -> str:
    r"""A cell in bold, its mathematics too.

    >>> print(bold("4"), bold("$-0.9$"))
    \textbf{4} \textbf{\boldmath $-0.9$}
    """
    return rf"\textbf{{\boldmath {text}}}" if "$" in text else rf"\textbf{{{text}}}"


def number(value: float, digits: int = 1, signed: bool = False) -> str:
    r"""A number in mathematical print, `---` where there is none; it is never a negative zero.

    >>> print(number(-0.46), number(-0.04, signed=True), number(2.5, signed=True), number(float("nan")))
    $-0.5$ $0.0$ $+2.5$ ---
    """
    sign = "+" if signed else ""
    return f"${unsigned_zero(f'{value:{sign}.{digits}f}')}$" if math.isfinite(value) else NONE


def scientific(value: float) -> str:
    r"""A number of any size, such as a learning rate.

    >>> print(scientific(0.002), scientific(2.5e-05))
    $0.002$ $2.5\times10^{-5}$
    """
    mantissa, _, exponent = f"{value:g}".partition("e")
    return f"${mantissa}\\times10^{{{int(exponent)}}}$" if exponent else f"${mantissa}$"


def whole(value: float) -> str:
    r"""A number of things, with thin spaces between thousands.

    >>> print(whole(22713216))
    22\,713\,216
    """
    return NONE if not math.isfinite(value) else f"{value:,.0f}".replace(",", r"\,")
