"""The search of problems that teach a language model: what a generator's own answers tell beyond their form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments import language_search
from lorax_lab.data import Example

PROBLEMS = tuple(Example({"prompt": f"Spell {i}"}, f"{i} spelt", f"text {i}") for i in range(50))


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, pd.DataFrame]]:
    """The tables of the runs that are asked for, by the name of their task. A run gets .8 of its answers right where
    they are the problems' own, else .1."""
    tables: list[Any] = []

    def line(overrides: list[str]) -> dict[str, Any]:
        fixed = dict(override.split("=", 1) for override in overrides)
        table = pd.read_csv(fixed["task.path"])
        tables.append({fixed["task.name"]: table})
        own = (table["answer"] == table["prompt"].str.removeprefix("Spell ") + " spelt").all()
        metrics = {"test/nats": 1.0 if own else 3.0, "test/exact_match": 0.8 if own else 0.1}
        return {"baselines": {"untrained/nats": 9.0}, "metrics": metrics, "time": {"total_seconds": 1800}}

    monkeypatch.setattr(language_search, "generated", lambda name: PROBLEMS)
    monkeypatch.setattr(language_search, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(language_search, "KINDS", {"rule": ("spell",), "facts": ("kin",)})
    monkeypatch.setattr(language_search, "_trained", lambda overrides, runs: line(overrides))
    return tables


def test_the_form_has_the_same_answers_of_other_problems(trained: list[Any], tmp_path: Path) -> None:
    assert language_search.main(["--records", str(tmp_path)]) == 0
    assert [list(tables) for tables in trained] == [["spell"], ["spell-form"], ["kin"], ["kin-form"]]
    own, form = trained[0]["spell"], trained[1]["spell-form"]
    assert own[["prompt", "group"]].equals(form[["prompt", "group"]])
    assert sorted(own["answer"]) == sorted(form["answer"])
    assert (own["answer"] != form["answer"]).mean() > 0.8
    rows = pd.read_csv(tmp_path / language_search.FILE).set_index("name")
    assert rows.loc["spell", ["kind", "untrained", "form", "trained"]].tolist() == ["rule", 9, 3, 1]
    assert rows.loc["kin", ["kind", "exact_form", "exact", "hours"]].tolist() == ["facts", 0.1, 0.8, 1]


def test_a_generator_that_is_in_the_table_is_not_trained_on_again(trained: list[Any], tmp_path: Path) -> None:
    pd.DataFrame([{"kind": "rule", "name": "spell", "trained": 0.5}]).to_csv(tmp_path / language_search.FILE)
    assert language_search.main(["--records", str(tmp_path)]) == 0
    assert [list(tables) for tables in trained] == [["kin"], ["kin-form"]]
    assert pd.read_csv(tmp_path / language_search.FILE)["trained"].tolist() == [0.5, 1]
