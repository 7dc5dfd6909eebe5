"""What the study of a language model scores before and after, and on which tasks."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from experiments import language, language_answers
from experiments.language_texts import CITIES, INSTRUCTIONS, PEOPLE, WORDINGS, chosen, facts, prepare
from experiments.study import UNGROUPED, composed
from lorax_lab.record.files import write_csv
from lorax_lab.tasks import load_task


@pytest.mark.parametrize(("name", "count"), [(language.TURKISH, 1), (language.SPELLING, 1), ("sorting", 0)])
def test_what_is_forgotten_is_scored_where_it_learned_turkish_or_spelling(
    name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language, "forgetting", lambda *arguments: [{}])
    monkeypatch.setattr(language, "scored", dict)
    run: Any = SimpleNamespace(config=SimpleNamespace(task=SimpleNamespace(name=name)))
    assert len([*language.forgotten({("full", 0): run})]) == count


@pytest.mark.network
@pytest.mark.slow
def test_no_run_trains_on_a_scored_piece_of_turkish() -> None:
    """Whole groups fill a split, so that a smaller test split may hold one that the larger one left."""
    prepare()
    of_runs = load_task(composed((*language.COMMON, *language.tasks()[language.TURKISH])).task)
    scored = load_task(language.scored()[language.TURKISH])
    assert len(scored.test) == language.SCORED_EXAMPLES
    assert not {example.label for example in scored.test} & {example.label for example in of_runs.train}


def test_each_person_lives_in_one_city_and_is_asked_for_in_each_wording() -> None:
    rows = facts()
    assert len({row["prompt"] for row in rows}) == len(rows) == PEOPLE * len(WORDINGS)
    of_city = [sum(row["answer"] == city for row in rows) for city in CITIES]
    assert sum(of_city) == len(rows)
    assert all(count % len(WORDINGS) == 0 for count in of_city)
    for start in range(0, len(rows), len(WORDINGS)):
        assert len({row["answer"] for row in rows[start : start + len(WORDINGS)]}) == 1


def test_every_person_of_a_test_fact_stands_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "facts.csv", pd.DataFrame(facts()))
    monkeypatch.setattr(language_answers, "path_of", lambda name: tmp_path / f"{name}.csv")
    task = load_task(composed((UNGROUPED, *language.COMMON, *language_answers.tasks()["facts"])).task)
    people = {row["prompt"]: number // len(WORDINGS) for number, row in enumerate(facts())}
    of_test, of_train = ({people[e.inputs["prompt"]] for e in part} for part in (task.test, task.train))
    assert len(task.test) == 500
    assert of_test <= of_train


@pytest.mark.parametrize("sign", ["\0", "\x1b", "é"])
def test_an_instruction_of_other_signs_than_printable_ascii_is_left_out(sign: str) -> None:
    samples = [{"input": [{"content": f"Say{end}"}, {"content": "no"}], "ideal": "No."} for end in (".", sign)]
    lines = "\n".join(map(json.dumps, samples))
    assert [row["prompt"] for row in chosen({f"{INSTRUCTIONS}say/one.jsonl": lines})] == ["Say.\nno"]
