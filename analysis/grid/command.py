"""`python -m analysis grid TABLE.csv --higher|--lower`: which comparisons of a published sweep are fair."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.record.direction import labelled
from lorax_lab.record.files import write_csv, write_text

from .. import style
from ..folders import check_out
from . import figure, page
from .columns import NEEDED, OPTIONAL
from .comparison import compare
from .scores import require_direction, require_one_scale
from .table import Grid, read

NAME = "grid"
EXAMPLES = {"--column": "--column learning_rate=lr", "--value": "--value method=lora"}
EXIT_CODES = {0: "the table is read, whatever it supports", 2: "a wrong input; nothing is written"}


def main(arguments: list[str]) -> int:
    """Read, print and write. Returns one of `EXIT_CODES`."""
    options = _parser().parse_args(arguments)
    return answer(lambda: _main(options))


def _parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code}  {meaning}" for code, meaning in EXIT_CODES.items())
    optional = "\n".join(f"  {name:<8} without it {meaning}" for name, meaning in OPTIONAL.items())
    parser = argparse.ArgumentParser(
        prog=f"python -m analysis {NAME}",
        description=(
            "A published sweep of learning rates, read by the rules of our own studies: which of its comparisons are\n"
            "fair, why the others are not, and what the whole supports. Nothing is trained and nothing is guessed."
        ),
        epilog=(
            f"columns that a table needs: {', '.join(NEEDED)} (rank is empty for the method full; the score of a run\n"
            f"that failed is empty, nan, inf or diverged)\noptional columns:\n{optional}\n"
            "the format, with an example: docs/grids.md\n"
            "a study of ours as such a table: python -m analysis grid-of-study --help\n\n"
            f"exit codes:\n{codes}"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", type=Path, metavar="TABLE.csv", help="one row per run")
    direction = parser.add_mutually_exclusive_group(required=True)
    direction.add_argument("--higher", action="store_true", help="higher scores are better, as of an accuracy")
    direction.add_argument("--lower", action="store_true", help="lower scores are better, as of a loss")
    parser.add_argument("--margin", help="by how much a score may be worse and still match; r* needs it")
    parser.add_argument("--group", action="append", default=[], metavar="NAME", help="this group alone: 'model / task'")
    named = f"a column's name in the table: {EXAMPLES['--column']}"
    parser.add_argument("--column", action="append", default=[], metavar="OURS=THEIRS", help=named)
    same = f"a column that the table lacks, the same in every row: {EXAMPLES['--value']}"
    parser.add_argument("--value", action="append", default=[], metavar="COLUMN=VALUE", help=same)
    parser.add_argument("--out", default="figures", metavar="FOLDER", help="where all goes (figures)")
    return parser


def _main(options: argparse.Namespace) -> int:
    margin = _margin(options.margin)
    if not options.out.strip():
        raise ConfigError(f"--out {options.out!r}: allowed is the name of a folder; type --out figures")
    out = Path(options.out)
    check_out(out)
    renamed = _typed("--column", options.column)
    grid = read(options.table, renamed, _typed("--value", options.value))
    require_direction((grid.metric, renamed.get("score", "")), options.higher)
    runs = {name: grid.groups[name] for name in _named(options.group, grid)}
    require_one_scale(runs, options.higher, margin)
    groups = [compare(name, of_group, options.higher) for name, of_group in runs.items()]
    stem = options.table.stem
    name = options.table.name
    print(page.write(name, grid, groups, options.higher, margin, None))
    axis = labelled(grid.metric or "score", options.higher)
    rows = figure.table(groups, axis, options.higher, page.summary(groups))
    paths = style.save(rows, figure.draw(rows), out / f"{stem}_rates")
    tables = {"arms": page.arms_table(groups), "comparisons": page.comparisons_table(groups)}
    for kind, content in tables.items():
        paths.append(out / f"{stem}_{kind}.csv")
        write_csv(paths[-1], content)
    paths.append(out / f"{stem}.md")
    write_text(paths[-1], page.write(name, grid, groups, options.higher, margin, f"{stem}_rates.png"))
    print(*paths, sep="\n")
    return 0


def _margin(typed: str | None) -> float | None:
    if typed is None:
        return None
    try:
        margin = float(typed)
    except ValueError:
        margin = math.nan
    if not 0 < margin < math.inf:
        raise ConfigError(f"--margin {typed}: allowed are numbers above 0, in units of the score; type --margin 0.02")
    return margin


def _named(names: list[str], grid: Grid) -> list[str]:
    """The groups that were asked for; all where none was."""
    for name in names:
        if name not in grid.groups:
            raise ConfigError(f"--group {name}: the table has no such group; {suggest(name, list(grid.groups))}")
    return list(dict.fromkeys(names)) or list(grid.groups)


def _typed(option: str, words: list[str]) -> dict[str, str]:
    """`a=b` by `a`."""
    found: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name or not value or name in found:
            raise ConfigError(f"{option} {word}: allowed is NAME=VALUE, each name once, as in {EXAMPLES[option]}")
        found[name] = value
    return found
