"""`python -m analysis report [--runs runs | --study NAME] [--out report.html]`: one page to see everything."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.record.files import write_redacted

from ..groups import RUNS, command, load
from ..study.command import load_every
from ..study.records import RECORDS, Records
from ..study.validator import breaches
from .page import Page, render

NAME = "report"
OUT = Path("report.html")
ENDINGS = (".html", ".htm")
FIRST = ("rank=4,8,16",)
"""Overrides of the runs to begin with."""
EXIT_CODES = {
    0: "the page is written",
    1: "the page is written, but no run is completed, or the study has no verdict, which it says",
    2: "nothing to show, or a wrong input; nothing is written",
}


def main(arguments: list[str]) -> int:
    """Write the page. Returns one of `EXIT_CODES`."""
    options = _parser().parse_args(arguments)
    return answer(lambda: _main(options))


def _parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code}  {meaning}" for code, meaning in EXIT_CODES.items())
    parser = argparse.ArgumentParser(
        prog=f"python -m analysis {NAME}",
        description=(
            "One page (HTML) to see everything: what varied, a table of the runs to sort and filter, interactive\n"
            "figures with their CSV, runs that diverged or failed; of a study, its verdict with every interval.\n"
            "The page is one file of at most 5 MB. It opens from the disk and asks nothing of any network."
        ),
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=Path, help="the page of the records in this folder (runs)")
    parser.add_argument("--study", metavar="NAME", help="the page of a study's published records, such as rank_sweep")
    parser.add_argument("--records", type=Path, help="with --study: folder of the records (experiments/records)")
    parser.add_argument("--out", type=Path, default=OUT, help="the file (report.html); its folder is made")
    return parser


def _main(options: argparse.Namespace) -> int:
    if options.study is not None and options.runs is not None:
        raise ConfigError("--runs and --study exclude each other; leave one of them out")
    if options.records is not None and options.study is None:
        raise ConfigError(
            f"--records {options.records} goes with --study; name the study too, as in --study rank_sweep"
        )
    _check_out(options.out)
    if options.study is None:
        page, complete = _of_runs(RUNS if options.runs is None else options.runs, options.out)
    else:
        page, complete = _of_study(options.study, options.records or RECORDS, options.out)
    write_redacted(options.out, render(page))
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {size:.1f} MB, {page.title}; open it in a browser")
    return 0 if complete else 1


def _check_out(out: Path) -> None:
    """Refuse, before anything is read, a file that cannot be written, or that is no page.

    Raises:
        ConfigError: it says which file to name.
    """
    if out.suffix.lower() not in ENDINGS:
        raise ConfigError(f"--out {out} is no name of a page; name a file that ends in .html, as in --out report.html")
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; name a file in it, such as {out / OUT}")
    nearest = next(path for path in out.absolute().parents if path.exists())
    if not nearest.is_dir():
        raise ConfigError(f"--out {out}: {nearest} is a file; name another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {out}: the folder {nearest} may not be written; name another place")


def _of_runs(runs_dir: Path, out: Path) -> tuple[Page, bool]:
    from .runs_page import page

    typed = command(FIRST, runs_dir)
    if not runs_dir.is_dir():
        raise ConfigError(f"there is no folder {runs_dir}; type {typed} or say where the runs are: --runs FOLDER")
    recorded = load(runs_dir)
    if not recorded.records and not recorded.damages:
        raise ConfigError(f"there is no run in {runs_dir}; type {typed}")
    return page(recorded, runs_dir, out), bool(recorded.groups)


def _of_study(name: str, folder: Path, out: Path) -> tuple[Page, bool]:
    from .study_page import page

    studies, damaged = load_every(folder)
    if name in damaged:
        raise ConfigError(f"the study {name} cannot be read: {damaged[name]}")
    by_name: dict[str, Records] = {study.name: study for study in studies}
    if name not in by_name:
        raise ConfigError(
            f"--study {name}: there are no records of it in {folder}; {suggest(name, [*by_name, *damaged])}"
        )
    controls = [study for study in studies if study.declared.control_of == name]
    return page(by_name[name], controls, out, folder), not breaches(by_name[name])
