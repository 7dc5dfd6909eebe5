"""A score of which lower is better: the same runs, mirrored, give the same choices, ranks, verdicts and figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded import run_record
from synthetic import PROTOCOL, changed, mirrored, peaked, study

from analysis.figures import accuracy_vs_rank
from analysis.groups import load
from analysis.study import comparison, update
from analysis.study.records import Records
from analysis.study.validator import breaches, marked, selection_of
from analysis.study.verdict import rulings
from lorax_lab.launch.table import score_name
from lorax_lab.record.direction import labelled, of_line
from lorax_lab.record.record import read_record, write_record
from lorax_lab.study.protocol import Cell
from lorax_lab.study.published import line_of

TASK = "reviews"


def uneven(cell: Cell) -> float:
    """Best at the last rate of LoRA of rank 8's grid; a seed of rank 1 does well."""
    best = 2 if cell.arm == "LoRA r=8" else 1
    step = PROTOCOL.step(cell.arm, cell.rate)
    worse = 0.03 * (cell.arm == "LoRA r=1" and cell.seed != 3)
    return 0.8 - 0.02 * abs(step - best) - worse + 0.001 * (cell.seed % 3)


def scored_alone(records: Records) -> Records:
    """The study without its single answers, so that differences are those of the scores."""
    return changed(records, lambda line: {key: value for key, value in line.items() if key != "correct"})


@pytest.fixture(params=[peaked, uneven], ids=["in the middle", "at an edge"])
def both(request: pytest.FixtureRequest) -> tuple[Records, Records]:
    higher = scored_alone(study(request.param))
    return higher, mirrored(higher, "nats_per_token", 0.0)


def test_mirrored_scores_choose_the_same_rates(both: tuple[Records, Records]) -> None:
    higher, lower = (selection_of(records, TASK) for records in both)
    assert higher.choices
    assert higher.steps == lower.steps
    for arm, choice in higher.choices.items():
        other = lower.choices[arm]
        assert (other.step, other.edge, other.score) == (choice.step, choice.edge, -choice.score)
    assert marked(both[0]) == marked(both[1])


def test_mirrored_scores_give_the_same_ranks_and_verdicts(both: tuple[Records, Records]) -> None:
    higher, lower = both
    assert breaches(higher) == breaches(lower)
    assert breaches(lower) == []
    assert str(comparison.enough(lower, TASK)) == str(comparison.enough(higher, TASK))
    assert comparison.enough(higher, TASK).size is not None  # type: ignore[union-attr]
    for module in (update.ALL, *update.modules(update.functional(higher, TASK))):
        for allowed in (None, 0.001, 0.3):
            stars = [str(update.functional_rank(records, TASK, module, margin=allowed)) for records in both]
            assert stars[0] == stars[1]
    assert [r.verdict for r in rulings(lower)] == [r.verdict for r in rulings(higher)]
    tables = [comparison.table(records, TASK) for records in both]
    assert tables[0]["matches"].tolist() == tables[1]["matches"].tolist()
    assert tables[0]["difference"].dropna().tolist() == (-tables[1]["difference"].dropna()).tolist()
    assert tables[0]["p_holm"].dropna().tolist() == pytest.approx(tables[1]["p_holm"].dropna().tolist())


@pytest.mark.parametrize("higher", [True, False])
def test_a_record_and_its_published_line_carry_the_direction(higher: bool, tmp_path: Path) -> None:
    config = {"model": "tiny", "task": {"name": "local"}, "train": {}, "measure": "trial"}
    record = run_record(higher_is_better=higher, config=config)
    write_record(tmp_path, record)
    assert read_record(tmp_path).completed.higher_is_better is higher
    line = line_of(tmp_path)
    assert line.get("higher_is_better") is (None if higher else False)  # an older line stays as it is
    assert of_line(line) is higher


@pytest.mark.parametrize("higher", [True, False])
def test_the_best_variant_of_a_rank_and_the_closing_table_know_the_direction(higher: bool, tmp_path: Path) -> None:
    for alpha, score in ((8.0, 0.4), (16.0, 0.6)):
        run = f"run-{alpha:g}"
        method = {"name": "lora", "alpha": alpha}
        scores = {"validation/nats": score, "test/nats": score}
        config = run_record().config | {"method": method}
        write_record(
            tmp_path / run, run_record(run, config=config, metric="nats", metrics=scores, higher_is_better=higher)
        )
    (group,) = load(tmp_path).groups
    assert group.best["run_id"].tolist() == ["run-16" if higher else "run-8"]
    table = accuracy_vs_rank.table(group)
    assert ("direction" in table) is not higher
    assert score_name(read_record(tmp_path / "run-8")) == labelled("test nats", higher)
