"""The rank study as it is committed: fair, complete, and the tables and the verdict are what its records give."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from analysis.study import comparison, page
from analysis.study.command import DOCS, PAGE, VERDICT, load_all
from analysis.study.figures import FIGURES, latex
from analysis.study.records import RECORDS, Records, load, names_in
from analysis.study.statistics import Smallest
from analysis.study.validator import breaches
from analysis.study.verdict import of_tasks, rulings

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


def test_the_first_editions_numbers_are_the_conservative_ones() -> None:
    """With Student's interval over the seeds alone r* on sarcasm was 4."""
    of_study = records(FIRST)
    assert {task: comparison.enough(of_study, task) for task in of_study.conditions} == {
        "movie_reviews": Smallest(1, 1, 1),
        "sarcasm": Smallest(8, 1, 8),
    }


def test_the_page_of_studies_has_both_editions_side_by_side() -> None:
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    first, second = ({ruling.task: ruling for ruling in of_tasks(records(study))} for study in (FIRST, MAIN))
    for task, before in first.items():
        assert f"| {task}, r\\* | {before.r_star} | {second[task].r_star} |" in text
        assert f"| {task}, k\\* | {before.k_star} | {second[task].k_star} |" in text
        assert before.verdict == second[task].verdict == "supported"
        assert (before.on_test, second[task].on_test) == (False, True)


def test_the_controls_ranks_are_those_that_pages_tell() -> None:
    at_rank_1 = comparison.by_rank(of_study := records("memorised"), comparison.gains(of_study, "1000 labels"))[1]
    assert at_rank_1.low > -of_study.protocol.margin
    verdicts = {ruling.task: ruling.verdict for ruling in rulings(of_study)}
    assert verdicts == {"250 labels": "supported", "1000 labels": "supported", "4000 labels": "not supported"}
    planted = {ruling.task: ruling for ruling in of_tasks(records("planted_ranks"))}
    eight, high = planted["planted rank 8"], planted["planted rank 32"]
    assert (eight.r_star.size, eight.k_star.size) == (16, 16)
    assert (high.r_star.size, high.k_star.size) == (None, 32)
