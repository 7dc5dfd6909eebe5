"""How many labels drawn at random a LoRA holds, against two rules of thumb."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lorax_lab.record.statistics import t_interval
from lorax_lab.study.answers import LOSSES

from ... import style
from ..comparison import is_lost, seeds_of
from ..records import Records, models_of, score_of

TITLE = "how much of labels drawn at random LoRA learns, against two rules of thumb"
BITS, COUNTING = "bits_per_number", "counting"
BITS_A_NUMBER, COUNTING_FACTOR = 2, 1.35
"""What a number holds (Schulman 2025), and how many independent numbers K·N asks for (arXiv 2605.03724)."""
LAWS = {BITS: BITS_A_NUMBER, COUNTING: 1 / COUNTING_FACTOR}
"""Up to which ratio a sample is held."""
NAMES = {
    BITS: "bits of the labels per number trained",
    COUNTING: "classes × texts per independent number, K·N / Σ r(m + n) − r²",
}
HELD = 0.99
PLATEAU = 0.05
"""A share of the bits that twice as many steps may add where a LoRA is near its plateau."""


def table(records: Records) -> pd.DataFrame:
    """One row per sample and arm of LoRA of which no run diverged.

    Columns: `classes`, `texts`, `steps` of training; `numbers` that LoRA trains; `bits_per_number`, N·log2(K) over
    these; `counting`, K·N over Σ r(m + n) − r²; `right`, the share of the labels that is right, the mean over seeds;
    `held`, whether that is `HELD` or more; `value`, `low`, `high`: the share of the labels' bits that is learned, by
    the log loss, with its 95 % interval over seeds; `stored`, `stored_low`, `stored_high`: the bits a number that these
    are.
    """
    arms = {arm.name: arm.rank for arm in records.protocol.arms if arm.rank}
    rows = [
        {"task": task, "arm": arm} | _cell(list(seeds_of(records, task, arm).values()), rank)
        for task in records.conditions
        for arm, rank in arms.items()
        if not is_lost(records, task, arm)
    ]
    return pd.DataFrame(rows)


def _cell(lines: Sequence[Any], rank: int) -> dict[str, Any]:
    """What an arm's runs of one sample say."""
    first = lines[0]
    classes, texts = len(first["inputs"]["classes"]), first["inputs"]["examples"]["train"]
    numbers = first["parameters"]["adapter"]
    independent = numbers - rank**2 * len(first["matrices"])
    right = float(np.mean([score_of(line, "test") for line in lines]))
    learned = t_interval([1 - float(np.mean(line[LOSSES], dtype=float)) / math.log(classes) for line in lines])
    bits = texts * math.log2(classes) / numbers
    return {
        "classes": classes,
        "texts": texts,
        "steps": first["time"]["steps"],
        "numbers": numbers,
        BITS: bits,
        COUNTING: classes * texts / independent,
        "right": right,
        "held": right >= HELD,
        "value": learned.mean,
        "low": learned.low,
        "high": learned.high,
        "stored": learned.mean * bits,
        "stored_low": learned.low * bits,
        "stored_high": learned.high * bits,
        "seeds": len(lines),
    }


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that the rules are tried on: of a sample that is trained for two lengths the shorter is a control."""
    return table[table["steps"] == table.groupby(["classes", "texts"])["steps"].transform("max")]


def wrong(ratios: pd.Series, held: pd.Series, most: float) -> int:
    """How many cells are told wrongly if a sample is held up to a ratio of `most`.

    >>> wrong(pd.Series([1, 3]), pd.Series([True, True]), 2)
    1
    """
    return int(((ratios <= most) != held).sum())


def fitted(ratios: pd.Series, held: pd.Series) -> float:
    """The constant that tells the fewest cells wrongly: the geometric middle of a gap between ratios, the lowest of
    several.

    >>> fitted(pd.Series([1.0, 2.0, 8.0]), pd.Series([True, True, False]))
    4.0
    """
    ordered = sorted(ratios)
    middles = [math.sqrt(a * b) for a, b in zip([ordered[0] / 2, *ordered], [*ordered, ordered[-1] * 2], strict=True)]
    return min(middles, key=lambda most: wrong(ratios, held, most))


def fit_on_half(table: pd.DataFrame, law: str) -> tuple[float, int, int]:
    """A rule's constant as it is fitted to every second cell in the order of its ratio; how many of the other cells it
    tells wrongly, and how many these are."""
    ordered = cells(table).sort_values(law, kind="stable")
    fit, rest = ordered[::2], ordered[1::2]
    most = fitted(fit[law], fit["held"])
    return most, wrong(rest[law], rest["held"], most), len(rest)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel for each rule: what is learned over the rule's ratio. A colour stands for an arm, a marker for a number
    of classes; what was trained for fewer steps is hollow."""
    figure, tried = style.canvas(style.PAGE, 3.2), cells(table)
    arms, classes = (list(dict.fromkeys(table[column])) for column in ("arm", "classes"))
    colours = dict(zip(arms, style.distinct(len(arms)), strict=True))
    markers = {classes: look["marker"] for classes, look in zip(classes, style.looks(len(classes)), strict=True)}
    for axes, law in zip(figure.subplots(1, 2, sharey=True), LAWS, strict=True):
        for rows, fill in ((tried, {}), (table.drop(tried.index), {"mfc": "white"})):
            for (arm, count), points in rows.groupby(["arm", "classes"]):
                look = {"color": colours[arm], "marker": markers[count], "linestyle": "none", "markersize": 4.5} | fill
                style.bars(axes, points[law], points["value"], points["low"], points["high"], **look)
        axes.axvline(LAWS[law], color="0.3", linestyle="--", linewidth=0.8)
        axes.axvline(fit_on_half(table, law)[0], color="0.3", linestyle=":", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xlabel(style.wrapped(NAMES[law], 45))
    first = figure.axes[0]
    first.set_ylabel("share of the labels' bits learned")
    for arm, colour in colours.items():
        style.legend_entry(first, arm, color=colour, marker="s", linestyle="none")
    for count, marker in markers.items():
        style.legend_entry(first, f"{count} classes", color="0.3", marker=marker, linestyle="none")
    text = (
        f"{models_of(table)}: labels drawn at random. Left of a line all would be held. Dashed: as published; dotted: "
    )
    text += "fitted to half of the cells; hollow: trained for fewer steps; 95 % intervals over seeds"
    return style.finish(figure, text, first, columns=4)


def claim(table: pd.DataFrame) -> str:
    """How many cells each rule tells rightly as published, and as fitted on the cells that had no part in the fit.

    >>> rows = pd.DataFrame({BITS: [1.0, 1.5, 4.0, 8.0], COUNTING: [0.5, 1.0, 2.0, 4.0], "classes": 2, "texts": 9})
    >>> print(claim(rows.assign(held=[True, True, False, False], steps=9)).replace(". ", ".\\n"))
    The rule of 2 bits a number is right in 4 of 4 cells, 1.35·K·N in 3.
    Fitted to half they are 2 bits and 1·K·N, and right in 2 and 2 of the other 2
    """
    tried = cells(table)
    right = [len(tried) - wrong(tried[law], tried["held"], most) for law, most in LAWS.items()]
    (most_bits, bits, count), (most_counted, counting, _) = (fit_on_half(table, law) for law in LAWS)
    text = f"The rule of 2 bits a number is right in {right[0]} of {len(tried)} cells, 1.35·K·N in {right[1]}. "
    text += f"Fitted to half they are {most_bits:.2g} bits and {1 / most_counted:.2g}·K·N, "
    text += f"and right in {count - bits} and {count - counting} of the other {count}"
    if (shorter := table.drop(tried.index)).empty:
        return text
    both = shorter.merge(tried, on=["classes", "texts", "arm"])
    learns_more = (both["value_y"] - both["value_x"]).max() > PLATEAU
    return f"{text}. More steps learn more, so what is held is a lower bound" if learns_more else text
