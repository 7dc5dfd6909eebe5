"""The cards of the built-in tasks, and the real files against them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from published import ALL, everything, origins, settings, shared, splits, text_and_group

from lorax_lab.config.overrides import CONF
from lorax_lab.data import CARDS, SOURCES, boolq, hutto_gilbert, sarcasm
from lorax_lab.data.assets import ASSETS, fetch
from lorax_lab.data.source import table
from lorax_lab.launch.compose import compose
from lorax_lab.tasks import KINDS, load_task

ROOT = Path(__file__).parents[2]


# ---- cards


def test_the_docs_show_every_card():
    assert table(CARDS) in (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(SOURCES))
def test_every_source_has_a_card_or_columns_and_a_file(name):
    source = SOURCES[name]
    assert bool(source.card) != ("path" in source.keys)
    assert bool(source.inputs) != bool(source.columns)
    words = [f"task.{key}=my_{key}" for key in source.needed(KINDS["classification"].config)]
    config = compose([f"task={name}", *words]).task
    assert (config.name, config.source) == (name, name)
    assert source.fits(config)


@pytest.mark.parametrize("name", list(CARDS))
def test_a_card_names_metrics_of_the_kinds_that_read_the_task(name):
    kinds = [kind for kind in KINDS.values() if SOURCES[name].fits(kind.config)]
    assert kinds
    assert set(CARDS[name].metrics) <= {next(iter(kind.metrics)) for kind in kinds}
    assert len(CARDS[name].metrics) == len(SOURCES[name].labels)


def test_the_help_names_tasks_that_there_are():
    dials = (CONF / "hydra" / "help" / "dials.yaml").read_text(encoding="utf-8")
    listed = re.search(r"^    task=\w+ +(.*(?:\n {20,}.*)?)\n", dials, re.MULTILINE)[1]
    names = re.findall(r"(?<![\w/] )\b[a-z_]+(?=,)", listed)
    assert len(names) > 3
    assert not [name for name in names if not (CONF / "task" / f"{name}.yaml").is_file()]


@pytest.mark.parametrize("name", list(CARDS))
def test_the_default_sizes_fit_and_can_tell_two_points_apart(name):
    """Two paired predictions on n examples that disagree on a tenth of them differ by .02 ± sqrt(.1 / n)."""
    config, card = settings(name), CARDS[name]
    sizes = [config.train_examples, config.validation_examples, config.test_examples]
    assert sum(map(int, sizes)) <= card.examples
    assert (0.1 / config.validation_examples) ** 0.5 < 0.02
    assert (0.1 / config.test_examples) ** 0.5 < 0.02 / 1.8


# ---- the real files


REAL = [name for name in CARDS if name in ASSETS or name == "boolq_lm"]
"""The tasks whose data are fetched."""


def read_real(name: str) -> str:
    return fetch(name.removesuffix("_lm")).read_bytes().decode("utf-8")


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
    assert task.dropped == {"unlabeled": 0, "blank": 0, "duplicate": dropped, "conflicting": 0, "overlap": 0}
    assert labels.total() == card.examples == clear - dropped
    assert task.classes == card.classes
    assert max(labels.values()) / labels.total() == pytest.approx(card.largest, abs=6e-4)
    named = {e.group for e in everything(task)} - {None}
    assert len(named) + sum(e.group is None for e in everything(task)) == groups


@pytest.mark.network
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", REAL)
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
