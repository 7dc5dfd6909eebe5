"""Pieces of HTML. Every text that comes from outside is escaped here, and nowhere is it taken for markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

SHOWN = 12
"""Items of a list that are seen at once; the others are folded."""
MOST_ITEMS, MOST_ROWS = 500, 4000
"""Items of a list, and rows of the table of runs, that the page has at most."""

INTERVAL = re.compile(r"\[([-+−]?[\d.]+), ([-+−]?[\d.]+)\]")


@dataclass(frozen=True)
class Runs:
    """The table of runs: its headings, which of them are of numbers, and a row of texts for each run."""

    headings: list[str]
    numeric: set[str]
    rows: list[list[str]]


def text(content: object) -> str:
    """A text as HTML shows it, also within an attribute."""
    return escape(str(content), quote=True)


def code(content: str) -> str:
    """A command or a name."""
    return f"<code>{text(content)}</code>"


def bullets(items: Sequence[str]) -> str:
    """A list of texts; a long one is folded, and cut at `MOST_ITEMS` with the number of the rest."""
    if not items:
        return ""
    shown, folded = items[:SHOWN], items[SHOWN:MOST_ITEMS]
    parts = [_list(shown)]
    if folded:
        parts.append(f"<details><summary>{len(folded):,} more</summary>{_list(folded)}</details>")
    if left := len(items) - MOST_ITEMS:
        parts.append(f'<p class="note">{left:,} more are not on this page.</p>' if left > 0 else "")
    return "".join(parts)


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{text(item)}" for item in items) + "</ul>"


def runs(table: Runs) -> str:
    """The table of runs with its filter; of more than `MOST_ROWS` runs the first, which is said."""
    kinds = [' class="n"' if heading in table.numeric else "" for heading in table.headings]
    pairs = zip(table.headings, kinds, strict=True)
    head = "".join(f'<th scope="col"{kind}><button>{text(heading)}</button></th>' for heading, kind in pairs)
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{text(cell)}" for cell, kind in zip(row, kinds, strict=True))
        for row in table.rows[:MOST_ROWS]
    )
    cut = len(table.rows) - MOST_ROWS
    note = f'<p class="note">The table has the first {MOST_ROWS:,} of {len(table.rows):,} runs.</p>' if cut > 0 else ""
    hint = "filter, such as lora or rank=4"
    return (
        f'<div class="runs">{note}<div class="controls"><input type="search" placeholder="{hint}" aria-label="{hint}">'
        '<output></output><button data-rows>these rows as CSV</button></div><div class="scroll tall">'
        f'<table class="rows"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></div>'
    )


def markdown(content: str) -> str:
    """A page in Markdown, with tables that scroll where they are too wide, and intervals that stay on one line. HTML in
    it is shown to the letter."""
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False}).enable("table").render(INTERVAL.sub("[\\1,\xa0\\2]", content))
    return str(made).replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
