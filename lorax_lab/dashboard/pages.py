"""A study's page and its figures, as `python -m analysis study` wrote them: files, read as any reader reads them.

The library does not import the analysis. A checkout has the pages of the published studies in `docs/study`; an
installed wheel has none, and its user names the folder into which they were written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lorax_lab.errors import ConfigError, suggest
from lorax_lab.record.redact import redact

FOLDER = Path("docs") / "study"
PAGE = "VERDICT.md"
LARGEST = 2**20
"""Bytes of the largest page that is read; those of the published studies have 6 to 25 KB."""
PARTS = re.compile(
    r"\A# Verdict: (?P<name>\S+)\n\n(?:(?P<question>[^*\n].*)\n\n)?\*\*(?P<verdict>.+)\*\*\n(?P<rest>[\s\S]*)\Z"
)
"""A page: its heading, the question, the verdict in bold, then how it was found."""


@dataclass(frozen=True)
class StudyPage:
    """One study's page.

    Attributes:
        question, verdict: a paragraph each; the page of a study that cannot be read has no question.
        rest: everything below, in Markdown.
        figures: pictures (PNG), sorted by name.
    """

    name: str
    question: str
    verdict: str
    rest: str
    figures: tuple[Path, ...]


def names(folder: Path) -> list[str]:
    """The studies that have a page in a folder, sorted; none where there is no such folder."""
    return sorted(path.parent.name for path in folder.glob(f"*/{PAGE}"))


def read(folder: Path, study: str) -> StudyPage:
    """A study's page.

    Args:
        folder: of all pages, with a folder for each study.

    Raises:
        ConfigError: there is no page of this study, or it is not one that the analysis wrote.
    """
    there = names(folder)
    if not there:
        raise ConfigError(
            f"there is no page of a study in {folder}; type python -m analysis study --out pages, "
            "and name that folder: --pages pages"
        )
    if study not in there:
        raise ConfigError(f"--study {study}: there is no such study in {folder}; {suggest(study, there)}")
    path = folder / study / PAGE
    if path.stat().st_size > LARGEST:
        raise ConfigError(f"{path} is no page of a study: it has more than {LARGEST} bytes")
    parts = PARTS.match(path.read_text(encoding="utf-8", errors="replace"))
    if parts is None or parts["name"] != study:
        raise ConfigError(f"{path} is no page of {study}; write it anew: type python -m analysis study {study}")
    figures = tuple(sorted(path.parent.glob("*.png")))
    verdict = parts["verdict"].replace(r"\*", "*")  # Markdown's stars of r* and k*
    return StudyPage(study, redact(parts["question"] or ""), redact(verdict), redact(parts["rest"]), figures)
