"""Record sets that somebody tampered with, resealed by the lab's own functions: each is refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis.study.agreement import _adapter_follows, may_be_short
from analysis.study.copies import reason_alike
from analysis.study.origin import notes
from lorax_lab.study.continuity import KEY
from synthetic import HEAD, PROTOCOL, parameters, renamed
from tampered import TASKS, Lines, of, whole, with_declared, with_lines, with_protocol, without

from analysis.study import spectra
from analysis.study.records import RECORDS, Records, load
from analysis.study.validator import breaches
from experiments import random_labels
from experiments.declare import declaration_of
from lorax_lab.study.answers import correct_answers
from lorax_lab.study.declaration import own_content, write_declaration
from lorax_lab.study.protocol import Arm, Choice
from lorax_lab.study.published import write_lines

Change = Callable[[Lines], Any]
LATER = "f13851d7114ebbae2ab9d72e664e637506307e4c"
"""A commit of the repository that was made after the study's runs."""


def resealed(records: Records, folder: Path) -> Records:
    """As a tamperer leaves it, with whole checksums, and read again."""
    write_lines(folder / "made.jsonl", records.lines)
    write_declaration(folder / "made.json", records.declared)
    return load(folder / "made.jsonl")


def rerun(line: dict[str, Any], **method: Any) -> None:
    """Give a line other settings of its method, and the run id that these have."""
    line["config"]["method"] |= method
    line |= renamed(line)


def another_scaling(lines: Lines) -> None:
    for line in of(lines, "final", method="lora"):
        rerun(line, alpha=512.0, dropout=0.3, rslora=True)


def queries_alone(lines: Lines) -> None:
    for line in of(lines, "final", rank=1):
        line["matrices"] = {name: row for name, row in line["matrices"].items() if name.endswith("query")}
        line["parameters"] = line["parameters"] | {"adapter": 256, "trainable": 256 + HEAD, "total": 100_256}
        rerun(line, target_modules=["query"])


def trains_all(lines: Lines) -> None:
    for line in lines:
        line["parameters"] = parameters(None) if line["rank"] == 8 else line["parameters"]


def a_large_head(lines: Lines) -> None:
    for line in lines:
        own = line["parameters"]
        line["parameters"] = own | {"head": 99_000_000, "trainable": own["adapter"] + 99_000_000}


def another_head(lines: Lines) -> None:
    for line in of(lines, "final", rank=8) + of(lines, "trial", rank=8):
        own = line["parameters"]
        more = {key: own[key] + 900 for key in ("head", "trainable", "total")}
        line["parameters"] = own | more


def diverged_gone(seeds: tuple[int, ...]) -> Change:
    def change(lines: Lines) -> None:
        lines[:] = [x for x in lines if x["method"] != "lora" or x["seed"] not in seeds]

    return change


def answers_copied(lines: Lines) -> None:
    first, *others = of(lines, "final", rank=8, seed=0)[:1] + of(lines, "final", rank=8)[1:4]
    for line in others:
        line["correct"], line["metrics"] = first["correct"], dict(first["metrics"])


def score_edited(lines: Lines) -> None:
    of(lines, "final", rank=8)[0]["metrics"]["test/accuracy"] = 0.9


def ids_swapped(lines: Lines) -> None:
    one, other = of(lines, "final", rank=8)[:2]
    one["run_id"], other["run_id"] = other["run_id"], one["run_id"]


def another_seed(lines: Lines) -> None:
    line = of(lines, "final", rank=8)[0]
    line["config"]["seed"] = 7
    line |= renamed(line)


def another_metric(lines: Lines) -> None:
    for line in lines:
        if line["rank"] == 8:
            line["metric"] = "macro_f1"
            line["metrics"] = {key.replace("accuracy", "macro_f1"): value for key, value in line["metrics"].items()}


def finals_older(lines: Lines) -> None:
    for line in of(lines, "final", rank=8):
        line["written"] = "2026-11-24T12:00:00Z"


