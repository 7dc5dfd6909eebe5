"""The page as one file of HTML: no network, at most `LARGEST` bytes, the same records the same bytes.

Figures, CSV files and plotly itself are in it as gzip. What does not fit is left out, and the page says what and how to
get it.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from lorax_lab.errors import ConfigError
from lorax_lab.record.files import csv_text
from lorax_lab.record.redact import redact, redacted

from . import dark, markup
from .markup import text
from .plot import DIGITS, Plot

LARGEST = 5_000_000
"""Bytes of a page, at most."""
SPARE = 4096
"""Bytes that stay free for the words about what was left out of one figure."""
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""What a browser lets the page load: nothing that is not in it."""
MOST_LINKS = 12
"""Sections that have a link at the top, at most."""
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """A part of the page: its heading, what is said (HTML), and its figures."""

    key: str
    heading: str
    content: str
    plots: list[Plot] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """What the page says. `lead` is HTML, all else are texts."""

    title: str
    question: str
    lead: str
    sections: list[Section]


def render(page: Page) -> str:
    """The whole file.

    Raises:
        ConfigError: it would be larger than `LARGEST` even without figures.
    """
    plots = {f"{section.key}-{plot.name}": plot for section in page.sections for plot in section.plots}
    bundle = _script("plotly", _plotly()) if plots else ""
    frame = _body(page, dict.fromkeys(plots, (True, True)))
    left = LARGEST - SPARE * (len(plots) + 1) - len(_document(page, frame, "").encode()) - len(bundle)
    if left < 0:
        raise ConfigError(
            f"the page would be larger than {LARGEST:,} bytes without any figure; name fewer runs, --runs"
        )
    parts, shown, files = _fitting(plots, left)
    body = _body(page, {key: (key in shown, key in files) for key in plots})
    return _document(page, body, bundle + "".join(parts))


def _fitting(plots: dict[str, Plot], left: int) -> tuple[list[str], set[str], set[str]]:
    """The packed figures and CSV files for which there is room, and whose they are: figures in their order, then CSV
    files, the smallest first."""
    parts, shown = [], set[str]()
    for key, plot in plots.items():
        if not plot.views:
            continue
        part = _script(f"{key}-spec", pack(specification(plot)))
        if len(part) <= left:
            parts.append(part)
            shown.add(key)
            left -= len(part)
    files = {key: _script(f"{key}-csv", pack(_csv(plot))) for key, plot in plots.items() if plot.is_drawn}
    kept = set[str]()
    for key, part in sorted(files.items(), key=lambda item: (len(item[1]), item[0])):
        if len(part) <= left:
            parts.append(part)
            kept.add(key)
            left -= len(part)
    return parts, shown, kept


def specification(plot: Plot) -> str:
    """What the browser draws of a figure, as JSON, without secrets."""
    views = [{"traces": view.traces, "layout": view.layout} for view in plot.views]
    content = {"views": redacted(views, keys=False), "dark": dark.colours_of(views)}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def pack(content: str | bytes) -> str:
    """Gzip in base 64; the same content gives the same letters."""
    raw = content.encode() if isinstance(content, str) else content
    return base64.b64encode(gzip.compress(raw, 9, mtime=0)).decode()


@lru_cache(maxsize=1)
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return pack(get_plotlyjs())


def _csv(plot: Plot) -> str:
    return csv_text(plot.table, f"%.{DIGITS}g")


def _script(key: str, content: str) -> str:
    return f'<script type="text/plain" id="{text(key)}">{content}</script>\n'


def _body(page: Page, fits: dict[str, tuple[bool, bool]]) -> str:
    parts = [f"<h1>{text(page.title)}</h1>", f'<p class="question">{text(page.question)}</p>', page.lead]
    if 1 < len(page.sections) <= MOST_LINKS:
        links = (f'<a href="#{text(section.key)}">{text(section.heading)}</a>' for section in page.sections)
        parts.append(f"<nav>{''.join(links)}</nav>")
    for section in page.sections:
        parts.append(f'<section id="{text(section.key)}"><h2>{text(section.heading)}</h2>{section.content}')
        if section.plots:
            parts += ['<div class="plots">', *_figures(section, fits), "</div>"]
        parts.append("</section>")
    return redact("\n".join(parts))


def _figures(section: Section, fits: dict[str, tuple[bool, bool]]) -> Iterator[str]:
    for plot in section.plots:
        key = f"{section.key}-{plot.name}"
        drawn, with_csv = fits[key]
        own = text(key)
        spec = f' data-spec="{own}-spec"' if drawn and plot.views else ""
        notes = "".join(f'<p class="note">{text(note)}</p>' for note in plot.notes)
        yield f'<figure id="{own}"{spec}{" class=wide" * plot.wide}><h3>{text(plot.title)}</h3>{notes}'
        if not plot.is_drawn:
            yield f"<p>to draw it: {markup.code(plot.command)}</p></figure>"
            continue
        if len(plot.views) > 1 and drawn:
            options = "".join(f"<option>{text(view.name)}</option>" for view in plot.views)
            yield f'<div class="views"><label for="{own}-view">shown</label><select id="{own}-view">{options}</select>'
            yield "</div>"
        canvas = "<noscript>The figure needs JavaScript; its command makes the same as a picture.</noscript>"
        if plot.picture is not None:
            data = base64.b64encode(plot.picture).decode()
            canvas = f'<img alt="{text(plot.title)}" src="data:image/png;base64,{data}">'
        elif not drawn:
            canvas = f'<p class="note">There is no room for this figure in a page of {LARGEST:,} bytes.</p>'
        yield f'<div class="canvas" role="img" aria-label="{text(plot.title)}">{canvas}</div><div class="foot">'
        rows = f"{len(plot.table):,} row{'s' * (len(plot.table) != 1)}"
        if with_csv:
            yield f'<button data-csv="{own}-csv" data-name="{text(plot.name)}.csv">CSV, {rows}</button>'
            yield f"<span>decimal numbers to {DIGITS} significant digits</span>"
        else:
            yield f"<span>its CSV ({rows}) has no room here: the command writes it</span>"
        yield f"<span>made by {markup.code(plot.command)}</span></div></figure>"


def _document(page: Page, body: str, data: str) -> str:
    css, script = ((HERE / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return (
        '<!DOCTYPE html>\n<html lang="en" data-theme="light">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{redact(text(page.title))}</title>\n<style>\n{css}</style>\n</head>\n'
        f'<body>\n<button id="theme" type="button">theme: auto</button>\n{body}\n{data}<script>\n{script}</script>\n'
        "</body>\n</html>\n"
    )
