"""The built-in tasks: read as published, grouped so that nothing of one split is in another; then the real files."""

import dataclasses
import math
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from published import (
    ALL,
    CONTENT,
    everything,
    group_of,
    hub_folder,
    local_table,
    origins,
    rated_lines,
    settings,
    shared,
    splits,
    text_and_group,
)

from lorax_lab.config import TaskConfig
from lorax_lab.data import SOURCES, built_in, data_sha256, under_rules
from lorax_lab.data.assets import ASSETS, fetch
from lorax_lab.data.splits import split
from lorax_lab.errors import ConfigError
from lorax_lab.tasks import KINDS, Task, load_task

PINNED = [name for name in SOURCES if name in ASSETS]
Serve = Callable[[str, str], TaskConfig]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Put `content` where the task's own file would be; returns a configuration that uses every row."""

    def put(name: str, content: str) -> TaskConfig:
        path = tmp_path / f"{name}.data"
        path.write_text(content, encoding="utf-8", newline="")
        monkeypatch.setattr(sys.modules[SOURCES[name].read.__module__], "fetch", lambda asset: path)
        return settings(name, **ALL)

    return put


@pytest.fixture
def readable(serve: Serve, tmp_path: Path) -> Callable[[str], TaskConfig]:
    """A configuration that uses every row of a source: of files made here, of a file as published, or of what the
    source makes itself."""

    def put(name: str) -> TaskConfig:
        if "path" in SOURCES[name].keys:
            return {"local": local_table, "hub": hub_folder}[name](tmp_path)
        return serve(name, CONTENT[name]()) if name in CONTENT else settings(name, **ALL)

    return put


@pytest.mark.parametrize("name", list(SOURCES))
def test_inputs_and_labels_are_as_declared_and_no_content_and_no_group_is_in_two_splits(name, readable):
    config, source = readable(name), SOURCES[name]
    pools, task = source.read(config), load_task(config)
    declared = set(source.inputs) or {key for key in config.inputs if getattr(config, key)}
    assert all(set(e.inputs) == declared for e in pools.train)
    labels = {e.label for e in pools.train}
    assert labels == set(range(len(pools.classes))) or (not pools.classes and all(isinstance(x, str) for x in labels))
    assert under_rules(source.sha256(config), config) == data_sha256(config)
    assert all(splits(task))
    assert not shared(task, text_and_group)
    if name in CONTENT:
        assert not shared(task, origins(name, CONTENT[name]()))


@pytest.mark.parametrize("name", list(CONTENT))
def test_the_content_made_here_would_leak_without_groups(name, serve):
    """Else the law above would hold for any code."""
    config = serve(name, CONTENT[name]())
    pools = SOURCES[name].read(config)
    ungrouped = [dataclasses.replace(e, group=None) for e in pools.train]
    parts, dropped = split(dataclasses.replace(pools, train=ungrouped), config, "ab" * 32)
    task = Task(config, KINDS[config.kind], pools.classes, "accuracy", *parts, "", dropped)
    assert shared(task, origins(name, CONTENT[name]()))


def test_retweets_and_louder_variants_are_one_group_and_smileys_none(serve):
    same = ["Yay. We won.", "YAY!! We won!!", "RT @anonymous Yay: we won", "@anonymous yay we won http://url_removed"]
    alone = ["@anonymous :)", "@anonymous :( :("]
    rows = [(str(i), -1.0, f"other {i}") for i in range(40)]
    rows += [(str(50 + i), 2.0, text) for i, text in enumerate(same + alone)]
    groups = group_of(load_task(serve("tweets", rated_lines(rows))))
    assert len({groups[text] for text in same}) == 1
    assert [groups[text] for text in alone] == [None, None]
    assert len(set(groups.values())) == 42


@pytest.mark.parametrize("name", ["tweets", "editorials"])
def test_rated_sentences_are_the_clear_ones(name, serve):
    scores = [-2.5, -0.5, -0.49, 0.49, 0.5, 3.0]
    rows = [(f"{i}_1", scores[i % 6], f'sentence {i} says “no” "maybe\ttab') for i in range(60)]
    config = serve(name, rated_lines(rows))
    task = load_task(config)
    assert (task.classes, len(everything(task))) == (("negative", "positive"), 40)
    for e in everything(task):
        assert e.label == (int(e.inputs["text"].split()[1]) % 6 >= 4)
        assert e.inputs["text"].endswith('says “no” "maybe\ttab')
    task = load_task(settings(name, "task.kind=regression", **ALL))
    assert (task.classes, task.metric, len(everything(task))) == ((), "pearson", 60)
    assert all(e.label == scores[int(e.inputs["text"].split()[1]) % 6] for e in everything(task))


