"""The rank study as it is committed: fair, complete, and the tables and the verdict are what its records give."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from analysis.study import page
from analysis.study.command import DOCS, PAGE, VERDICT, load_all
from analysis.study.figures import FIGURES, latex
from analysis.study.records import RECORDS, Records, load, names_in
from analysis.study.validator import breaches
from analysis.study.verdict import of_tasks

STUDIES = names_in(RECORDS)
MAIN, FIRST = "rank_sweep_2", "rank_sweep"
"""The study that the README tells of, and its first edition."""
LARGEST = 20_000_000
"""Bytes of all published records."""
ROOT = Path(__file__).parents[2]


@cache
def records(study: str) -> Records:
    return load(RECORDS / study)


def test_the_studies_are_there_and_the_records_small() -> None:
    assert {MAIN, FIRST, "planted", "random_labels"} <= set(STUDIES)
    assert sum(path.stat().st_size for path in RECORDS.rglob("*.*")) < LARGEST


@pytest.mark.parametrize("study", STUDIES)
def test_the_comparison_is_fair(study: str) -> None:
    assert breaches(records(study)) == []


@pytest.mark.parametrize("path", sorted(DOCS.glob("*/*.csv")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_tables_are_byte_by_byte_what_the_records_give(path: Path, tmp_path: Path) -> None:
    table = FIGURES[path.stem].table(records(path.parent.name))
    table.to_csv(tmp_path / "again.csv", index=False)
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()
    if (printed := path.with_suffix(".tex")).is_file():
        assert latex(path.stem, table) == printed.read_text(encoding="utf-8")


@pytest.mark.parametrize("study", STUDIES)
def test_every_page_is_what_the_records_give(study: str) -> None:
    controls = [other for other in map(records, STUDIES) if other.declared.control_of == study]
    assert page.write(records(study), controls) == (DOCS / study / PAGE).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_verdict_over_all_is_what_the_records_give() -> None:
    links = {study: f"../docs/study/{study}/{PAGE}" for study in STUDIES}
    assert page.write_all(load_all(RECORDS)[0], links) == VERDICT.read_text(encoding="utf-8")


def test_the_page_of_studies_has_both_editions_side_by_side() -> None:
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    first, second = ({ruling.task: ruling for ruling in of_tasks(records(study))} for study in (FIRST, MAIN))
    for task, before in first.items():
        assert f"| {task}, r\\* | {before.r_star} | {second[task].r_star} |" in text
        assert f"| {task}, k\\* | {before.k_star} | {second[task].k_star} |" in text
        assert before.verdict == second[task].verdict == "supported"
        assert (before.on_test, second[task].on_test) == (False, True)