def older_than_declared(lines: Lines) -> None:
    for line in lines:
        line["written"] = "2026-11-23T00:00:00Z"


def unknown_commit(lines: Lines) -> None:
    for line in lines:
        line["git"] = {"commit": "b" * 40, "dirty": False}


def made_old(lines: Lines) -> None:
    for line in of(lines, "final", rank=8):
        del line[KEY]


def other_trials(lines: Lines) -> None:
    of(lines, "trial", rank=8)[0]["metrics"]["validation/accuracy"] = 0.123


def cuts_gone(lines: Lines) -> None:
    for line in lines:
        line.pop("functional", None)


LINES: list[tuple[Change, str]] = [
    (another_scaling, "method.alpha is 512.0, declared 16.0"),
    (queries_alone, "method.target_modules is ['query'], declared ['all-linear']"),
    (trains_all, "the adapter's parameters are not those of its rank and matrices"),
    (a_large_head, "the numbers of parameters do not add up"),
    (another_head, "another head is trained"),
    (diverged_gone((2,)), "LoRA r=8: final runs are missing: seeds 2"),
    (diverged_gone((1, 3)), "LoRA r=1: final runs are missing: seeds 1, 3"),
    (answers_copied, "runs with identical answers"),
    (score_edited, "the test accuracy is not that of its answers"),
    (ids_swapped, "the run id does not follow from the configuration"),
    (another_seed, "seed, rank or method are not those of the configuration"),
    (another_metric, "the metric is not the declared one"),
    (finals_older, "final runs that are older than the trials that chose their rates"),
    (older_than_declared, "runs that are older than the declaration that they followed"),
    (lambda lines: lines[0]["git"].update(commit=LATER), "runs that are older than their commit"),
    (unknown_commit, "runs of a commit that is not in the repository's history"),
    (made_old, "lines without the hash of a declaration, which are none of those that were published before"),
    (other_trials, "final runs whose rates were chosen from other trials than those recorded"),
    (cuts_gone, "the full update's cuts are gone"),
]


@pytest.mark.parametrize(("change", "said"), LINES, ids=[getattr(c, "__name__", "change") for c, _ in LINES])
def test_tampered_lines_are_refused_by_name(change: Change, said: str, tmp_path: Path) -> None:
    found = breaches(resealed(with_lines(change), tmp_path))
    assert any(said in breach for breach in found), found


def test_the_study_itself_is_fair(tmp_path: Path) -> None:
    records = resealed(whole(), tmp_path)
    assert breaches(records) == []
    assert notes(records) == []
    assert any("not looked up" in note for note in notes(replace(records, commits=None)))


@pytest.mark.parametrize(
    ("wrong", "examples", "losses", "reason"),
    [
        (0, 1000, "ab", "all are right"),
        (1000, 1000, "ab", "all are wrong"),
        (2, 1000, "ab", "all but 2 are right, and their losses differ"),
        (998, 1000, "ab", "all but 2 are wrong, and their losses differ"),
        (2, 1000, "aa", ""),
        (2, 1000, "a", ""),
        (3, 1000, "ab", ""),
        (2, 100, "ab", ""),
        (500, 1000, "ab", ""),
    ],
)
def test_runs_may_have_the_same_answers_where_chance_gives_them(
    wrong: int, examples: int, losses: str, reason: str
) -> None:
    """A run without losses of its own, or with another's, is taken for a copy."""
    correct = np.packbits(np.arange(examples) >= wrong).tobytes().hex()
    lines: list[Any] = [{"correct": correct, "inputs": {"examples": {"test": examples}}} for _ in range(2)]
    for line, own in zip(lines, losses, strict=False):
        line["log_losses"] = own
    assert reason_alike(lines, lines) == reason


