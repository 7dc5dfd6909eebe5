"""The closing table of a sweep: a column for each dial that differs, one metric under a heading, and whole reasons."""

import dataclasses
from io import StringIO
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from recorded import run_record
from rich.console import Console

from lorax_lab.launch.compose import compose
from lorax_lab.launch.table import DIFFERENCE, SHARE, Row, table
from lorax_lab.record import measures
from lorax_lab.record.folder import HEAD_ALONE
from lorax_lab.record.record import write_record
from lorax_lab.record.result import Probe

DIALS = {
    "model=smollm2": "model", "task=boolq": "task", "method=full": "method", "rank=16": "rank", "seed=1": "seed",
    "method.alpha=8": "alpha", "method.dropout=0.1": "dropout",
    "method.target_modules=[query,value]": "target modules", "train.learning_rate=5e-4": "learning rate",
    "train.epochs=2": "epochs", "train.head=false": "head", "task.train_examples=null": "train examples",
    "measure=trial": "measure",
}  # fmt: skip
"""Each of them alone makes another run than the default one, and has a heading."""


MEMORISE = ("task.memorise=true", "task.validation_examples=null", "task.test_examples=null")


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs here have no files of which measures could be derived."""
    monkeypatch.setattr(measures, "effective_ranks", lambda folder: None)


def row(*overrides: str, status: str = "completed", **found: Any) -> Row:
    config = compose(list(overrides))
    record = run_record(config=dataclasses.asdict(config), **found) if status == "completed" else None
    return Row(config, record, status)


def headings_of(rows: list[Row]) -> list[str]:
    return [str(column.header) for column in table(rows, Path("runs")).renderables[0].columns]


def printed(rows: list[Row]) -> list[str]:
    console = Console(width=120, record=True, file=StringIO())
    console.print(table(rows, Path("runs")))
    return console.export_text().splitlines()


def lines_of(rows: list[Row]) -> list[str]:
    """The cells of each run in one string, however many lines they are folded to."""
    shown = table(rows, Path("runs")).renderables[0]
    cells = [[str(cell) for cell in column.cells] for column in shown.columns]
    return [" | ".join(values) for values in zip(*cells, strict=True)]


def test_a_dial_that_differs_has_a_column_and_runs_that_differ_are_never_alike() -> None:
    for override, heading in DIALS.items():
        assert heading in headings_of([row(), row(override)])
    pairs = list(combinations(DIALS, 2))
    every = [row(), *(row(override) for override in DIALS)]
    every += [row(*pair) for pair in pairs if not any(p.startswith(("method", "rank")) for p in pair)]
    assert len(set(lines_of(every))) == len(every)


@pytest.mark.parametrize(
    ("second", "kind"),
    [
        (row("task=glue/stsb", metric="pearson", metrics={"test/pearson": 0.6}), "test pearson"),
        (row("measure=trial", metrics={"validation/accuracy": 0.6}), "validation accuracy"),
        (row(*MEMORISE, metrics={"test/accuracy": 0.6}), "training accuracy"),
    ],
)
def test_two_metrics_never_share_a_heading(second: Row, kind: str) -> None:
    first = row(metrics={"test/accuracy": 0.5})
    assert "test accuracy" in headings_of([first])
    headings = headings_of([first, second])
    assert [heading for heading in headings if heading in ("scored", "score")] == ["scored", "score"]
    assert not any("accuracy" in heading for heading in headings)
    lines = lines_of([first, second])
    assert "test accuracy | 0.500" in lines[0]
    assert f"{kind} | 0.600" in lines[1]


def test_a_reason_is_shown_whole_with_its_brackets() -> None:
    reason = "failed: RuntimeError: [Errno 28] no space left in [bold]blocks[/bold], " + "and so on " * 30
    lines = printed([row(), row("rank=4", status=reason)])
    assert f"method lora, rank 4, seed 0, {reason.strip()}" in " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 120


def test_a_measure_that_an_update_of_zeros_does_not_have_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "effective_ranks", lambda folder: (None, None))
    assert lines_of([row()])[0].count(" | — | — | ") == 1


def test_a_run_has_its_share_of_what_full_fine_tuning_brings_over_the_head_alone(tmp_path: Path) -> None:
    scores = {"metrics": {"test/accuracy": 0.9}, "baselines": {f"{HEAD_ALONE}/accuracy": 0.7}}
    write_record(tmp_path / "full", run_record("full", method="full", rank=None, **scores))
    run = row("rank=4", metrics={"test/accuracy": 0.88}, reference="full")
    shown = table([run], tmp_path).renderables[0]
    cells = {str(column.header): str(next(column.cells)) for column in shown.columns}
    assert (cells[DIFFERENCE], cells[SHARE]) == ("-0.020", "90 %")
    better = {"baselines": {f"{HEAD_ALONE}/accuracy": 0.95}}
    write_record(tmp_path / "full", run_record("full", method="full", rank=None, **scores | better))
    shown = table([run], tmp_path)
    cells = {str(column.header): str(next(column.cells)) for column in shown.renderables[0].columns}
    assert (cells[DIFFERENCE], SHARE in cells) == ("—", False)
    assert "train.epochs=4, and for the rate method=full" in str(shown.renderables[-1])


@pytest.mark.parametrize(
    ("bag", "best"), [(0.778, "bag of words 0.778, before linear"), (0.7, "linear probe 0.754, be")]
)
def test_the_stronger_of_linear_probe_and_bag_of_words_is_the_zero_and_is_named(bag: float, best: str) -> None:
    probes = [Probe("majority class", 0.525, 0.5), Probe("token", 0.6, 0.5), Probe("bag of words", bag, 0.7)]
    full = row("method=full", "task=sarcasm", baselines={f"{HEAD_ALONE}/accuracy": 0.754}, probes=probes)
    assert any(f"the best on sarcasm without fine-tuning: {best}" in line for line in printed([full]))


def test_an_arm_of_several_seeds_has_an_interval_of_its_difference(tmp_path: Path) -> None:
    """(−.01, −.02, −.03): Student's half width of three is 4.303 · .01 / √3."""
    rows = []
    for seed, score in enumerate((0.89, 0.88, 0.87)):
        full = run_record(f"full-{seed}", method="full", rank=None, metrics={"test/accuracy": 0.9})
        write_record(tmp_path / f"full-{seed}", full)
        rows.append(row("rank=4", f"seed={seed}", metrics={"test/accuracy": score}, reference=f"full-{seed}"))

    def below(shown: list[Row]) -> str:
        return "\n".join(map(str, table(shown, tmp_path).renderables[1:]))

    assert "method lora, rank 4: -0.020 [-0.045, +0.005] from full fine-tuning, 95 % over 3 seeds alone" in below(rows)
    assert "from full" not in below(rows[:1])
    assert "seed=0,1,2 for intervals" in below(rows[:1])
