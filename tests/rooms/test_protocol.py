"""The fair comparison: the choice of rates, what a study needs, and every breach of it refused by name."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from synthetic import PROTOCOL, line, lost, mirrored, mirrored_line, peaked, study

from analysis.study import comparison
from analysis.study.records import Records
from analysis.study.update import ALL
from analysis.study.validator import breaches, marked, selection_of
from analysis.study.verdict import NOT_SUPPORTED, rulings
from lorax_lab.errors import ConfigError
from lorax_lab.study.protocol import Arm, Cell, Protocol, finals, select


def scores_of(best: dict[str, int], steps: range = range(-3, 8)) -> dict[tuple[str, int, int], float]:
    """Scores that fall with the distance from each arm's best step."""
    return {
        (arm.name, step, seed): 0.9 - 0.01 * abs(step - best[arm.name])
        for arm in PROTOCOL.arms
        for step in steps
        for seed in PROTOCOL.selection_seeds
    }


ABOVE = 2.0
"""What a score and its twin, of which lower is better, make together."""
UNDEFINED = math.nan


@pytest.fixture
def made(higher: bool) -> Callable[..., Records]:
    """Studies, of which higher or lower scores are better."""
    return lambda *given: study(*given) if higher else mirrored(study(*given), "error", ABOVE)


def lines_of(scores: dict[tuple[str, int, int], float], higher: bool = True) -> Callable[[Cell], dict[str, Any] | None]:
    """The trials' lines of these scores; one of minus infinity diverged, and `UNDEFINED` has no value."""

    def line_of(cell: Cell) -> dict[str, Any] | None:
        score = scores.get((cell.arm, PROTOCOL.step(cell.arm, cell.rate), cell.seed))
        if score is None:
            return None
        made = line(cell, score if math.isfinite(score) else 0.5)
        made = made if higher else mirrored_line(made, "error", ABOVE)
        if math.isnan(score):
            return made | {"metrics": dict.fromkeys(made["metrics"])}
        if score == -math.inf:  # such a line has no scores
            return {key: made[key] for key in ("run_id", "config", "seed")} | {"status": "diverged"}
        return made

    return line_of


def test_the_highest_mean_over_the_seeds_is_chosen(higher: bool) -> None:
    scores = scores_of({"full": 1, "LoRA r=1": 1, "LoRA r=8": 1})
    scores["full", 0, 100] = 0.95  # one lucky seed
    scores["full", 0, 101] = 0.80
    chosen = select(PROTOCOL, "t", lines_of(scores, higher))
    assert {arm: c.step for arm, c in chosen.choices.items()} == {"full": 1, "LoRA r=1": 1, "LoRA r=8": 1}
    assert not any(c.edge for c in chosen.choices.values())
    assert chosen.missing == ()
    assert chosen.choices["full"].score == pytest.approx(0.9 if higher else ABOVE - 0.9)


@pytest.mark.parametrize("score", [-math.inf, UNDEFINED])
@pytest.mark.parametrize("seeds", [(100,), (100, 101)])
def test_a_rate_of_which_a_trial_diverged_or_has_no_score_is_never_chosen(
    seeds: tuple[int, ...], score: float, higher: bool
) -> None:
    scores = scores_of({"full": 1, "LoRA r=1": 1, "LoRA r=8": 1})
    scores |= {("full", step, seed): score for step in (0, 1) for seed in seeds}
    chosen = select(PROTOCOL, "t", lines_of(scores, higher)).choices["full"]
    assert (chosen.step, chosen.score) == (2, pytest.approx(0.89 if higher else ABOVE - 0.89))


def test_where_every_trial_diverged_the_score_is_the_worst_there_is(higher: bool) -> None:
    scores = scores_of({"full": 1, "LoRA r=1": 1, "LoRA r=8": 1})
    for trial in scores:
        scores[trial] = -math.inf if trial[0] == "full" else scores[trial]
    chosen = select(PROTOCOL, "t", lines_of(scores, higher)).choices["full"]
    assert chosen.score == (-math.inf if higher else math.inf)
    assert (chosen.low, chosen.high, chosen.edge) == (True, False, True)