@pytest.mark.parametrize(
    ("edge", "score", "metric", "short"),
    [
        (True, 0.9, "accuracy", True),
        (False, 0.9, "accuracy", False),
        (True, 1.0, "accuracy", False),
        (True, 1.0, "pearson", False),
        (True, 1.2, "log_loss", True),
    ],
)
def test_a_best_score_at_the_edge_may_be_short_but_for_a_perfect_one(
    edge: bool, score: float, metric: str, short: bool
) -> None:
    assert may_be_short([{"metric": metric}], Choice(3, score, edge)) == short


def rank_dropped() -> Records:
    records = replace(whole(), declared=without(whole().declared, "LoRA r=1"))
    return replace(records, lines=[line for line in records.lines if line["rank"] != 1])


def task_dropped() -> Records:
    records = whole(TASKS)
    cells = {pair: own for pair, own in records.declared.settings.items() if pair[0] == "reviews"}
    declared = replace(records.declared, factors={"task": {"reviews": ("task=reviews",)}}, settings=cells)
    lines = [line for line in records.lines if line["config"]["task"]["name"] == "reviews"]
    return replace(records, declared=declared, lines=lines)


def cuts_dropped() -> Records:
    def change(lines: Lines) -> None:
        for line in of(lines, "final", method="full"):
            line["config"]["measure"] = "standard"
            line["functional"] = [x for x in line["functional"] if x[0] in ("cut", "remainder") and x[2] is None]
            line |= renamed(line)

    return replace(with_lines(change), declared=replace(whole().declared, final={}))


def seed_dropped() -> Records:
    records = with_protocol(final_seeds=(0, 1, 3, 4))
    return replace(records, lines=[line for line in records.lines if line["seed"] != 2])


def overrides_edited() -> Records:
    arms = [replace(a, overrides=(*a.overrides, "method.alpha=512")) if a.rank else a for a in PROTOCOL.arms]
    return with_protocol(arms=tuple(arms))


ANOTHER = "runs that followed another declaration than the one that is here"
DECLARATIONS: list[tuple[Callable[[], Records], str]] = [
    (lambda: with_protocol(margin=0.05), ANOTHER),
    (lambda: with_declared(low_share=0.25), ANOTHER),
    (lambda: with_declared(texts=whole().declared.texts | {"prediction": "It is low."}), ANOTHER),
    (lambda: with_declared(common=("train.epochs=3",)), ANOTHER),
    (overrides_edited, "its declared overrides are not its declared settings: method.alpha"),
    (rank_dropped, ANOTHER),
    (task_dropped, ANOTHER),
    (cuts_dropped, ANOTHER),
    (seed_dropped, ANOTHER),
]
NAMES = ["margin", "low", "prediction", "common", "overrides", "a rank", "a task", "cuts", "a seed"]


@pytest.mark.parametrize(("made", "said"), DECLARATIONS, ids=NAMES)
def test_a_declaration_that_was_edited_is_refused_by_name(
    made: Callable[[], Records], said: str, tmp_path: Path
) -> None:
    found = breaches(resealed(made(), tmp_path))
    assert any(said in breach for breach in found), found


def grown(**changes: Any) -> Records:
    """The study with an arm more, as its command declares it, and a change of what it declared first."""
    first = whole().declared
    protocol = replace(first.protocol, arms=(*first.protocol.arms, Arm("LoRA r=2", ("method=lora", "rank=2"), 1e-3)))
    before = replace(first, **changes)
    declared = replace(first, protocol=protocol, earlier=(own_content(before),), written="2026-11-26T00:00:00Z")
    return replace(whole(), declared=declared)


def test_a_study_that_grew_keeps_what_it_declared() -> None:
    kept = breaches(grown())
    assert len(kept) == 2
    assert all("learning-rate trials: full 6" in b or "trials are missing: 6 of LoRA r=2" in b for b in kept), kept
    assert any(ANOTHER in breach for breach in breaches(grown(low_share=0.5)))
    margin = replace(whole().protocol, margin=0.5)
    assert any(
        "breaks an earlier one: margin was 0.5 and is 0.02" in breach for breach in breaches(grown(protocol=margin))
    )