def test_arithmetic_is_right_and_the_same_on_every_machine():
    config = settings("arithmetic", **ALL)
    pools = SOURCES["arithmetic"].read(config)
    assert data_sha256(config) == "9c3615c6412ba15c0d8a9264c1c3674f54b1078aa345c3ab28b68716b25a1bc2"
    for e in pools.train:
        first, sign, second, _ = e.inputs["prompt"].split()
        answer = int(first) + int(second) if sign == "+" else int(first) - int(second)
        assert e.label == str(answer)
        assert answer >= 0
        assert e.group in (f"{first} {sign} {second}", f"{second} + {first}")
    counts = Counter(e.label for e in pools.train)
    assert counts.total() == len({e.inputs["prompt"] for e in pools.train}) == 8000
    assert max(counts.values()) / 8000 == pytest.approx(0.01, abs=1e-3)


@pytest.mark.parametrize(
    ("generator", "right"),
    [
        ("spell_backward", lambda prompt: prompt.split(": ")[-1][::-1]),
        ("gcd", lambda prompt: str(math.gcd(*map(int, re.findall(r"[0-9]+", prompt))))),
    ],
)
def test_generated_problems_have_right_answers_and_come_once(generator: str, right: Callable[[str], str]) -> None:
    config = settings("reasoning", f"task.subset={generator}", **ALL)
    problems = SOURCES["reasoning"].read(config).train
    assert 5000 < len({problem.inputs["prompt"] for problem in problems}) == len(problems)
    assert all(problem.label == right(problem.inputs["prompt"]) for problem in problems)
    by_numbers = {problem.group: set() for problem in problems}
    for problem in problems:
        by_numbers[problem.group].add(problem.label)
    assert generator != "gcd" or (len(by_numbers) < len(problems) and all(len(s) == 1 for s in by_numbers.values()))


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        ("spell_backwards", "is no generator.*spell_backward"),
        ("graph_color", "problems without an answer"),
        ("composite", "fails in reasoning-gym"),
    ],
)
def test_a_generator_that_cannot_be_learned_from_is_named(generator: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"task\.subset={generator} .*{message}"):
        SOURCES["reasoning"].read(settings("reasoning", f"task.subset={generator}", **ALL))


def test_problems_that_follow_the_hash_seed_are_the_same_in_every_process(monkeypatch, tmp_path) -> None:
    config = settings("reasoning", "task.subset=isomorphic_strings", **ALL)
    hashes = set()
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        monkeypatch.setenv("LORAX_LAB_CACHE", str(tmp_path / seed))
        built_in.generated.cache_clear()
        hashes.add(data_sha256(config))
    assert len(hashes) == 1


def test_the_hash_of_what_is_pinned_needs_no_file(cache):
    assert [data_sha256(settings(name)) for name in PINNED] == [ASSETS[name].pinned[1] for name in PINNED]
    assert not cache.exists()


def read_real(name: str) -> str:
    return fetch(name.removesuffix("_lm")).read_bytes().decode("utf-8")


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "clear", "dropped", "groups", "largest"),
    [
        ("movie_reviews", 10_072, 2, 10_070, 0.504), ("product_reviews", 2_985, 8, 285, 0.586),
        ("editorials", 2_970, 39, 497, 0.599), ("tweets", 3_432, 60, 3_274, 0.687),
        ("sarcasm", 28_614, 116, 28_496, 0.525), ("boolq", 12_697, 0, 8_204, 0.623),
    ],
)  # fmt: skip
def test_as_published(name, clear, dropped, groups, largest):
    task = load_task(settings(name, **ALL))
    labels = Counter(e.label for e in everything(task))
    assert task.dropped == {"unlabeled": 0, "blank": 0, "duplicate": dropped, "conflicting": 0, "overlap": 0}
    assert labels.total() == clear - dropped
    assert max(labels.values()) / labels.total() == pytest.approx(largest, abs=6e-4)
    named = {e.group for e in everything(task)} - {None}
    assert len(named) + sum(e.group is None for e in everything(task)) == groups


@pytest.mark.network
@pytest.mark.parametrize("name", [*PINNED, "boolq_lm"])
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
