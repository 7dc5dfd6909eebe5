"""`python -m analysis paper`: the LoRA paper's claims, and what our studies say of them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from lorax_lab.errors import answer
from lorax_lab.store.files import write_text

from ..study.command import DOCS, load_every
from ..study.records import RECORDS
from . import page

OUT = DOCS.parent / "paper.md"


def main(arguments: list[str]) -> int:
    """Write the page. Returns the exit code: 0 done, 1 records of a study cannot be read, 2 nothing to read."""
    parser = argparse.ArgumentParser(prog="python -m analysis paper", description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records (experiments/records)")
    parser.add_argument("--out", type=Path, default=OUT, help="the page (docs/paper.md)")
    options = parser.parse_args(arguments)
    return answer(lambda: _write(options.records, options.out))


def _write(records: Path, out: Path) -> int:
    studies, damaged = load_every(records)
    for name, reason in damaged.items():
        print(f"{name} is left out: {reason}")
    links = {study.name: os.path.relpath(DOCS / study.name, out.absolute().parent) for study in studies}
    write_text(out, page.write(studies, links, damaged))
    print(out)
    return int(bool(damaged))