def test_a_run_after_the_study_grew_has_the_later_hash() -> None:
    records = grown()
    lines = [line | {"written": "2026-11-27T00:00:00Z"} for line in records.lines]
    said = "runs with the hash of an earlier declaration than the one of their time"
    assert any(said in breach for breach in breaches(replace(records, lines=lines)))


@cache
def published() -> Records:
    return load(RECORDS / "rank_sweep.jsonl")


def alpha_of_the_first_edition(lines: Lines) -> None:
    for line in of(lines, "final", method="lora"):
        line["config"]["method"]["alpha"] = 512.0


def copied_in_the_first_edition(lines: Lines) -> None:
    first, *others = of(lines, "final", rank=8)[:4]
    for line in others:
        line["correct"] = first["correct"]
        line["metrics"] = line["metrics"] | {"test/accuracy": float(correct_answers(first).mean())}


FIRST: list[tuple[Change, str]] = [
    (alpha_of_the_first_edition, "its runs differ in method.alpha (16.0 and 512.0)"),
    (copied_in_the_first_edition, "runs with identical answers"),
    (lambda lines: lines[0].update(written="2026-11-25T00:00:00Z"), "none of those that were published before"),
]


@pytest.mark.parametrize(("change", "said"), FIRST, ids=["alpha", "answers", "time"])
def test_the_first_edition_is_refused_once_it_is_tampered_with(change: Change, said: str) -> None:
    lines = copy.deepcopy(published().lines)
    change(lines)
    found = breaches(replace(published(), lines=lines))
    assert any(said in breach for breach in found), found


@pytest.mark.parametrize("edited", ["margin", "arms"])
def test_the_first_editions_declaration_is_refused_once_it_is_edited(edited: str, tmp_path: Path) -> None:
    declared = published().declared
    margin = replace(declared, protocol=replace(declared.protocol, margin=0.05))
    write_declaration(tmp_path / "made.json", margin if edited == "margin" else without(declared, "LoRA r=1"))
    write_lines(tmp_path / "made.jsonl", published().lines[:3])
    found = breaches(load(tmp_path / "made.jsonl"))
    assert any("none of those that were published before" in breach for breach in found), found


def test_the_first_edition_can_grow_and_its_lines_stay(tmp_path: Path) -> None:
    records, plan = load(RECORDS / "random_labels.jsonl"), random_labels.plan("full")
    more = replace(plan, factors={"task": plan.factors["task"] | {"tweets": ("task=tweets",)}})
    declared = declaration_of(more, records.declared.texts, records.declared)
    found = breaches(resealed(replace(records, declared=declared), tmp_path))
    assert found == ["tweets: trials are missing: 3 of full, 3 of LoRA r=8"]


@pytest.mark.parametrize(("adapter", "follows"), [(12 * 64 + 4 * 96 + 8 * 64, True), (8 * (64 + 96 + 64), False)])
def test_an_adapter_has_the_parameters_of_each_matrix_own_rank(adapter: int, follows: bool) -> None:
    shapes = {"layer.0.query": [32, 32], "layer.0.value": [32, 64], "layer.0.key": [32, 32]}
    line = {"rank": 8, "config": {"method": {"ranks": ["query:12", "value:4"]}}, "parameters": {"adapter": adapter}}
    line["matrices"] = {name: {"shape": shape} for name, shape in shapes.items()}
    assert _adapter_follows(line) == follows


def test_a_matrix_measures_are_held_to_its_own_rank() -> None:
    records = load(RECORDS / "paper_which_rank.jsonl")
    line = next(line for line in records.of("sarcasm", "final") if line["config"]["method"].get("ranks"))
    assert [*spectra.of_line(line)] == []
    method = line["config"]["method"] | {"ranks": ["value:4"]}
    faults = [*spectra.of_line(line | {"config": line["config"] | {"method": method}})]
    assert any(fault.startswith("the ranks of noise are not those of noise of this shape") for fault in faults)
