"""Laws of every kind of task, on a tiny base that the kind's classes read and examples of the forms that it reads."""

import dataclasses
import random
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bases import save_base, tone
from conftest import BAD, GOOD, PLAIN

from lorax_lab.data import SOURCES, Example, Source
from lorax_lab.models import Base, adaptable, head_modules, is_head, load_base
from lorax_lab.streams import generator
from lorax_lab.tasks import KINDS, Task
from lorax_lab.tasks.split import Split
from lorax_lab.train import Batch

COUNT = 12
WORDS = [*GOOD, *BAD, *PLAIN]
INPUTS: dict[str, Callable[[random.Random], Any]] = {
    "text": lambda draw: " ".join(draw.choices(WORDS, k=draw.randint(1, 12))),
    "image": lambda draw: np.array([draw.randrange(256) for _ in range(64 * 3)], np.uint8).reshape(8, 8, 3),
    "audio": lambda draw: tone(draw.uniform(200, 4000), draw.uniform(0.1, 0.9)),
}
"""An input drawn at random, by its form."""
LABELS: dict[str, tuple[tuple[str, ...], Callable[[int], Any]]] = {
    "classes": (("bad", "fair", "good"), lambda i: i % 3),
    "numbers": ((), lambda i: i % 5 / 2 - 1),
    "texts": ((), lambda i: " ".join(WORDS[i % 4 : i % 4 + 1 + i % 3])),
}
"""The classes and the i-th label, by the labels' form."""


