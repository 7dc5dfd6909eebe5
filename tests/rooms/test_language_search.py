"""The search of problems that teach a language model: what a generator's own answers tell beyond their form."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments import language_search
from lorax_lab.data import Example

PROBLEMS = tuple(Example({"prompt": f"Spell {i}"}, f"{i} spelt", f"text {i}") for i in range(50))


def test_the_form_has_the_same_answers_of_other_problems(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_search, "generated", lambda name: PROBLEMS)
    own, form = (pd.read_csv(language_search._table("spell", permuted)) for permuted in (False, True))
    assert (own["answer"] == own["prompt"].str.removeprefix("Spell ") + " spelt").all()
    assert own.drop(columns="answer").equals(form.drop(columns="answer"))
    assert sorted(own["answer"]) == sorted(form["answer"])
    assert (own["answer"] != form["answer"]).mean() > 0.8


def test_a_row_has_the_scores_of_the_form_beside_those_of_the_problems() -> None:
    def line(nats: float, exact: float) -> dict[str, Any]:
        metrics = {"test/nats": nats, "test/exact_match": exact}
        return {"baselines": {"untrained/nats": 9.0}, "metrics": metrics, "time": {"total_seconds": 1800}}

    expected = {"untrained": 9, "form": 3, "trained": 1, "exact_form": 0.1, "exact": 0.8, "hours": 1}
    assert language_search.row(line(1.0, 0.8), line(3.0, 0.1)) == expected
