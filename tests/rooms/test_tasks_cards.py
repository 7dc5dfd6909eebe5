"""What every source declares, and the real files against what they are known to have."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from published import ALL, everything, origins, settings, shared, splits, text_and_group

from lorax_lab.data import SOURCES
from lorax_lab.data.assets import ASSETS, fetch
from lorax_lab.launch.compose import compose
from lorax_lab.tasks import KINDS, load_task

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", list(SOURCES))
def test_every_source_has_inputs_or_columns_and_a_file(name):
    source = SOURCES[name]
    assert bool(source.inputs) != bool(source.columns)
    words = [f"task.{key}=my_{key}" for key in source.needed(KINDS["classification"].config)]
    config = compose([f"task={name}", *words]).task
    assert (config.name, config.source) == (name, name)
    assert source.fits(config)


# ---- the real files


REAL = [name for name in SOURCES if name in ASSETS or name == "boolq_lm"]
"""The tasks whose data are fetched."""


def read_real(name: str) -> str:
    return fetch(name.removesuffix("_lm")).read_bytes().decode("utf-8")


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "clear", "dropped", "groups", "largest"),
    [
        ("movie_reviews", 10_072, 2, 10_070, 0.504),
        ("product_reviews", 2_985, 8, 285, 0.586),
        ("editorials", 2_970, 39, 497, 0.599),
        ("tweets", 3_432, 60, 3_274, 0.687),
        ("sarcasm", 28_614, 116, 28_496, 0.525),
        ("boolq", 12_697, 0, 8_204, 0.623),
    ],
)
def test_as_published(name, clear, dropped, groups, largest):
    task = load_task(settings(name, **ALL))
    labels = Counter(e.label for e in everything(task))
    assert task.dropped == {"unlabeled": 0, "blank": 0, "duplicate": dropped, "conflicting": 0, "overlap": 0}
    assert labels.total() == clear - dropped
    assert max(labels.values()) / labels.total() == pytest.approx(largest, abs=6e-4)
    named = {e.group for e in everything(task)} - {None}
    assert len(named) + sum(e.group is None for e in everything(task)) == groups


@pytest.mark.network
@pytest.mark.parametrize("name", REAL)
def test_nothing_real_leaks(name):
    """In the default splits: no text, no wording, no document, no passage and no article is in two of them."""
    config = settings(name)
    task, ties = load_task(config), origins(name, read_real(name))
    assert not shared(task, text_and_group)
    assert not shared(task, ties)
    sizes = (config.train_examples, config.validation_examples, config.test_examples)
    assert tuple(map(len, splits(task))) == sizes


@pytest.mark.network
@pytest.mark.parametrize(("name", "conflicting", "rows"), [("editorials", 134, 5_190), ("tweets", 120, 4_200)])
def test_real_scores(name, conflicting, rows):
    task = load_task(settings(name, "task.kind=regression", **ALL))
    assert task.dropped["conflicting"] == conflicting
    assert all(-4 <= e.label <= 4 for e in everything(task))
    assert len(everything(task)) + sum(task.dropped.values()) == rows
    assert not shared(task, origins(name, read_real(name)))
