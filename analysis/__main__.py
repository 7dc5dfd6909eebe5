"""`python -m analysis [FIGURE …] [--runs runs] [--out figures]`: the records' figures and tables."""

from __future__ import annotations

import argparse
import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import missing, style
from analysis.figures import FIGURES
from analysis.groups import CannotDraw, Group, load

if TYPE_CHECKING:
    import pandas as pd

COMMANDS = {"audit": "analysis.audit", "step": "analysis.step", "serving": "analysis.serving"}
"""What draws the folder that another entry wrote, by its name on the command line."""
TYPE_THIS = "type: python -m lorax_lab.run rank=4,8,16 -m"


def main(words: list[str] | None = None) -> int:
    """Draw the named figures, or all, for every group of runs. Returns the exit code: 0 all drawn, 1 some not,
    2 nothing to draw or a name that is no figure."""
    words = sys.argv[1:] if words is None else words
    if words[:1] in (["study"], ["verdict"]):
        from analysis.study.command import main as study

        return study(words)
    if words[:1] and words[0] in COMMANDS:
        return int(import_module(COMMANDS[words[0]]).main(words[1:]))
    given = _parser().parse_args(words)
    unknown = [name for name in given.figures if name not in FIGURES]
    if unknown:
        return _error(f"there is no figure {unknown[0]}; {_nearest(unknown[0])}")
    if not given.runs.is_dir():
        return _error(f"there is no folder {given.runs}; {TYPE_THIS}\nor say where the runs are: --runs FOLDER")
    runs, groups = load(given.runs)
    _list("left out", missing.left_out(given.runs, runs))
    if not groups:
        return _error(f"there is no completed run in {given.runs}; {TYPE_THIS}")
    names = list(dict.fromkeys(given.figures)) or list(FIGURES)
    drawn, not_drawn = [], []
    for group in groups:
        _introduce(group)
        absent = missing.cells(group, runs)
        whole = len(group.runs) + absent
        stamp = f"{len(group.runs)} of {whole} runs" if absent else ""
        if absent and not given.allow_partial:
            why = f"{absent} of {whole} runs are missing, named above; run them, or type --allow-partial"
            not_drawn.append(f"{group.name}: {why}")
            continue
        for name in names:
            stem = given.out / f"{group.name}-{name}"
            try:
                table = FIGURES[name].table(group)
            except CannotDraw as error:
                not_drawn.append(f"{stem.name}: {error}")
                continue
            _write(name, table, stem, stamp)
            drawn.append(f"{stem}.{{png,pdf,csv}}")
    _list("drawn", drawn)
    _list("not drawn", not_drawn)
    return 1 if not_drawn else 0


def _parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:<24}{figure.TITLE}" for name, figure in FIGURES.items())
    parser = argparse.ArgumentParser(
        prog="python -m analysis",
        description="Tables (CSV) and figures (PNG, PDF) from the records of runs.",
        epilog=f"figures:\n{lines}\n\nthe rank study, from its published records: python -m analysis study --help\n"
        "what an audit, a prediction or serving wrote: python -m analysis audit|step|serving FOLDER",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="which to draw; none means all")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the records are (runs)")
    partial = "draw grids that lack runs too, stamped with how many of how many they have"
    parser.add_argument("--allow-partial", action="store_true", help=partial)
    parser.add_argument("--out", type=Path, default=Path("figures"), help="where the files go (figures)")
    return parser


def _introduce(group: Group) -> None:
    count = len(group.runs)
    settings = "".join(f", {word}" for word in group.settings)
    print(f"{group.name}: {count} run{'s' if count > 1 else ''}{settings}")
    _list("missing (add the other settings of your sweep, if it had any)", missing.gaps(group))


def _write(name: str, table: pd.DataFrame, stem: Path, stamp: str) -> None:
    figure = FIGURES[name].draw(table)
    if stamp:
        style.stamp(figure, stamp)
    for path in style.save(table, figure, stem):
        print(path, flush=True)


def _nearest(name: str) -> str:
    close = get_close_matches(name, FIGURES, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}figures: {', '.join(FIGURES)}"


def _list(heading: str, lines: list[str]) -> None:
    if lines:
        print(f"{heading}:", *lines, sep="\n  ", flush=True)


def _error(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
