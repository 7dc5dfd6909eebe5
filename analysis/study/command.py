"""`python -m analysis study`, `python -m analysis verdict`: figures, tables, the verdict, from published records."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import style
from analysis.study import document
from analysis.study.figures import FIGURES
from analysis.study.records import RECORDS, NoStudy, Records, load
from analysis.study.validator import breaches, not_begun
from lorax_lab.store.files import write_text

if TYPE_CHECKING:
    import pandas as pd

MAIN = "rank_sweep"
VERDICT = Path(__file__).parents[1] / "VERDICT.md"
DOCS = Path(__file__).parents[2] / "docs" / "study"
TABLES = ("answer", "cost")
"""Of the figures' tables those that are written as LaTeX too, rounded for print."""


def main(words: list[str]) -> int:
    """Draw and write. Returns the exit code: 0 done, 1 the comparison is not fair, 2 nothing to read."""
    given = _parser().parse_args(words)
    try:
        records = load(given.records / f"{MAIN}.jsonl")
    except NoStudy as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    controls = [load(path) for path in sorted(given.records.glob("*.jsonl")) if path.stem != MAIN]
    faults = breaches(records)
    if given.what == "study":
        if faults and not given.allow_unfair:
            print("the comparison breaks its own protocol; its figures would mislead:", *faults, sep="\n  ")
            print("type --allow-unfair to draw them all the same, stamped")
            return 1
        if lacking := not_begun(records):
            print("there is nothing to draw yet:", *lacking, sep="\n  ")
            print(f"type: python -m experiments.{records.name}")
            return 1
        _draw(records, given.out / records.name, "not a fair comparison" if faults else "")
        for control in controls:
            if breaches(control):
                print(f"{control.name} is not drawn: it breaks its own protocol, or is not complete")
            else:
                _draw(control, given.out / control.name, "")
    write_text(given.verdict, document.write(records, controls))
    print(given.verdict)
    return 1 if faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis",
        description="The rank study from its published records: no training, no model.",
    )
    what = "study: figures (PNG, PDF), tables (CSV, LaTeX) and the verdict; verdict: that alone"
    parser.add_argument("what", choices=("study", "verdict"), help=what)
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records (experiments/records)")
    parser.add_argument("--out", type=Path, default=DOCS, help="where figures and tables go (docs/study)")
    parser.add_argument("--verdict", type=Path, default=VERDICT, help="the verdict's file (analysis/VERDICT.md)")
    unfair = "draw a comparison that breaks the protocol too, stamped"
    parser.add_argument("--allow-unfair", action="store_true", help=unfair)
    return parser


def _draw(records: Records, folder: Path, stamp: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in FIGURES.items():
        table = figure.table(records)
        if table is None:
            continue
        picture = figure.draw(table)
        if stamp:
            style.stamp(picture, stamp)
        for path in style.save(table, picture, folder / name):
            print(path, flush=True)
        if name in TABLES:
            write_text(folder / f"{name}.tex", latex(table))


def latex(table: pd.DataFrame) -> str:
    """A figure's table for a paper, one row per arm or size: seeds, which only the CSV needs, are left out."""
    short = table.drop(columns=[c for c in ("seed",) if c in table]).drop_duplicates()
    if "difference" in short and "side" in short:
        short = short.drop(columns="difference").drop_duplicates()
    return short.to_latex(index=False, float_format="%.4g", escape=True, na_rep="")
