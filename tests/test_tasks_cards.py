"""The cards of the built-in tasks, and the real files against them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from published import ALL, everything, origins, settings, shared, splits, text_and_group

from lorax_lab.config.overrides import CONF
from lorax_lab.data import SOURCES, boolq, hutto_gilbert, sarcasm
from lorax_lab.data.assets import fetch
from lorax_lab.data.cards import CARDS, table
from lorax_lab.tasks import load_task
from lorax_lab.tasks.score import primary_metric

ROOT = Path(__file__).parents[1]


# ---- cards


def test_every_built_in_task_has_a_card_a_file_and_a_word_of_help():
    assert set(CARDS) == set(SOURCES) - {"local", "hub"}
    assert table() in (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    dials = (CONF / "hydra" / "help" / "dials.yaml").read_text(encoding="utf-8")
    for name, card in CARDS.items():
        assert (CONF / "task" / f"{name}.yaml").is_file()
        assert re.search(rf"^    task=.*(\n {{20}}.*)?\b{name}\b", dials, re.MULTILINE)
        assert card.metrics == tuple(primary_metric(kind, None) for kind in SOURCES[name].KINDS)


@pytest.mark.parametrize("name", list(CARDS))
def test_the_default_sizes_fit_and_can_tell_two_points_apart(name):
    """Two paired predictions on n examples that disagree on a tenth of them differ by .02 ± sqrt(.1 / n)."""
    config, card = settings(name), CARDS[name]
    sizes = [config.train_examples, config.validation_examples, config.test_examples]
    assert sum(map(int, sizes)) <= card.examples
    assert (0.1 / config.validation_examples) ** 0.5 < 0.02
    assert (0.1 / config.test_examples) ** 0.5 < 0.02 / 1.8


# ---- the real files


def read_real(name: str) -> str:
    return fetch(name).read_bytes().decode("utf-8")


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "rows", "clear", "dropped", "groups"),
    [
        ("movie_reviews", 10_605, 10_072, 2, 10_070),
        ("product_reviews", 3_708, 2_985, 8, 285),
        ("editorials", 5_190, 2_970, 39, 497),
        ("tweets", 4_200, 3_432, 60, 3_274),
        ("sarcasm", 28_614, 28_614, 116, 28_496),
        ("boolq", 12_697, 12_697, 0, 8_204),
    ],
)
def test_as_published(name, rows, clear, dropped, groups):
    parse = {"sarcasm": sarcasm.parse, "boolq": boolq.parse}.get(name, hutto_gilbert.parse)
    content, card, task = read_real(name), CARDS[name], load_task(settings(name, **ALL))
    labels = Counter(e.label for e in everything(task))
    assert len(parse(content)) == card.rows == rows
    assert task.dropped == {"blank": 0, "duplicate": dropped, "conflicting": 0, "overlap": 0}
    assert labels.total() == card.examples == clear - dropped
    assert task.classes == card.classes
    assert max(labels.values()) / labels.total() == pytest.approx(card.largest, abs=6e-4)
    named = {e.group for e in everything(task)} - {None}
    assert len(named) + sum(e.group is None for e in everything(task)) == groups


@pytest.mark.network
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", list(CARDS))
def test_nothing_real_leaks(name, seed):
    """In the default splits: no text, no wording, no document, no passage and no article is in two of them."""
    config = settings(name, split_seed=seed)
    task, ties = load_task(config), origins(name, read_real(name))
    assert not shared(task, text_and_group)
    assert not shared(task, ties)
    sizes = (config.train_examples, config.validation_examples, config.test_examples)
    assert tuple(map(len, splits(task))) == sizes
    for rows in splits(task):
        counts = Counter(e.label for e in rows)
        assert max(counts.values()) / counts.total() == pytest.approx(CARDS[name].largest, abs=0.08)


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "conflicting"), [("movie_reviews", 4), ("product_reviews", 21), ("editorials", 134), ("tweets", 120)]
)
def test_real_scores(name, conflicting):
    config = settings(name, "task.kind=regression", **ALL)
    task = load_task(config)
    assert task.dropped["conflicting"] == conflicting
    assert all(-4 <= e.label <= 4 for e in everything(task))
    assert len(everything(task)) + sum(task.dropped.values()) == CARDS[name].rows
    assert not shared(task, origins(name, read_real(name)))
