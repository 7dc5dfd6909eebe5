"""`python -m analysis study`, `python -m analysis verdict`: figures, tables and verdicts, from published records."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lorax_lab.errors import ConfigError, suggest
from lorax_lab.record.files import write_csv, write_text

from .. import style
from . import page
from .comparison import gains
from .figures import FIGURES, figures_of
from .records import RECORDS, Records, collapsed, load, names_in
from .validator import breaches

VERDICT = Path(__file__).parents[1] / "VERDICT.md"
DOCS = Path(__file__).parents[2] / "docs" / "study"
PAGE = "VERDICT.md"
WHY, README = DOCS.parent / "why.md", Path(__file__).parents[2] / "README.md"
BEGINS, ENDS = "<!-- the answer: `python -m analysis study` writes it -->", "<!-- end of the answer -->"
"""What stands before and after the README's answer."""


def main(arguments: list[str]) -> int:
    """Draw and write. Returns the exit code: 0 done, 1 a study that is no control is not fair, or not complete;
    2 nothing to read, or a wrong input."""
    return _write(_parser().parse_intermixed_args(arguments))  # names may follow options


def _parser() -> argparse.ArgumentParser:
    widest = max(map(len, FIGURES))
    lines = "\n".join(f"  {name:<{widest}}  {figure.title}" for name, figure in FIGURES.items())
    parser = argparse.ArgumentParser(
        prog="python -m analysis",
        description="Studies from their published records: no training, no model.",
        epilog=f"figures of a study, of which each plan names its own or has all:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    outputs = "study: figures (PNG, PDF), tables (CSV) and verdicts; verdict: the verdicts alone"
    parser.add_argument("output", choices=("study", "verdict"), help=outputs)
    parser.add_argument("names", nargs="*", metavar="NAME", help="studies to draw, such as rank_sweep; none means all")
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records (experiments/records)")
    parser.add_argument("--out", type=Path, default=DOCS, help="where figures, tables and pages go (docs/study)")
    over_all = "the verdict over all (analysis/VERDICT.md; of other records, in the folder of --out)"
    parser.add_argument("--verdict", type=Path, help=over_all)
    against = "print each arm's gain in score over this one, by task, with its 95 %% interval; nothing is written"
    parser.add_argument("--against", metavar="ARM", help=against)
    return parser


def _write(options: argparse.Namespace) -> int:
    is_own = options.records.resolve() == RECORDS.resolve()
    verdict = options.verdict or (VERDICT if is_own else options.out / PAGE)
    studies = load_all(options.records)
    names = [study.name for study in studies]
    for name in options.names:
        if name not in names:
            raise ConfigError(f"there are no records of a study {name}; {suggest(name, names)}")
    chosen = [study for study in studies if not options.names or study.name in options.names]
    if options.against:
        return _print_gains(chosen, options.against)
    for study in chosen:
        if options.output == "verdict" and (faults := breaches(study)):
            heading = f"{study.name} has no verdict, since the comparison breaks its own protocol, or is not complete:"
            print(heading, *faults, sep="\n  ")
        write_text(options.out / study.name / PAGE, page.write(study))
        if not breaches(study):
            for name, table in page.tables(study).items():
                write_csv(options.out / study.name / f"{name}.csv", table)
        if options.output == "study":
            print(*_draw(study, options.out / study.name), sep="\n", flush=True)
    links = {name: os.path.relpath(options.out / name / PAGE, verdict.parent) for name in names}
    write_text(verdict, page.write_all(studies, links))
    print(verdict)
    if is_own and options.out.resolve() == DOCS.resolve():
        _write_answer(studies)
    return int(any(breaches(study) and not study.declared.control_of for study in chosen))


def _print_gains(studies: list[Records], reference: str) -> int:
    for study in studies:
        names = [arm.name for arm in study.protocol.arms]
        if reference not in names:
            raise ConfigError(f"--against {reference}: {study.name} has no such arm; {suggest(reference, names)}")
        of_arm = study.against(reference)
        rows = [
            {"task": task, "arm": arm} | vars(gain)
            for task in of_arm.conditions
            for arm, gain in gains(of_arm, task).items()
        ]
        print(study.name, pd.DataFrame(rows).to_string(index=False, float_format="{:.4f}".format), sep="\n")
    return 0


def _write_answer(studies: list[Records]) -> None:
    """Write `docs/why.md`, and the README's answer between its marks."""
    for path, write in ((WHY, page.write_why), (README, page.write_answer)):
        text = write(studies, {name: os.path.relpath(DOCS / name / PAGE, path.parent) for name in names_in(RECORDS)})
        if path == README:
            readme = path.read_text(encoding="utf-8")
            before, after = readme.partition(BEGINS)[0], readme.partition(ENDS)[2]
            text = f"{before}{BEGINS}\n\n{text}\n{ENDS}{after}"
        write_text(path, text)
        print(path)


def load_all(folder: Path) -> list[Records]:
    """Every published study, the first recorded first, each followed by its controls.

    Raises:
        ConfigError: none is there, or one cannot be read.
    """
    there = names_in(folder)
    if not there:
        raise ConfigError(f"there are no records of a study in {folder}; type: python -m experiments rank_sweep")
    studies = [load(folder / name) for name in there]
    began = {study.name: page.began(study) for study in studies}

    def order(study: Records) -> tuple[str, str, str]:
        main = study.declared.control_of if study.declared.control_of in began else study.name
        return began[str(main)], "" if main == study.name else study.name, study.name

    return sorted(studies, key=order)


def _draw(records: Records, folder: Path) -> Iterator[object]:
    """Draw a study's figures with their tables: the files, and why figures are not drawn."""
    names = figures_of(records)
    if faults := breaches(records):
        heading = f"{records.name} is not drawn: the comparison breaks its own protocol, or is not complete:"
        yield "\n  ".join([heading, *faults, f"not drawn: {', '.join(names)}"])
        return
    for name in names:
        yield from _figure(records, name, folder)


def _figure(records: Records, name: str, folder: Path) -> Iterator[object]:
    table = FIGURES[name].table(records)
    if table is None:
        if records.declared.figures:
            reason = "the study has no such arms, or the records have not what is measured after the runs"
            again = f"where the runs are, type: python -m experiments {records.name}"
            yield f"{records.name}: {name} is not drawn: {reason}; {again}"
        return
    picture = FIGURES[name].draw(table)
    if note := collapsed(records):
        style.remark(picture, note)
    folder.mkdir(parents=True, exist_ok=True)
    yield from style.save(table, picture, folder / name)