def test_the_chosen_rates_are_run_with_fresh_seeds() -> None:
    lines = lines_of(scores_of({"full": 1, "LoRA r=1": 0, "LoRA r=8": 1}))
    rates = {"full": 2e-4, "LoRA r=1": 1e-3, "LoRA r=8": 2e-3}
    expected = [Cell("final", "t", arm, rate, seed) for arm, rate in rates.items() for seed in range(5)]
    assert finals(PROTOCOL, "t", select(PROTOCOL, "t", lines)) == expected


@pytest.mark.parametrize("key", ["rank", "method.dimension"])
@pytest.mark.parametrize(
    ("sized", "ranked"),
    [
        ("", ""), ("lora:1", "lora:1"), ("lora:1 lora:8", "lora:1 lora:8"), ("lora:1 lora:8 dora:4", "lora:1 lora:8"),
        ("lora:1 dora:4", ""), ("lora:1 lora:8 dora:1 dora:8", ""),
    ],
)  # fmt: skip
def test_arms_are_ranked_where_they_differ_in_their_size_alone(sized: str, ranked: str, key: str) -> None:
    pairs = {name: name.split(":") for name in sized.split()}
    arms = [Arm(name, (f"{key}={size}", f"method={method}"), 1e-3) for name, (method, size) in pairs.items()]
    protocol = Protocol((Arm("full", ("method=full",), 1e-4), *arms))
    assert " ".join(arm.name for arm in protocol.ranked(key)) == ranked


@pytest.mark.parametrize(("best", "steps"), [(2, range(4)), (0, range(-1, 3))])
def test_a_best_rate_at_the_edge_extends_every_arms_grid_by_one(best: int, steps: range, higher: bool) -> None:
    scores = scores_of({"full": best, "LoRA r=1": 1, "LoRA r=8": 1}, range(3))
    waiting = select(PROTOCOL, "t", lines_of(scores, higher))
    assert (waiting.steps, waiting.choices) == (steps, {})
    assert {cell.arm for cell in waiting.missing} == {arm.name for arm in PROTOCOL.arms}
    assert len(waiting.missing) == 3 * 2


def test_both_sides_are_extended_and_an_edge_that_stays_is_marked(higher: bool) -> None:
    chosen = select(PROTOCOL, "t", lines_of(scores_of({"full": 5, "LoRA r=1": -1, "LoRA r=8": 1}), higher))
    assert chosen.steps == range(-1, 4)
    assert {arm: c.edge for arm, c in chosen.choices.items()} == {"full": True, "LoRA r=1": True, "LoRA r=8": False}


def test_a_rate_that_ties_with_the_edge_extends_the_grid_where_it_is_declared(higher: bool) -> None:
    scores = scores_of({"full": 1, "LoRA r=1": 1, "LoRA r=8": 1}, range(3))
    scores |= {("full", 2, seed): scores["full", 1, seed] for seed in PROTOCOL.selection_seeds}
    assert not any(c.edge for c in select(PROTOCOL, "t", lines_of(scores, higher)).choices.values())
    assert select(replace(PROTOCOL, ties_are_edges=True), "t", lines_of(scores, higher)).steps == range(4)
    one, other = PROTOCOL.selection_seeds
    scores |= {("full", 1, one): 0.0, ("full", 1, other): 0.8}  # of one sum, but not in floats
    scores |= {("full", 2, one): 0.072, ("full", 2, other): 0.728, ("full", 0, one): 0.0, ("full", 0, other): 0.0}
    assert select(replace(PROTOCOL, ties_are_edges=True), "t", lines_of(scores, higher)).steps.stop == 4


