"""Pages from templates: the words stand in the `*.j2` beside this file, the numbers come in one dict for each page.

In a template a paragraph, an item of a list or a row of a table may go over several lines: `render` makes one line of
each. The lines of a row end with `|`, and only the first begins with one.
"""

import math
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from lorax_lab.record.redact import redact
from lorax_lab.record.share import MOST, SURE
from lorax_lab.record.statistics import Interval

from ..study.words import SAMPLE, ends, listed

NONE = "—"


def render(template: str, **numbers: Any) -> str:
    """A page as Markdown, a line for each paragraph, item and row."""
    return flowed(environment().get_template(f"{template}.j2").render(numbers))


def rendered(text: str, **numbers: Any) -> str:
    """A text with its numbers, in one line."""
    return flowed(environment().from_string(text).render(numbers)).strip()


def flowed(text: str) -> str:
    r"""One line for each paragraph, item of a list and row of a table, one empty line between blocks.

    >>> flowed("a\n b\n, c\n\n\n- d\n  .5\n- f\n")
    'a b, c\n\n- d .5\n- f\n'
    """
    blocks = [block for block in re.split(r"\n\s*\n", text) if block.strip()]
    lines = [re.sub(r"\s*\n\s*+(?=[,;:)]|\.(?!\d))", "", block.strip()) for block in blocks]
    lines = [re.sub(r"\s*\n\s*+(?!- |\|)", " ", block) for block in lines]
    return "\n\n".join("\n".join(" ".join(line.split()) for line in block.splitlines()) for block in lines) + "\n"


@cache
def environment(html: bool = False) -> jinja2.Environment:
    """The templates. Markdown is not escaped: what others named has been checked before, and GitHub shows no scripts.
    In HTML every text is redacted, then escaped, since an escaped secret would not be seen as one."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=html,
        finalize=(lambda value: redact(value) if type(value) is str else value) if html else None,
    )
    templates.filters |= {"listed": listed, "fixed": fixed, "span": span, "g": "{:g}".format, "n": "{:,}".format}
    templates.filters |= {"range": lambda values, digits: ends(values, f"{{:.{digits}f}}")}
    templates.filters |= {"percent": _percent}
    templates.filters |= {"sentence": lambda text: text[:1].upper() + text[1:]}
    templates.filters |= {"s": lambda count: "" if count == 1 else "s", "words": lambda name: name.replace("_", " ")}
    templates.filters |= {"mean": lambda interval, digits: unsigned_zero(fixed(interval.mean, digits))}
    templates.filters |= {"arm": lambda name: name.replace(" r=", " at rank ")}
    templates.tests |= {"sample": lambda task: bool(SAMPLE.search(task))}
    templates.globals |= {"NONE": NONE, "SURE": SURE, "MOST": MOST}
    return templates


def fixed(value: float, digits: int, sign: str = "") -> str:
    """A number to some digits; a dash where there is none.

    >>> fixed(0.25, 1), fixed(0.25, 3, "+"), fixed(float("nan"), 1)
    ('0.2', '+0.250', '—')
    """
    return f"{value:{sign}.{digits}f}" if math.isfinite(value) else NONE


def unsigned_zero(text: str) -> str:
    """A number without its sign where it is zero, also by rounding.

    >>> unsigned_zero("-0.0"), unsigned_zero("+0.1")
    ('0.0', '+0.1')
    """
    return text.lstrip("+-") if text != NONE and float(text) == 0 else text


def span(interval: Interval, digits: int) -> str:
    """A mean with its interval, to more digits where an end would round to 0; in words where it has none; a dash where
    there is no mean.

    >>> span(Interval(0.2, -0.01, 0.3, 5), 1), span(Interval(0.2, math.nan, math.nan, 1), 1)
    ('0.20 [-0.01, 0.30]', '0.2, without an interval')
    """
    lost = [end for end in (interval.low, interval.high) if end and not round(end, digits)]
    digits += next((more for more in (1, 2) if any(round(end, digits + more) for end in lost)), 0)
    mean, low, high = (unsigned_zero(fixed(end, digits)) for end in (interval.mean, interval.low, interval.high))
    if mean == NONE:
        return NONE
    return f"{mean}, without an interval" if low == NONE else f"{mean} [{low}, {high}]"


def _percent(shares: Sequence[float]) -> str:
    """The smallest and the largest share, in percent; with a digit more where one is below 1 %."""
    form = "{:.0f}" if min(shares) >= 0.01 else "{:.1f}"
    return f"{ends([100 * share for share in shares], form)} %"
