"""The search of problems that teach a language model: what a generator's own answers tell beyond their form."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from experiments import language_search
from lorax_lab.data import Example

PROBLEMS = tuple(Example({"prompt": f"Spell {i}"}, f"{i} spelt", f"text {i}") for i in range(50))


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, pd.DataFrame]:
    """The tables that are trained on, by their files' names. A run gets .8 of its answers right where they are the
    problems' own, else .1."""
    tables: dict[str, pd.DataFrame] = {}

    def line(path: Path) -> dict[str, Any]:
        table = tables[path.stem] = pd.read_csv(path)
        own = (table["answer"] == table["prompt"].str.removeprefix("Spell ") + " spelt").all()
        metrics = {"test/nats": 1.0 if own else 3.0, "test/exact_match": 0.8 if own else 0.1}
        baselines = {"untrained/nats": 9.0, "few_shot_4/nats": 5.0, "few_shot_4/exact_match": 0.3}
        return {"baselines": baselines, "metrics": metrics, "time": {"total_seconds": 1800}}

    def lines(sweep: list[str], folders: list[Path], launch: list[str], study: str) -> list[dict[str, Any]]:
        assert len({folder.name for folder in folders}) == 2
        assert ("task.chat=true" in sweep) == ("task.name=kin" in sweep)
        return [line(Path(path)) for path in sweep[-1].removeprefix("task.path=").split(",")]

    monkeypatch.setattr(language_search.built_in, "generated", lambda name: PROBLEMS)
    monkeypatch.setattr(language_search, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(language_search, "KINDS", {"spell": "rule", "kin": "facts"})
    monkeypatch.setattr(language_search, "IN_CHAT", {"kin": ("task.chat=true",)})
    monkeypatch.setattr(language_search, "trained_lines", lines)
    monkeypatch.setattr(language_search, "composed", lambda overrides: overrides)
    monkeypatch.setattr(language_search, "run_of", lambda overrides: SimpleNamespace(run_id=Path(overrides[-1]).stem))
    return tables


def test_the_form_has_the_same_answers_of_other_problems(trained: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    assert language_search.main(["--records", str(tmp_path)]) == 0
    assert list(trained) == ["spell", "spell-form", "kin", "kin-form"]
    own, form = trained["spell"], trained["spell-form"]
    assert own.drop(columns="answer").equals(form.drop(columns="answer"))
    assert sorted(own["answer"]) == sorted(form["answer"])
    assert (own["answer"] != form["answer"]).mean() > 0.8
    spell, kin = pd.read_csv(tmp_path / language_search.FILE).to_dict("records")
    keys = ("name", "kind", "untrained", "few_shot", "form", "trained")
    assert [spell[key] for key in keys] == ["spell", "rule", 9, 5, 3, 1]
    assert [kin[key] for key in ("name", "exact_few_shot", "exact_form", "exact", "hours")] == ["kin", 0.3, 0.1, 0.8, 1]


def test_a_generator_that_is_in_the_table_is_not_trained_on_again(
    trained: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    pd.DataFrame([{"kind": "rule", "name": "spell", "trained": 0.5}]).to_csv(tmp_path / language_search.FILE)
    assert language_search.main(["--records", str(tmp_path)]) == 0
    assert list(trained) == ["kin", "kin-form"]
    assert pd.read_csv(tmp_path / language_search.FILE)["trained"].tolist() == [0.5, 1]


def test_instructions_keep_the_form_of_their_own_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": f"{kind} {i}", "answer": f"{kind} answer {i}", "kind": kind} for kind in "ab" for i in range(20)]
    monkeypatch.setattr(language_search, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(language_search, "TABLES", {"instructions": lambda: rows})
    table = pd.read_csv(language_search._table("instructions", True))
    assert (table["answer"].str[0] == table["kind"]).all()
    assert sorted(table["answer"]) == sorted(row["answer"] for row in rows)
    assert (table["answer"] != [row["answer"] for row in rows]).mean() > 0.8
