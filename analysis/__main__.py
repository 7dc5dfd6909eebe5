"""`python -m analysis [FIGURE …] [--runs runs] [--out figures]`: the records' figures and tables."""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.record.redact import guard

from . import gaps, style
from .figures import FIGURES
from .groups import FIRST, RUNS, CannotDraw, Group, command, load

COMMANDS = {
    "study": (".study.command", "figures, tables and verdicts of the studies, from their published records"),
    "verdict": (".study.command", "the verdicts of the studies alone"),
    "paper": (".paper.page", "claims of the LoRA paper and of others, and what the studies say of them"),
    "report": (".report", "one page of all runs, to open in a browser"),
    "compare": (".compare", "arms against each other, by the seeds that they share, as in compare runs"),
    "audit": (".audit", "what an audit wrote, as in audit FOLDER"),
    "trajectory": (".trajectory", "an update's rank and directions against the step, while it trains"),
    "planted": (".planted", "which rank number finds the rank of a matrix made with one"),
    "which_rank": (".which_rank", "which rank to take: the regret of each rule, and the cells most like a task"),
}
"""What has a command line of its own: its module, and what it draws."""
OF_STUDIES = ("study", "verdict")
"""Commands of one module, which reads their names too."""
STAMPED = "drawn, but stamped"
EXIT_CODES = """exit codes:
  0  all that was asked is drawn, and no figure lacks a run
  1  a figure could not be drawn, or is stamped: an arm lacks seeds that others have, or unlike versions made it
  2  nothing to draw, or a name that is no figure"""
"""A failed run is named and is part of no figure if no other seed of its method and rank is recorded."""


def main(arguments: list[str] | None = None) -> int:
    """Draw the named figures, or all, for every group of runs. Returns one of `EXIT_CODES`."""
    typed = sys.argv[1:] if arguments is None else arguments
    return answer(lambda: _main(typed))


def _main(arguments: list[str]) -> int:
    if arguments[:1] and arguments[0] in COMMANDS:
        module = import_module(COMMANDS[arguments[0]][0], __package__)
        return int(module.main(arguments if arguments[0] in OF_STUDIES else arguments[1:]))
    options = _parser().parse_args(arguments)
    for name in options.figures:
        if name not in FIGURES:
            raise ConfigError(f"there is no figure {name}; {suggest(name, [*FIGURES, *COMMANDS])}")
    recorded = load(options.runs)
    _list("left out", gaps.left_out(options.runs, recorded))
    if not recorded.groups:
        raise ConfigError(f"there is no completed run in {options.runs}; type {command(FIRST, options.runs)}")
    names = list(dict.fromkeys(options.figures)) or list(FIGURES)
    lines: dict[str, list[str]] = {"drawn": [], STAMPED: [], "not drawn": []}
    for group in recorded.groups:
        count = len(group.runs)
        print(f"{group.name}: {count} run{'s' if count > 1 else ''} of {' '.join(group.shared)}")
        _list("missing", gaps.missing(group))
        _list("made by unlike versions, so their mean is of no one of them", gaps.versions(group))
        for name in names:
            heading, line = _figure(name, group, options.out)
            lines[heading].append(line)
    for heading, figures in lines.items():
        _list(heading, figures)
    return 0 if len(lines["drawn"]) == len(names) * len(recorded.groups) else 1


def _figure(name: str, group: Group, out: Path) -> tuple[str, str]:
    """Draw one figure of one group. Returns the heading to list it under, and its line there."""
    stem = out / f"{group.name}-{name}"
    try:
        table = FIGURES[name].table(group)
    except CannotDraw as error:
        return "not drawn", f"{stem.name}: {error}"
    figure, stamp = FIGURES[name].draw(table), gaps.stamp(group, table)
    if stamp:
        style.stamp(figure, stamp)
    style.save(table, figure, stem)
    files = f"{stem}.{{png,pdf,csv}}"
    return (STAMPED, f"{files}: {stamp}") if stamp else ("drawn", files)


def _parser() -> argparse.ArgumentParser:
    figures = "\n".join(f"  {name:<24}{figure.TITLE}" for name, figure in FIGURES.items())
    commands = "\n".join(f"  {name:<24}{draws}" for name, (_, draws) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m analysis",
        description=(
            "Tables (CSV) and figures (PNG, PDF) from the records of runs. Runs of the same model, data and budget\n"
            "share a figure; seeds are averaged, and whatever else differs is named. Nothing is trained."
        ),
        epilog=f"figures:\n{figures}\n\nother commands, each with --help:\n{commands}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="which to draw; none means all")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the records are (runs)")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="where the files go (figures)")
    return parser


def _list(heading: str, lines: list[str]) -> None:
    if lines:
        print(f"{heading}:", *lines, sep="\n  ", flush=True)


if __name__ == "__main__":
    guard()
    sys.exit(main())
