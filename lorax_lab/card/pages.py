"""A card's pages: Markdown for a repository, and one HTML file with its picture inside, for light, dark and print."""

from __future__ import annotations

import base64
from html import escape

from lorax_lab.card.facts import Facts
from lorax_lab.card.words import Section, headlines, sections

PICTURE, FACTS, HTML, MARKDOWN, CURVES = "card.png", "card.json", "card.html", "card.md", "card.csv"
STYLE = """\
:root { color-scheme: light dark; --ink: #1c2330; --paper: #fff; --line: #d5dae2; --soft: #f3f5f8; --accent: #395d9c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ef; --paper: #14181f; --line: #39414f; --soft: #1d232d; --accent: #8fb4ea; }
}
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.35rem; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin-top: 2rem; }
.lead p { margin: .3rem 0; padding-left: .8rem; border-left: 3px solid var(--accent); }
img { width: 100%; min-width: 44rem; height: auto; box-sizing: border-box; background: #fff;
  border: 1px solid var(--line); border-radius: 4px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92em; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); }
footer { margin-top: 2rem; color: inherit; opacity: .75; font-size: .85em; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } h2, table, img { break-inside: avoid; }
  img { min-width: 0; } }
"""
MADE_BY = "Made by `python -m lorax_lab.card`; the numbers behind it are in card.json, card.csv and audit.csv."


def markdown(facts: Facts) -> str:
    """The card for a repository's page; its picture lies beside it."""
    parts = [f"# Rank card: {_plain(facts['title'])}", *map(_plain, headlines(facts)), f"![{_alt(facts)}]({PICTURE})"]
    for section in sections(facts):
        parts += [f"## {_plain(section.heading)}", *map(_plain, section.sentences)]
        parts += [_table(section)] if section.table else []
    return "\n\n".join([*parts, MADE_BY]) + "\n"


def html(facts: Facts, png: bytes) -> str:
    """The card as one file that needs no other and no network."""
    lead = "".join(f"<p>{escape(line)}</p>" for line in headlines(facts))
    picture = (
        f'<img alt="{escape(_alt(facts), quote=True)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    )
    body = "".join(_section(section) for section in sections(facts))
    title = escape(facts["title"])
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Rank card: {title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>\n{STYLE}</style></head>\n<body><h1>Rank card: {title}</h1>\n"
        f'<div class="lead">{lead}</div>\n<div class="wide">{picture}</div>\n{body}\n'
        f"<footer>{escape(MADE_BY.replace('`', ''))}</footer></body></html>\n"
    )


def _section(section: Section) -> str:
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in section.sentences)
    if not section.table:
        return f"<h2>{escape(section.heading)}</h2>\n{paragraphs}\n"
    head, *rows = section.table
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    table = f'<div class="wide"><table><thead><tr>{cells}</tr></thead>\n<tbody>{lines}</tbody></table></div>'
    return f"<h2>{escape(section.heading)}</h2>\n{paragraphs}\n{table}\n"


def _table(section: Section) -> str:
    head, *rows = ([_plain(cell).replace("|", "\\|") for cell in row] for row in section.table)
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """A text whose signs Markdown leaves as they are: names come from files of other people."""
    for sign in ("\\", "`", "*", "_", "<", "[", "]", "!"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _alt(facts: Facts) -> str:
    return "Share of the update's energy by rank and module type, its size by layer" + (
        ", and its score when cut" if facts["scores"] else ""
    )