@pytest.fixture(scope="module", params=KINDS)
def kind_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(kind_name: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(kind_name, model_folder, tmp_path_factory.mktemp(kind_name))


@pytest.fixture(scope="module")
def task(kind_name: str) -> Task:
    kind, draw = KINDS[kind_name], random.Random(0)
    classes, label = LABELS[kind.config.labels]
    given = {field.name: None for field in dataclasses.fields(kind.config) if field.default is dataclasses.MISSING}
    config = kind.config(**given | {"kind": kind_name, "name": kind_name, "source": "local", "split_seed": 0})
    inputs = [{name: INPUTS[form](draw) for name, form in config.inputs.items()} for _ in range(COUNT)]
    examples = [Example(row, label(i)) for i, row in enumerate(inputs)]
    return Task(config, kind, classes, next(iter(kind.metrics)), examples, examples[:4], examples[4:], "")


def base_of(task: Task, folder: Path, seed: int = 0) -> Base:
    return load_base(str(folder), task.head, seed, task.kind.model_class, task.kind.processor_class)


@pytest.fixture(scope="module")
def split(task: Task, folder: Path) -> Split:
    return Split.encoded(task, task.train, base_of(task, folder).processor)


def cut(split: Split, sizes: list[int]) -> list[Batch]:
    starts = np.cumsum([0, *sizes[:-1]])
    return [split.batch(list(range(start, start + size))) for start, size in zip(starts, sizes, strict=True)]


def test_weights_examples_and_tokens_add_up_and_so_does_the_loss(task: Task, folder: Path, split: Split) -> None:
    """The mean of the batches' losses by their weights is the loss of all examples in one batch."""
    model = base_of(task, folder).model.eval()
    (whole,), epoch = cut(split, [COUNT]), split.batches(5, generator(0, "data"), 50)
    assert sorted(batch.examples for batch in epoch) == [2, 5, 5]
    for parts in (cut(split, [1, 4, 5, 2]), epoch):
        assert sum(part.weight for part in parts) == whole.weight > 0
        assert sum(part.tokens for part in parts) == whole.tokens > 0
        losses = [task.kind.loss(model, part.inputs).item() * part.weight / whole.weight for part in parts]
        assert sum(losses) == pytest.approx(task.kind.loss(model, whole.inputs).item(), rel=1e-5)
    assert split.largest_batch(3).tokens >= max(batch.tokens for batch in cut(split, [3, 3, 3, 3]))


def test_the_gradient_reaches_the_head_and_every_matrix_that_can_be_adapted(
    task: Task, folder: Path, split: Split
) -> None:
    model = base_of(task, folder).model.train()
    task.kind.loss(model, cut(split, [COUNT])[0].inputs).backward()
    heads = head_modules(model)
    names = [name for name, _ in model.named_parameters() if is_head(name, heads)]
    names += [f"{name}.weight" for name in adaptable(model)]
    assert len(adaptable(model)) >= 8
    assert not [name for name in names if not model.get_parameter(name).grad.abs().sum() > 0]


def test_the_head_is_what_is_drawn_anew_and_a_pooler(task: Task, folder: Path) -> None:
    first, second = (base_of(task, folder, seed).model for seed in (0, 1))
    drawn = {name for name, p in first.named_parameters() if not torch.equal(p, second.get_parameter(name))}
    heads = head_modules(first)
    head = {name for name, _ in first.named_parameters() if is_head(name, heads)}
    assert {name for name in drawn if not is_head(name, heads)} == set()
    matrices = {name for name in head if first.get_parameter(name).ndim >= 2}
    assert not [name for name in matrices - drawn if ".pooler." not in name]


def test_the_outputs_are_in_the_order_of_the_examples(task: Task, folder: Path, split: Split) -> None:
    model = base_of(task, folder).model.train()
    outputs = split.outputs(model)
    assert model.training
    alone = [Split.encoded(task, [example], split.processor).outputs(model)[0] for example in task.train]
    torch.testing.assert_close(outputs, torch.stack(alone), rtol=1e-4, atol=1e-5)
    assert len(outputs.unique(dim=0)) == COUNT


def test_examples_are_scored_without_padding_and_alike_with_it(task: Task, folder: Path, split: Split) -> None:
    """On a processor; elsewhere those of like length are padded together, and any where answers are written."""
    model, sizes = base_of(task, folder).model.eval(), split.sizes
    writes = task.kind.writes(split.rows[0])
    together, elsewhere = split.scored_together("cpu"), split.scored_together("cuda")
    for batches in (together, elsewhere):
        assert sorted(chain(*batches)) == list(range(COUNT))
    by_size = sorted(range(COUNT), key=sizes.__getitem__)
    assert [list(chain(*batches)) for batches in (together, elsewhere)] == [by_size, by_size]
    for batches, most in ((together, 1.0), (elsewhere, 1.25)):
        assert (len(batches) == 1) == (writes or max(sizes) <= most * min(sizes))
        assert writes or all(sizes[indices[-1]] <= most * sizes[indices[0]] for indices in batches)
    with torch.inference_mode():
        padded = task.kind.outputs(model, split.batch(list(range(COUNT))).inputs, split.processor)
    torch.testing.assert_close(split.outputs(model), padded, rtol=1e-5, atol=1e-5)


def test_batches_that_are_scored_have_room_for_so_many(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = max(split.sizes)
    monkeypatch.setattr("lorax_lab.tasks.split.SIZE_TOGETHER", {"cpu": 2 * largest, "cuda": 2 * largest})
    monkeypatch.setattr("lorax_lab.tasks.split.SCORED_TOGETHER", {"cuda": 3})
    for device, most in (("cpu", COUNT), ("cuda", 3)):
        batches = split.scored_together(device)
        assert sorted(chain(*batches)) == list(range(COUNT))
        for indices in batches:
            assert len(indices) <= most
            assert len(indices) * max(split.sizes[i] for i in indices) <= 2 * largest


def test_outputs_that_are_not_finite_are_no_score(task: Task, folder: Path, split: Split) -> None:
    from lorax_lab.errors import Diverged

    model = base_of(task, folder).model
    outputs = split.outputs(model).numpy()
    with torch.no_grad():
        next(iter(model.parameters())).fill_(float("nan"))
    with pytest.raises(Diverged, match="outputs that are not finite"):
        split.outputs(model)
    outputs[0, 0] = np.nan
    assert all(np.isnan(value) for value in task.score(outputs, split.labels).values())


def test_a_model_that_knows_the_examples_by_heart_has_the_best_score(task: Task, folder: Path, split: Split) -> None:
    model = base_of(task, folder).model.eval()  # without dropout
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    (whole,), loss = cut(split, [COUNT]), 1.0
    for _ in range(400):
        if loss < 0.02:
            break
        optimizer.zero_grad()
        value = task.kind.loss(model, whole.inputs)
        value.backward()
        optimizer.step()
        loss = value.item()
    assert loss < 0.02
    for name, metric in task.kind.metrics.items():
        chosen = dataclasses.replace(task, metric=name, config=dataclasses.replace(task.config, metric=name))
        scores = Split.encoded(chosen, task.train, split.processor).score(model)
        assert next(iter(scores)) == name
        assert set(task.kind.always) <= set(scores)
        assert scores[name] == pytest.approx(float(metric.higher_is_better), abs=0.05), name
    answered = split.answered(split.outputs(model).numpy())
    assert all(len(rows) == COUNT for rows in answered.values())
    assert task.kind.correct is None or answered["correct"].all()


@pytest.mark.parametrize("name", list(SOURCES))
def test_some_kind_reads_every_source_in_every_form_of_its_labels(name: str) -> None:
    source: Source = SOURCES[name]
    forms = {kind.config.labels for kind in KINDS.values() if source.fits(kind.config)}
    assert forms == set(source.labels)