def test_rates_are_chosen_by_a_loss_where_it_is_declared(higher: bool) -> None:
    scores = scores_of({"full": 1, "LoRA r=1": 1, "LoRA r=8": 1}, range(3))

    def line_of(cell: Cell) -> dict[str, Any] | None:
        made, step = lines_of(scores, higher)(cell), PROTOCOL.step(cell.arm, cell.rate)
        return made and made | {"metrics": made["metrics"] | {"validation/log_loss": 1.0 + (step != 0)}}

    by_loss = replace(PROTOCOL, chosen_by_loss="log_loss", extensions=0)
    chosen = select(by_loss, "t", line_of).choices["full"]
    assert (chosen.step, chosen.score, chosen.low, chosen.high) == (0, 1.0, True, False)
    there = f"validation/{'accuracy' if higher else 'error'}, validation/log_loss"
    with pytest.raises(
        ConfigError, match=rf"^chosen_by_loss=nats: m-t-s100-\w+ has no validation/nats; it has {there}$"
    ):
        select(replace(by_loss, chosen_by_loss="nats"), "t", line_of)


def test_an_edge_is_said(made: Callable[..., Records]) -> None:
    def rising(cell: Cell) -> float:
        return 0.5 + 0.02 * PROTOCOL.step(cell.arm, cell.rate)

    records = made(rising)
    assert len(selection_of(records, "reviews").steps) == 4
    assert len(marked(records)) == 3
    (breach,) = breaches(records)
    assert "the best learning rate of full, 0.0008, is at the edge of what was tried" in breach


