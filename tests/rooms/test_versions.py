"""Runs that unlike versions made: no figure, table or study averages them without saying so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from recorded import run_record
from synthetic import study
from test_analysis import Store, drawn

from analysis.figures import FIGURES
from analysis.gaps import MADE_BY, stamped, unlike
from analysis.groups import load
from analysis.study.validator import breaches
from lorax_lab.record.record import Record, read_record, write_record
from lorax_lab.record.result import Git

OLD, NEW, OTHER = "a" * 32 + "1" * 32, "b" * 32 + "1" * 32, "a" * 32 + "2" * 32


def change(folder: Path, **fields: object) -> None:
    write_record(folder, replace(read_record(folder), **fields))  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two arms and the reference, two seeds each, all made alike; each method has code of its own."""
    made = Store(tmp_path / "runs")
    for seed in (0, 1):
        change(made.run(seed=seed, cuts={0: 0.5, 4: 0.7, 16: 0.8}), code="a" * 32 + "0" * 32, versions={"torch": "2"})
        for rank in (2, 4):
            change(made.run(rank, seed=seed), code=OLD, versions={"torch": "2", "peft": "1"})
    return made


def test_runs_that_were_made_alike_are_not_marked(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert drawn(store) == 0
    assert "version" not in capsys.readouterr().out
    assert not any(MADE_BY in pd.read_csv(path) for path in (store.folder / "out").glob("*.csv"))


@pytest.mark.parametrize(
    ("fields", "label", "stamp"),
    [
        ({"code": NEW}, "code bbbbbb…111111", "2 versions of code"),
        ({"code": OTHER}, "code aaaaaa…222222", "2 versions of code"),
        ({"code": None, "git": Git("f" * 40, True)}, "code commit ffffffffff", "2 versions of code"),
        ({"versions": {"torch": "3", "peft": "1"}}, "torch 3", "2 versions of torch"),
        ({"versions": {"torch": "2", "peft": "2"}}, "peft 2", "2 versions of peft"),
    ],
)
def test_unlike_ones_are_said_on_screen_in_the_table_and_on_the_figure(
    store: Store, fields: dict[str, object], label: str, stamp: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder,) = [path for path in store.folder.glob("minilm-*") if "-lora-r4-s1-" in path.name]
    change(folder, **fields)
    assert drawn(store, "accuracy_vs_rank") == 1
    shown = capsys.readouterr().out
    assert "made by unlike versions" in shown
    assert f"{label}: 1 run: {folder.name}" in shown
    assert "drawn, but stamped: unlike versions made the runs:" in shown
    assert stamp in shown
    (path,) = (store.folder / "out").glob("*accuracy_vs_rank.csv")
    table = pd.read_csv(path)
    assert list(table.loc[table[MADE_BY] == label, "seed"]) == [1]
    assert set(table.loc[table[MADE_BY] == label, "rank"]) == {4}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_rows_that_can_be_marked(store: Store, name: str, tmp_path: Path) -> None:
    for folder in store.folder.glob("minilm-*"):
        if "-s1-" in folder.name:
            change(folder, versions={"torch": "3"})
    (group,) = load(store.folder).groups
    table, stamps = stamped(group, FIGURES[name].table(group))
    both = len(set(table["seed"])) > 1
    assert (MADE_BY in table) == both
    assert stamps.unlike == ("2 versions of torch" if both else "")


def records(*changes: dict[str, object]) -> dict[str, Record]:
    return {str(n): replace(run_record(str(n)), **some) for n, some in enumerate(changes)}  # type: ignore[arg-type]


def test_the_package_itself_and_what_a_run_does_not_use_count_nothing() -> None:
    assert not unlike(records({"versions": {"lorax_lab": "1", "peft": "1"}}, {"versions": {"lorax_lab": "2"}}))
    assert not unlike(records({"code": None}, {"code": None}))


def test_a_run_without_a_reference_may_have_other_code_of_its_own() -> None:
    config = run_record().config
    pair = {"code": OLD, "config": config | {"reference": True}}, {"code": OTHER, "config": config}
    assert not unlike(records(*pair))
    assert unlike(records(*pair, {"code": NEW, "config": config}))[0].of_run["2"] == "bbbbbb…111111"


def test_a_study_with_a_line_that_is_older_than_the_hash_is_of_two_versions() -> None:
    records = study()
    lines = [line | ({"code": None} if number == 0 else {}) for number, line in enumerate(records.lines)]
    mixed = breaches(replace(records, lines=lines))
    assert any("2 versions of the code" in breach for breach in mixed)


def test_a_comparison_that_is_missing_is_named_with_what_to_type(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in store.folder.glob("minilm-*"):
        record = read_record(folder)
        if record.method == "lora" and record.seed == 1:
            change(folder, config=record.config | {"reference": True})
    drawn(store, "accuracy_vs_rank")
    shown = capsys.readouterr().out
    assert "the comparison with the reference: LoRA r = 2, 4 of seed 1; type python -m lorax_lab.run" in shown
    assert "rank=2,4 seed=1 runs_dir=" in shown
