"""The studies as they are committed: fair, complete, and tables, pages and verdict are what their records give."""

import shutil
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.study import page, update
from analysis.study.command import DOCS, PAGE, VERDICT, load_all
from analysis.study.comparison import seeds_of
from analysis.study.figures import FIGURES
from analysis.study.records import RECORDS, Records, load, names_in
from analysis.study.validator import breaches
from analysis.study.verdict import of_tasks
from lorax_lab.audit.facts import UNTAUGHT, UNTAUGHT_RANKS
from lorax_lab.study.published import Afterwards, read_rows, write_rows
from lorax_lab.study.tables import altered

STUDIES = names_in(RECORDS)
QUICK = "paper_which_matrices"
"""A small study that `make test` reads too."""
UNDER_WAY: tuple[str, ...] = ()
"""Studies that grow task by task: that runs are missing is no fault yet."""
NOT_YET = (" missing: ", "unequal numbers of learning-rate trials")
LARGEST = 60_000_000
"""Bytes of all published records; a task of the third edition has four million."""


@cache
def records(study: str) -> Records:
    return load(RECORDS / study)


@pytest.mark.parametrize(
    "study", [pytest.param(study, marks=() if study == QUICK else pytest.mark.slow) for study in STUDIES]
)
def test_the_comparison_is_fair_and_tables_and_page_are_what_the_records_give(study: str) -> None:
    """The page byte by byte; the last digit of a mean in a table depends on the version of pandas."""
    of_study = records(study)
    assert altered(RECORDS, study) == []
    grows = NOT_YET if study in UNDER_WAY else ()
    assert [breach for breach in breaches(of_study) if not any(words in breach for words in grows)] == []
    paths = sorted((DOCS / study).glob("*.csv"))
    tables = page.tables(of_study) if paths else {}  # a study without an answer has none
    for path in paths:
        table = tables[path.stem] if path.stem in tables else FIGURES[path.stem].table(of_study)
        made = pd.read_csv(StringIO(table.to_csv(index=False)))
        pd.testing.assert_frame_equal(made, pd.read_csv(path), rtol=1e-12, atol=1e-12, obj=str(path))
    assert page.write(of_study) == (DOCS / study / PAGE).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_verdict_over_all_is_what_the_records_give() -> None:
    links = {study: f"../docs/study/{study}/{PAGE}" for study in STUDIES}
    assert page.write_all(load_all(RECORDS)[0], links) == VERDICT.read_text(encoding="utf-8")
    assert sum(path.stat().st_size for path in RECORDS.rglob("*.*")) < LARGEST


def test_rows_of_other_runs_or_conditions_are_named_and_not_read(tmp_path: Path) -> None:
    folder = shutil.copytree(RECORDS / "paper_amplification", tmp_path / "paper_amplification")
    measured = read_rows(folder, "factors")
    sarcasm = measured["sarcasm"]
    irony = Afterwards(sarcasm.runs, [row | {"condition": "irony"} for row in sarcasm.rows])
    write_rows(
        folder, "factors", {"sarcasm": Afterwards([*sarcasm.runs[1:], "another-run"], sarcasm.rows), "irony": irony}
    )
    records = load(folder)
    assert records.rows["factors"] == []
    assert all(any(name in damage for damage in records.damages) for name in ("sarcasm", "irony"))


# ---- what docs/measures.md says of real updates

MEASURES_PAGE = DOCS.parent / "measures.md"
LAST = "5"
MEASURES = ("effective_rank", "stable_rank", "participation_ratio", "energy_rank_90")


@pytest.mark.slow
@pytest.mark.parametrize(("study", "task"), [("rank_sweep", "sarcasm"), ("random_labels", "random labels")])
def test_the_spectra_of_random_labels_stand_beside_those_of_a_task(study: str, task: str) -> None:
    text, of_study = MEASURES_PAGE.read_text(encoding="utf-8"), records(study)
    shown = spectra(of_study, task, "module", "all", matrices=36)
    numbers = " | ".join(f"{e['mean']:.1f} [{e['low']:.1f}, {e['high']:.1f}]" for e in shown)
    assert f"| {task} | {numbers} | {norm(of_study, task):.4f} |".replace("| 0.", "| .") in text
    assert f"| iid noise | {' | '.join(str(round(entry['null'], 1)) for entry in shown)} | |" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "task"),
    [
        *(("heads", name) for name in ("cloze with a kept head", "sarcasm with the pooler")),
        *(("memorised", f"{count} labels") for count in (250, 1000, 4000)),
    ],
)
def test_learned_labels_go_as_low_in_the_last_layer(study: str, task: str) -> None:
    effective_rank = spectra(records(study), task, "layer", LAST, matrices=6)[0]
    assert f"{effective_rank['mean']:.1f}" in MEASURES_PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_each_estimate_of_a_planted_rank_is_that_of_its_study() -> None:
    """In one matrix of trained updates."""
    of_study = records("planted_ranks")
    for ruling in of_tasks(of_study):
        if (rank := ruling.task.removeprefix("planted rank ")).isdecimal():
            rows = update.spectral(of_study, ruling.task)
            means = rows[rows["group"] == update.ALL].set_index("measure")["mean"]
            stars = " | ".join(str((star and star.size) or "not found") for star in (ruling.k_star, ruling.r_star))
            spectral = f"{means['participation_ratio']:.1f} | {means['energy_rank_90']:.0f} | "
            spectral += f"{means['effective_rank']:.0f} | {means['stable_rank']:.1f}"
            assert f"| {rank} | {stars} | {spectral} |" in MEASURES_PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_a_card_says_of_random_labels_is_what_was_published() -> None:
    """Of every LoRA of rank 4 and more that was trained on them."""
    medians, ranks = [], set[int]()
    for of_study in load_all(RECORDS)[0]:
        for name in of_study.conditions:
            is_random = name == "random labels" or name.removesuffix(" labels").isdecimal()
            for arm in of_study.protocol.ranked() if is_random else []:
                if arm.rank and arm.rank >= UNTAUGHT_RANKS[0]:
                    rows = [
                        r for line in seeds_of(of_study, name, arm.name).values() for r in line["matrices"].values()
                    ]
                    medians.append(round(float(np.median([row["stable_rank"] for row in rows])), 1))
                    ranks.add(arm.rank)
    assert (min(medians), max(medians)) == UNTAUGHT
    assert (min(ranks), max(ranks)) == UNTAUGHT_RANKS


def spectra(of_study: Records, task: str, by: str, group: str, matrices: int) -> list[dict[str, Any]]:
    """The entry of each of `MEASURES` in a group of matrices, of five seeds."""
    rows = update.spectral(of_study, task, by)
    entries = {row["measure"]: row for row in rows[rows["group"].astype(str) == group].to_dict("records")}
    assert {(row["matrices"], row["seeds"]) for row in entries.values()} == {(matrices, 5)}
    return [entries[name] for name in MEASURES]


def norm(of_study: Records, task: str) -> float:
    """Of the updates, over that of W: the mean over matrices and seeds."""
    lines = seeds_of(of_study, task, of_study.protocol.reference).values()
    return float(np.mean([row["relative_norm"] for line in lines for row in line["matrices"].values()]))
