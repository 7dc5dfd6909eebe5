"""`python -m analysis cards`: of many rank cards, whether the chosen cuts held on test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analysis import cards
from analysis.__main__ import main


def card(folder: Path, name: str, full: int, chosen: int, difference: float, **changes: Any) -> None:
    """What a card of an adapter of rank `full` has of its scores."""
    test = {"score": 0.8, "difference": difference, "surely": None, "low": difference - 0.01, "high": difference + 0.01}
    scores = {"task": "reviews", "metric": "accuracy", "margin": 0.02, "full": full, "chosen": chosen, "test": test}
    scores |= {"whole": {"validation": 0.8, "test": 0.8}, "examples": {"validation": 500, "test": 1000}}
    (folder / name).mkdir(parents=True)
    (folder / name / "card.json").write_text(json.dumps({"title": name, "scores": scores | changes}))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Of 20 cards 16 chose a smaller rank, of which one lost more than the margin."""
    for seed in range(4):
        card(tmp_path, f"r2-{seed}", 2, 2, 0.0)
        card(tmp_path, f"r4-{seed}", 4, 1, -0.005)
        card(tmp_path, f"r8-{seed}", 8, 2, -0.010)
        card(tmp_path, f"r16-{seed}", 16, 0, 0.83 - 0.85)  # the margin itself, but for rounding
        card(tmp_path, f"r32-{seed}", 32, 8, -0.021 if seed == 3 else 0.004)
    return tmp_path


def test_it_counts_the_cuts_that_held_and_says_how_sure_that_is(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cards", str(made)]) == 0
    said = capsys.readouterr().out
    # Clopper and Pearson's limits solve P(X ≥ 19) = .025 and P(X ≤ 19) = .025 of 20, and of 15 in 16
    assert "within the margin in 19 of 20 (95 % interval 0.751 to 0.999) of the cards" in said
    assert "of the 16 that were cut, in 15 of 16 (95 % interval 0.698 to 0.998)" in said
    assert "-0.021 at worst" in said
    assert {path.name for path in made.iterdir() if path.is_file()} == {"cards.png", "cards.pdf", "cards.csv"}


def test_a_task_that_is_not_the_only_one_has_a_sentence_of_its_own(made: Path) -> None:
    card(made, "other", 8, 8, 0.0, task="headlines")
    table, left_out = cards.read(made)
    assert left_out == []
    order = ["all", "rev", "hea"]
    every, of_reviews, of_headlines = sorted(cards.sentences(table), key=lambda text: order.index(text[:3]))
    assert "20 of 21" in every
    assert "19 of 20" in of_reviews
    assert "no smaller rank was sure enough for any" in of_headlines
    figure = cards.draw(table)
    assert [axes.get_title("left") for axes in figure.axes[::2]] == ["headlines", "reviews"]


def test_cards_that_cannot_be_counted_are_named(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card(made, "bare", 8, 2, 0.0)
    (made / "bare" / "card.json").write_text(json.dumps({"title": "bare", "scores": None}))
    card(made, "short", 8, 2, 0.0)
    text = (made / "short" / "card.json").read_text()
    (made / "short" / "card.json").write_text(text[: len(text) // 2])
    card(made, "odd", 8, 2, 0.0, test={})
    assert main(["cards", str(made)]) == 0
    said = capsys.readouterr().out
    assert "19 of 20" in said
    assert "bare: it was made without --task" in said
    assert "short: card.json cannot be read" in said
    assert "odd: card.json cannot be read" in said


@pytest.mark.parametrize("empty", [True, False])
def test_a_folder_without_a_scored_card_is_refused(
    empty: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not empty:
        card(tmp_path, "bare", 8, 2, 0.0)
        (tmp_path / "bare" / "card.json").write_text(json.dumps({"title": "bare", "scores": None}))
    assert main(["cards", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "has no card with a task" in said
    assert "type python -m lorax_lab.card runs/*-lora-* --task" in said
    assert main(["cards", str(tmp_path / "nowhere")]) == 2


def test_the_figure_shows_each_card_and_which_did_not_hold(made: Path) -> None:
    table, _ = cards.read(made)
    left, right = cards.draw(table).axes
    points = [line for line in right.lines if len(line.get_xdata()) == 1]
    assert len(points) >= len(table)
    crosses = [line for line in right.lines if line.get_marker() == "x"]
    assert [line.get_ydata().tolist() for line in crosses] == [[-0.021]]
    assert left.get_ylim()[0] < 0.5