def trials(lines: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [x for x in lines if x["config"]["measure"] == "trial" and all(x[k] == v for k, v in wanted.items())]


def final(lines: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    found = [x for x in lines if x["config"]["measure"] != "trial" and all(x[k] == v for k, v in wanted.items())]
    return found[0]


BREACHES: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "LoRA r=8 8": lambda lines: lines.extend(
        line(Cell("trial", "reviews", "LoRA r=8", 1.5e-3, seed), 0.7) for seed in (100, 101)
    ),
    "trials are missing: 1 of LoRA r=8": lambda lines: lines.remove(trials(lines, rank=8)[0]),
    "LoRA r=8: final runs are missing: seeds 3": lambda lines: lines.remove(final(lines, rank=8, seed=3)),
    "read the test split": lambda lines: trials(lines)[4]["metrics"].update({"test/accuracy": 0.8}),
    "another learning rate": lambda lines: final(lines, rank=8)["config"]["train"].update(learning_rate=5e-3),
    "not declared: 7": lambda lines: final(lines, rank=8, seed=3).update(seed=7),
    "more than once": lambda lines: lines.append(copy.deepcopy(final(lines, rank=8)) | {"run_id": "again"}),
    "data or splits": lambda lines: final(lines, rank=8)["inputs"].update(data_sha256="e"),
    "splits differ": lambda lines: final(lines, rank=8)["inputs"].update(examples={"train": 1}),
    "model differ": lambda lines: final(lines, rank=8)["inputs"].update(model_sha256="n"),
    "training budget": lambda lines: trials(lines, rank=8)[0]["time"].update(steps=38),
    "training budget differ": lambda lines: [
        x["time"].update(tokens=1) for x in lines if x["seed"] == 0 and x["config"]["measure"] != "trial"
    ],
    "numeric settings": lambda lines: final(lines, rank=8)["hardware"].update(threads=8),
    "seed 0": lambda lines: final(lines, rank=8)["inputs"].update(head_sha256="another"),
    "task.split_seed": lambda lines: final(lines, rank=8)["config"]["task"].update(split_seed=1),
    "rank is 3": lambda lines: final(lines, rank=8)["config"].update(rank=3),
}
"""What the breach names, and how a study comes to it."""


@pytest.mark.parametrize("named", BREACHES)
def test_every_breach_is_refused_by_name(named: str, made: Callable[..., Records]) -> None:
    records = made()
    lines = copy.deepcopy(records.lines)
    BREACHES[named](lines)
    found = breaches(replace(records, lines=lines))
    assert any(named in breach for breach in found), found


def test_trials_may_be_of_another_machine_than_final_runs(made: Callable[..., Records]) -> None:
    records = made()
    lines = copy.deepcopy(records.lines)
    for trial in trials(lines):
        trial["hardware"].update(processor="another")
    assert breaches(replace(records, lines=lines)) == []
    for trial in trials(lines, rank=8):
        trial["hardware"].update(processor="a third")
    assert breaches(replace(records, lines=lines)) == []
    trials(lines)[0]["hardware"].update(processor="a fourth")
    (breach,) = breaches(replace(records, lines=lines))
    assert "numeric settings" in breach


def test_seeds_may_read_other_tokens_where_training_stops_within_a_pass(made: Callable[..., Records]) -> None:
    records = made()
    lines = copy.deepcopy(records.lines)
    for of_seed in lines:
        of_seed["config"]["train"]["max_steps"] = of_seed["time"]["steps"]
        for key in ("examples", "tokens"):
            of_seed["time"][key] += of_seed["seed"]
    settings = {
        pair: of_pair | {"train.max_steps": lines[0]["time"]["steps"]}
        for pair, of_pair in records.declared.settings.items()
    }
    stopped = replace(records, lines=lines, declared=replace(records.declared, settings=settings))
    assert breaches(stopped) == []
    final(lines, rank=8)["time"]["tokens"] += 1
    (breach,) = breaches(replace(stopped, lines=lines))
    assert "training budget of a seed" in breach


def test_a_library_is_compared_among_the_runs_that_used_it(made: Callable[..., Records]) -> None:
    records = made()
    lines = copy.deepcopy(records.lines)
    first, second = (final(lines, rank=8, seed=seed) for seed in (0, 1))
    for used in (first, second):
        used["versions"]["peft"] = "0.21.2"
    assert breaches(replace(records, lines=lines)) == []
    second["versions"]["peft"] = "0.20.0"
    third = final(lines, rank=8, seed=2)
    third["versions"]["peft"] = "0.21.2"
    (breach,) = breaches(replace(records, lines=lines))
    assert "numeric settings" in breach
    assert breach.endswith(second["run_id"])  # the odd one
    second["versions"] |= {"peft": "0.21.2"}
    assert second["versions"].pop("torch")
    (breach,) = breaches(replace(records, lines=lines))
    assert breach.endswith(second["run_id"])


def test_a_reference_and_an_arm_that_the_page_compares_with_may_not_diverge(made: Callable[..., Records]) -> None:
    records = lost(made(), rank=8)
    assert breaches(records) == []
    against = replace(records, declared=replace(records.declared, against=("LoRA r=8",)))
    for of, arm in ((against, "LoRA r=8"), (lost(made(), method="full"), "full")):
        (breach,) = breaches(of)
        assert f"{arm}: final runs diverged, seeds 2" in breach


def test_what_was_declared_can_break_the_protocol_too(made: Callable[..., Records]) -> None:
    def declared(**changes: Any) -> list[str]:
        return breaches(made(peaked, replace(PROTOCOL, **changes)))

    assert any("3 final seeds" in breach for breach in declared(final_seeds=(0, 1, 2)))
    assert any("final seeds must be fresh" in breach for breach in declared(final_seeds=(100, 1, 2, 3, 4)))
    assert any(
        "no extension is declared" in breach
        for breach in breaches(made(lambda cell: cell.rate, replace(PROTOCOL, extensions=0)))
    )


@pytest.mark.parametrize("seeds", [(2,), (1, 3)])
def test_an_arm_of_which_a_run_diverged_matches_nothing(seeds: tuple[int, ...], made: Callable[..., Records]) -> None:
    complete, records = made(), lost(made(), seeds, method="lora")
    assert breaches(records) == []
    assert comparison.table(complete, "reviews")["matches"].tolist()[1:] == [False, True]
    assert comparison.table(records, "reviews")["matches"].tolist()[1:] == [False, False]
    enough = comparison.enough(records, "reviews")
    assert enough.size is None
    assert {ruling.verdict for ruling in rulings(records) if ruling.module == ALL} == {NOT_SUPPORTED}
