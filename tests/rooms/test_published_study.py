"""The studies as they are committed: fair, complete, and tables, pages and verdict are what their records give."""

import os
import shutil
from collections.abc import Callable
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.study import page, update
from analysis.study.command import BEGINS, DOCS, ENDS, PAGE, README, VERDICT, WHY, load_all
from analysis.study.comparison import seeds_of
from analysis.study.figures import FIGURES, bases
from analysis.study.records import RECORDS, Records, load, names_in
from analysis.study.validator import breaches
from analysis.study.verdict import of_tasks
from lorax_lab.audit.facts import UNTAUGHT, UNTAUGHT_RANKS
from lorax_lab.study.published import Afterwards, read_rows, write_rows

STUDIES = names_in(RECORDS)
QUICK = "paper_which_matrices"
"""A small study that `make test` reads too."""


@cache
def records(study: str) -> Records:
    return load(RECORDS / study)


@pytest.mark.parametrize(
    "study", [pytest.param(study, marks=() if study == QUICK else pytest.mark.slow) for study in STUDIES]
)
def test_the_comparison_is_fair_and_tables_and_page_are_what_the_records_give(study: str) -> None:
    """The page byte by byte; the last digit of a mean in a table depends on the version of pandas."""
    of_study = records(study)
    assert breaches(of_study) == []
    paths = sorted((DOCS / study).glob("*.csv"))
    tables = page.tables(of_study) if paths else {}  # a study without an answer has none
    for path in paths:
        table = tables[path.stem] if path.stem in tables else FIGURES[path.stem].table(of_study)
        made = pd.read_csv(StringIO(table.to_csv(index=False)))
        pd.testing.assert_frame_equal(made, pd.read_csv(path), rtol=1e-12, atol=1e-12, obj=str(path))
    assert page.write(of_study) == (DOCS / study / PAGE).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "write"), [(VERDICT, page.write_all), (WHY, page.write_why), (README, page.write_answer)]
)
def test_the_pages_over_all_are_what_the_records_give(path: Path, write: Callable[..., str]) -> None:
    links = {study: os.path.relpath(DOCS / study / PAGE, path.parent) for study in STUDIES}
    text = path.read_text(encoding="utf-8")
    shown = text.partition(f"{BEGINS}\n\n")[2].partition(f"\n{ENDS}")[0] if path == README else text
    assert write(load_all(RECORDS), links) == shown


@pytest.mark.slow
def test_neither_of_the_causes_that_pretraining_declared_is_named_by_its_records() -> None:
    """`docs/why.md` says so in words: prediction 2 fails, and 3 is not refuted on both tasks."""
    rows = [row for row in bases.rows_of_page(records("pretraining")) if row["base"] != "pretrained"]
    by = pd.DataFrame(
        [{"task": row["task"]} | {key: row[key]["difference_high"] for key in ("rank", "k")} for row in rows]
    )
    assert any(row["effective_rank"]["difference"] > -20 for row in rows)
    assert ((by[["rank", "k"]] < 0).groupby(by["task"]).sum() < 2).all(axis=1).any()


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
MEASURES = ("effective_rank", "stable_rank", "participation_ratio", "energy_rank_90")


@pytest.mark.slow
@pytest.mark.parametrize(("study", "task"), [("rank_sweep", "sarcasm"), ("random_labels", "random labels")])
def test_the_spectra_of_random_labels_stand_beside_those_of_a_task(study: str, task: str) -> None:
    text, of_study = MEASURES_PAGE.read_text(encoding="utf-8"), records(study)
    rows = update.spectral(of_study, task)
    entries = {row["measure"]: row for row in rows[rows["group"] == update.ALL].to_dict("records")}
    assert {(row["matrices"], row["seeds"]) for row in entries.values()} == {(36, 5)}
    shown = [entries[name] for name in MEASURES]
    numbers = " | ".join(f"{e['mean']:.1f} [{e['low']:.1f}, {e['high']:.1f}]" for e in shown)
    lines = seeds_of(of_study, task, of_study.protocol.reference).values()
    norm = np.mean([row["relative_norm"] for line in lines for row in line["matrices"].values()])
    assert f"| {task} | {numbers} | {norm:.4f} |".replace("| 0.", "| .") in text
    assert f"| iid noise | {' | '.join(str(round(entry['null'], 1)) for entry in shown)} | |" in text


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
    for of_study in load_all(RECORDS):
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
