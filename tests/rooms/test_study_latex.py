"""The published tables as LaTeX prints them: no error, nothing that leaves the text, and no letter that is lost.

Where `pdflatex` is not installed, or lacks booktabs, these tests are skipped.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from synthetic import study

from analysis.study.command import DOCS
from analysis.study.figures import FIGURES
from analysis.study.latex import ESCAPES, bold, escaped

TABLES = sorted(DOCS.glob("*/*.tex"))
WIDTH = "5.5in"
"""Of the text, as most conferences have it in one column."""
MOST = 2.0
"""Points by which a line may leave the text."""
PAPER = r"""
\documentclass[10pt]{article}
\usepackage[textwidth=%s]{geometry}
\usepackage{booktabs,longtable}
\begin{document}
\noindent\input{table}
\end{document}
"""


def log_of(table: str, folder: Path) -> str:
    """What LaTeX says of a paper that has the table alone; longtables find their widths in the second of two passes."""
    latex = shutil.which("pdflatex")
    if latex is None:
        pytest.skip("pdflatex is not installed; on Debian: apt install texlive-latex-recommended")
    (folder / "table.tex").write_text(table, encoding="utf-8")
    (folder / "paper.tex").write_text(PAPER % WIDTH, encoding="utf-8")
    command = [latex, "-interaction=nonstopmode", "-draftmode", "paper.tex"]
    for _ in range(1 + ("longtable" in table)):
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=300)
    log = (folder / "paper.log").read_text(encoding="utf-8", errors="replace")
    if missing := re.search(r"File `(\S+\.sty)' not found", log):
        pytest.skip(f"LaTeX lacks {missing[1]}; on Debian: apt install texlive-latex-recommended")
    assert done.returncode == 0, log
    return log


def faults(log: str) -> list[str]:
    """Lines of a log that say that the print is wrong."""
    wide = [line for line in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log) if float(line) > MOST]
    return [f"{points} points too wide" for points in wide] + re.findall(r"^!.*|Missing character.*", log, re.M)


@pytest.mark.parametrize("path", TABLES, ids=[f"{path.parent.name}-{path.stem}" for path in TABLES])
def test_a_published_table_prints_within_the_text(path: Path, tmp_path: Path) -> None:
    assert faults(log_of(path.read_text(encoding="utf-8"), tmp_path)) == []


def test_every_letter_prints_on_several_pages(tmp_path: Path) -> None:
    table = FIGURES["cost"].table(study()).assign(arm=escaped("".join(ESCAPES)))
    many = pd.concat([table.assign(task=f"task {bold('a')} {i}") for i in range(14)], ignore_index=True)
    printed = FIGURES["cost"].latex(many)
    assert "longtable" in printed
    assert faults(log_of(printed, tmp_path)) == []


def test_a_table_that_is_too_wide_is_seen(tmp_path: Path) -> None:
    table = FIGURES["answer"].latex(FIGURES["answer"].table(study())).replace("undecided", r"\rule{6in}{1pt}")
    [fault] = faults(log_of(table, tmp_path))
    assert fault.endswith("points too wide")
