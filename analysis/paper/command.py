"""`python -m analysis paper`: the LoRA paper's claims, and what our studies say of them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from lorax_lab.errors import answer
from lorax_lab.record.files import write_text

from ..study.command import DOCS, load_all
from ..study.records import RECORDS
from . import page

OUT = DOCS.parent / "paper.md"


def main(arguments: list[str]) -> int:
    """Write the page. Returns the exit code: 0 done, 1 records of a study cannot be read or break its protocol, 2
    nothing to read."""
    parser = argparse.ArgumentParser(prog="python -m analysis paper", description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records (experiments/records)")
    parser.add_argument("--out", type=Path, default=OUT, help="the page (docs/paper.md)")
    parser.add_argument("--figures", type=Path, default=DOCS, help="folder of the studies' figures (docs/study)")
    options = parser.parse_args(arguments)
    return answer(lambda: _write(options.records, options.out, options.figures))


def _write(records: Path, out: Path, figures: Path) -> int:
    studies, damaged = load_all(records, set(page.studies_of_paper()))
    links = {study.name: os.path.relpath(figures / study.name, out.absolute().parent) for study in studies}
    for name, reason in damaged.items():
        print(f"{name} is left out: {reason}")
    write_text(out, page.write(studies, links, damaged))
    lacking = page.left_out(studies, damaged)
    for status, reason in lacking.values():
        print(f"{status}: {reason}")
    if records.resolve() != RECORDS.resolve() and figures == DOCS:
        print(f"figures: those of {DOCS}, which were drawn from the published records; type --figures FOLDER")
    print(out)
    return int(bool(damaged) or page.NOT_SHOWN in {status for status, _ in lacking.values()})
