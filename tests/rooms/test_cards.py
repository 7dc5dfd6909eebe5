"""`python -m analysis cards`: of many rank cards, whether the chosen cuts held on test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import cards
from analysis.__main__ import main
from analysis.axes import LEAST


def card(folder: Path, name: str, full: int, chosen: int, gain: float, **changes: Any) -> None:
    """What a card of an adapter of rank `full` has of its scores."""
    test = {"score": 0.8, "difference": gain, "surely": None, "low": gain - 0.01, "high": gain + 0.01}
    scores = {"task": "reviews", "metric": "accuracy", "margin": 0.02, "full": full, "chosen": chosen, "test": test}
    scores |= {"whole": {"validation": 0.7, "test": 0.8}, "examples": {"validation": 500, "test": 1000}}
    scores |= {"higher_is_better": True} | changes
    (folder / name).mkdir(parents=True)
    (folder / name / "card.json").write_text(json.dumps({"title": name, "base": "minilm", "scores": scores}))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Of 20 cards 16 chose a smaller rank, of which one lost more than the margin, and four lost just as much."""
    for seed in range(4):
        card(tmp_path, f"r2-{seed}", 2, 2, 0.0)
        card(tmp_path, f"r4-{seed}", 4, 1, -0.005)
        card(tmp_path, f"r8-{seed}", 8, 2, -0.010)
        card(tmp_path, f"r16-{seed}", 16, 0, 0.83 - 0.85)  # the margin itself, but for rounding
        card(tmp_path, f"r32-{seed}", 32, 8, -0.031 if seed == 3 else 0.004)
    return tmp_path


def test_it_counts_the_cuts_that_held_and_says_how_sure_that_is(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cards", str(made)]) == 0
    said = capsys.readouterr().out
    # Clopper and Pearson's limits solve P(X ≥ 15) = .025 and P(X ≤ 15) = .025 of 16
    numbers = ("15 of 16 cuts", "0.698 to 0.998", "11 surely, 1 surely not", "gain -0.010, lowest -0.031", "4 of 20")
    assert all(number in said for number in numbers)
    table = pd.read_csv(made / "cards.csv")
    assert len(table) == 20
    one = table.set_index("card").loc["r32-3"]
    assert (one["gain"], one["whole"], one["validation"], one["test"]) == (-0.031, 0.8, 500, 1000)
    assert (one["base"], one["held"], one["surely_lost"]) == ("minilm", False, True)
    assert {path.name for path in made.iterdir() if path.is_file()} == {"cards.png", "cards.pdf", "cards.csv"}


def test_cards_that_kept_the_whole_are_no_success(tmp_path: Path) -> None:
    card(tmp_path, "r4", 4, 4, 0.0)
    said = cards.sentence(cards.read(tmp_path)[0])
    assert "1 of 1" in said
    assert "held" not in said


def test_cards_of_unlike_tasks_metrics_or_margins_are_counted_apart(made: Path) -> None:
    card(made, "other", 8, 4, -0.3, task="headlines")
    card(made, "nats", 8, 4, -0.3, metric="nats_per_token", higher_is_better=False)
    card(made, "wide", 8, 4, -0.3, margin=0.5)
    table, left_out = cards.read(made)
    assert left_out == []
    by = {name: cards.sentence(rows) for name, rows in cards.groups(table).items()}
    assert set(by) == {
        "reviews, accuracy, margin 0.02",
        "headlines, accuracy, margin 0.02",
        "reviews, nats_per_token (lower is better), margin 0.02",
        "reviews, accuracy, margin 0.5",
    }
    assert by["reviews, accuracy, margin 0.02"].startswith("15 of 16 cuts held")
    assert by["reviews, accuracy, margin 0.5"].startswith("1 of 1 cuts held")
    assert by["headlines, accuracy, margin 0.02"].startswith("0 of 1 cuts held")


def test_cards_that_cannot_be_counted_are_named(made: Path) -> None:
    card(made, "bare", 8, 2, 0.0)
    (made / "bare" / "card.json").write_text(json.dumps({"title": "bare", "scores": None}))
    shutil.copytree(made / "r4-0", made / "r4-0-copy")
    table, left_out = cards.read(made)
    assert len(table) == 20
    assert sorted(line.partition(":")[0] for line in left_out) == ["bare", "r4-0-copy"]


def test_a_folder_without_a_scored_card_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cards", str(tmp_path)]) == 2
    assert f"{tmp_path} has no card with a task" in capsys.readouterr().err
    assert main(["cards", str(tmp_path / "nowhere")]) == 2


def test_the_figure_shows_each_card_at_its_place(made: Path) -> None:
    table, _ = cards.read(made)
    rows = table.sort_values("full", kind="stable").to_dict("records")
    for axes, key in zip(cards.draw(table).axes, ("chosen", "gain"), strict=True):
        shown = [tuple(container.lines[0].get_xydata()[0]) for container in axes.containers]
        least = LEAST if key == "chosen" else -1
        assert shown == [(row["full"], max(row[key], least)) for row in rows]
        bars = [container.lines[2][0].get_segments()[0][:, 1] for container in axes.containers]
        if key == "gain":
            assert np.array(bars) == pytest.approx(np.array([[row["low"], row["high"]] for row in rows]))
