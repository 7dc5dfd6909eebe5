"""The closing table of a sweep shows what was swept."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorax_lab.launch.compose import compose
from lorax_lab.launch.table import Row, table


def row(method: str, rate: float, task: str = "reviews") -> Row:
    overrides = [f"method={method}", f"train.learning_rate={rate}", "task=movie_reviews", f"task.name={task}"]
    return Row(compose(overrides), None, "not run")


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        ([row("full", 1e-4), row("lora", 1e-3)], []),
        ([row("full", 1e-4), row("lora", 1e-3), row("lora", 2e-3)], ["learning rate"]),
        ([row("full", 1e-4), row("full", 1e-4, "headlines")], ["task"]),
        ([row("full", 1e-4), row("full", 2e-4, "headlines")], ["task", "learning rate"]),
    ],
)
def test_what_one_method_has_several_of_is_a_column(rows: list[Row], shown: list[str]) -> None:
    made = table(rows, Path("runs"))
    headings = [str(column.header) for column in made.columns]
    assert headings[: len(shown) + 1] == [*shown, "method"]
    assert made.row_count == len(rows)
