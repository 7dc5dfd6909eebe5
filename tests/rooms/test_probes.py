"""Leak probes: a shortcut in the data is found, shown beside the scores, and warned of where it explains them."""

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
from published import settings
from recorded import run_record

from lorax_lab import execute
from lorax_lab.launch.compose import compose
from lorax_lab.launch.plan import run_of
from lorax_lab.record.probes import explaining, probe_lines
from lorax_lab.record.result import Probe, Result
from lorax_lab.tasks import load_task
from lorax_lab.tasks.probes import probes_of

WORDS = ["a", "film", "about", "the", "long", "road", "to", "an", "old", "house", "by", "sea"]
PROBES = [Probe("majority class", 0.5, 0.45), Probe("token", 0.93, 0.9, "zq")]
FALLING = [Probe("majority class", 0.7, 0.75), Probe("token", 0.2, 0.25, "zq")]


def rows(leak: str) -> list[dict[str, object]]:
    """400 texts without a meaning, whose label is told by a token, by their length, or by nothing."""
    draw, listed = random.Random(0), []
    for i in range(400):
        label = i % 2
        text = " ".join(draw.choices(WORDS, k=8 + (6 * label if leak == "length" else draw.randint(0, 6))))
        text += f" {draw.randint(0, 10**9)}" + (" zq" if leak == "token" and label else "")
        listed.append({"text": text, "label": ["no", "yes"][label], "number": 2.0 * label + draw.random()})
    return listed


def scores(path: Path, leak: str, *words: str) -> dict[str, Probe]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(leak)))
    columns = () if any(word.startswith("task.label") for word in words) else ("task.text=text", "task.label=label")
    task = load_task(settings("local", f"task.path={path}", *words, *columns))
    return {probe.name: probe for probe in probes_of(task)}


def test_the_probe_that_a_leak_is_made_for_finds_it_in_unseen_examples(tmp_path: Path) -> None:
    token, length, nothing = (scores(tmp_path / "t.jsonl", leak) for leak in ("token", "length", ""))
    assert token["token"].token == "zq"
    assert token["token"].score == 1.0
    assert length["length"].score > 0.9 > length["token"].score
    assert all(probe.score < 0.75 and probe.sure < probe.score for probe in nothing.values())
    assert token["majority class"].score == pytest.approx(0.5, abs=0.1)


def test_numbers_and_completions_have_the_probes_that_apply(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    numbers = scores(path, "token", "task.kind=regression", "task.text=text", "task.label=number")
    assert numbers["mean"].score == 0
    assert numbers["token"].token == "zq"
    assert numbers["token"].score > 0.9
    words = ("task.kind=language_modeling", "task.prompt=text", "task.label=label")
    assert scores(path, "token", *words, "task.metric=exact_match")["token"].score == 1.0
    assert scores(path, "token", *words) == {}


def test_examples_of_one_group_are_drawn_together(tmp_path: Path) -> None:
    """Groups of ten examples have one label each: of other groups the majority class may score much less."""
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows("")))
    words = ("task.text=text", "task.label=label", "task.test_examples=200", "task.validation_examples=20")
    task = load_task(settings("local", f"task.path={tmp_path / 't.jsonl'}", *words))
    ordered = sorted(task.test, key=lambda example: example.label)
    grouped = [dataclasses.replace(example, group=str(i // 10)) for i, example in enumerate(ordered)]
    alone, together = (probes_of(dataclasses.replace(task, test=test))[0] for test in (ordered, grouped))
    assert (alone.name, alone.score) == (together.name, together.score) == ("majority class", 0.5)
    assert together.sure < alone.sure - 0.05


def test_images_are_told_by_their_size(tmp_path: Path) -> None:
    from lorax_lab.data import Example
    from lorax_lab.tasks import KINDS
    from lorax_lab.tasks.kind import Task

    config = settings("image_folder", f"task.path={tmp_path}")
    made = [Example({"image": np.full((8 + i % 2, 8, 3), i, np.uint8)}, i % 2) for i in range(80)]
    task = Task(config, KINDS[config.kind], ("a", "b"), "accuracy", made[:40], [], made[40:], "d")
    assert {probe.name: probe.score for probe in probes_of(task)} == {"majority class": 0.5, "length": 1.0}


@pytest.mark.parametrize(
    ("probes", "score", "explains"),
    [(PROBES, 0.94, True), (PROBES, 0.96, False), (PROBES, 0.5, False), (FALLING, 0.21, True), (FALLING, 0.19, False)],
)
def test_a_probe_explains_a_score_where_it_surely_brings_nine_tenths_of_it(
    probes: list[Probe], score: float, explains: bool
) -> None:
    """.9 − .5 is 90 % of .944 − .5, and .7 − .25 is 90 % of .7 − .2."""
    record = run_record(metrics={"test/accuracy": score}, probes=probes, higher_is_better=probes is PROBES)
    assert bool(explaining(record.completed)) == explains
    lines = probe_lines([record, record])
    assert "token 'zq'" in lines[0]
    assert [("warning" in line, "2 of 2 runs" in line) for line in lines[1:]] == [(True, True)] * explains


def test_a_run_has_the_probes_of_its_data_and_a_trial_has_none(small_run: list[str]) -> None:
    execute._last_probes.clear()

    def result(*words: str) -> Result:
        run = run_of(compose([*small_run, "train.max_steps=1", *words]))
        return execute.execute(run.config, run.run_id, run.folder, None).completed

    first, other_seed, lora = result("method=full"), result("method=full", "seed=1"), result("rank=1")
    assert first.probes[0].name == "majority class"
    assert first.probes == other_seed.probes == lora.probes
    assert first.baselines == other_seed.baselines
    assert result("measure=trial").probes == []
