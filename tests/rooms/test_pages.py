"""Pages of made studies are the golden ones in `tests/golden` (`golden_page.py`), and the numbers behind them."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from golden_page import check
from synthetic import PROTOCOL, changed, in_nats, lost, present, shared, study, with_head, with_losses

from analysis.study import comparison, page, update
from analysis.study.records import Records
from analysis.study.share import SURE, Enough
from lorax_lab.record.statistics import holm
from lorax_lab.study.answers import CUT_ANSWERS, LOSSES
from lorax_lab.study.protocol import Arm

TASK = "reviews"


def grown() -> Records:
    history = (
        {"date": "2026-11-26", "added": {"final_seeds": [5]}},
        {"date": "2026-11-27", "changed": {"cost": {"was": None, "is": "A minute."}, "figures": ["answer", "cost"]}},
        {"date": "2026-11-28", "changed": {"the lowest rate": {"was": 0.1, "is": 0.01}}},
    )
    made = study()
    return replace(made, declared=replace(made.declared, history=history), shared=shared(("reviews", "tweets")))


def without_answer(*against: str) -> Records:
    made = study()
    return replace(made, declared=replace(made.declared, figures=("arms",), against=against))


def unlike_tasks() -> Records:
    """Four tasks, of which one keeps no answers, and one is a second sample."""
    tasks = ("reviews", "tweets", "scores", "reviews (sample 2)")
    return changed(
        study(tasks=tasks),
        lambda line: {k: v for k, v in line.items() if k != "correct" or line["config"]["task"]["name"] != "scores"},
    )


def control(records: Records, chosen_by_loss: str | None = None) -> Records:
    protocol = replace(records.declared.protocol, chosen_by_loss=chosen_by_loss)
    return replace(records, declared=replace(records.declared, control_of="general", protocol=protocol))


STUDIES: dict[str, Callable[[], Records]] = {
    "grown": grown, "unlike_tasks": unlike_tasks, "nats": lambda: in_nats(study()),
    "lost": lambda: lost(with_losses(study(), 0.01, 0.02)), "present": lambda: present(study()),
    "head_alone": lambda: with_head(0.7), "without_answer": without_answer,
    "control_of_arms": lambda: control(with_head(0.7)), "against": lambda: without_answer("LoRA r=8"),
}  # fmt: skip


def test_low_rank_holds_or_is_refuted_by_the_share_that_the_third_edition_declared() -> None:
    columns = ["task", "side", "size", "share_high", "surely_90"]
    rows = [("holds", "rank", 24, 1.1, True), ("open", "rank", 24, 0.95, True), ("short", "rank", 24, 0.89, False)]
    rows += [("open", "rank", 64, 0.8, False), ("open", "k", 24, 0.8, False)]
    smallest = {"holds": Enough(1, 8, 24), "open": Enough(1, 8, None), "short": Enough(64, 64, 64)}
    of_tasks = [{"task": task, "r90": r90} for task, r90 in smallest.items()]
    made = page._of_low_rank(pd.DataFrame(rows, columns=columns), of_tasks, 24)
    assert made == {"holds": ["holds"], "refuted": ["short"], "kept": ["holds", "open"]}


def test_where_the_answers_directions_are_not_enough_is_found_in_other_studies() -> None:
    columns = ["task", "side", "size", "share", "share_low", "share_high", "seeds"]
    rows = [("short", "k", 24, 0.5, 0.4, 0.79, 5), ("open", "k", 24, 0.7, 0.6, 0.81, 5)]
    rows += [("short", "k", 16, 0.2, 0.1, 0.3, 5), ("short", "rank", 8, 0.9, 0.7, 1.1, 5)]
    other = {"name": "other", "tasks": ["short", "open"], "shares": pd.DataFrame(rows, columns=columns)}
    enough = [{"k": {SURE: Enough(4, 4, size)}} for size in (8, 24)]
    (end,) = page._ends([other, {"tasks": []}], [*enough, {"k": None}])
    assert (end["study"], end["task"], end["k"]) == ("other", "short", 24)
    assert (end["share"].high, end["of_lora"].mean) == (0.79, 0.9)
    assert page._ends([other], [*enough, {"k": {SURE: Enough(4, 4, None)}}]) == []


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_of_a_made_study_is_the_golden_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "breaches", lambda records: [])  # scores are made up, not followed from answers
    check(name, page.write(STUDIES[name]()))


def test_the_page_over_all_is_the_golden_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study with figures of its own does not lead, though it began later; a control follows its study."""
    special = replace(without_answer(), name="special")
    special = changed(special, lambda line: line | {"written": line["written"].replace("2026", "2027")})
    control_of_labels = replace(control(study(tasks=("labels",))), name="control")
    unfair = replace(study(), name="unfair")
    monkeypatch.setattr(page, "breaches", lambda records: ["a run is missing"] * (records.name == "unfair"))
    assert page.began(special) > page.began(study())
    studies = [special, control_of_labels, unfair, replace(present(study()), name="general")]
    links = {records.name: f"{records.name}.md" for records in studies}
    check("overview", page.write_all(studies, links))


def test_each_arm_tells_what_a_control_asks_where_sizes_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "breaches", lambda records: [])
    head = {"metric": "accuracy", "metrics": {"test/accuracy": 0.6}}
    subspace = Arm("d=100", ("method=subspace", "method.dimension=100"), 1e-2)
    made = study(lambda cell: 0.8, replace(PROTOCOL, arms=(*PROTOCOL.arms, subspace)))
    made = replace(with_losses(present(made), 0.05, 0.02), heads={TASK: head})
    assert page.numbers(control(made))["arms"] == []
    by_loss = control(made, "log_loss")
    gains = {arm["arm"]: arm["gains"][TASK] for arm in page.numbers(by_loss)["arms"]}
    assert gains == comparison.gains(by_loss, TASK, by_loss=True)
    assert gains["LoRA r=8"].high < 0  # its score is that of full fine-tuning


@pytest.mark.parametrize("metric", ["nats", "accuracy"])
def test_the_form_may_be_most_of_what_is_brought_in_nats_alone(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An arm that surely beats full fine-tuning is named in either."""
    monkeypatch.setattr(page, "breaches", lambda records: [])
    made = study(lambda cell: 0.9 if cell.arm == "LoRA r=8" else 0.8)
    made, before = (in_nats(made), 1.9) if metric == "nats" else (made, 0.1)
    made = changed(made, lambda line: line | {"baselines": {f"untrained/{metric}": before}})
    (condition,) = page.numbers(made)["tasks"]
    assert condition["zero_is"] == "before training"
    text = " ".join(page.write(made).split())
    assert ("the form of the answers alone may be most" in text) == (metric == "nats")
    assert f"On {TASK} an arm surely scores above full fine-tuning" in text


def test_a_page_without_a_verdict_says_why() -> None:
    check("unfair", page.write(replace(study(), lines=study().lines[:-1])))


def test_k_star_is_decided_on_validation_where_a_seed_lacks_the_answers() -> None:
    lacking = changed(present(study()), lambda x: {k: v for k, v in x.items() if (k, x["seed"]) != (CUT_ANSWERS, 3)})
    assert not update.is_on_test(lacking, TASK)


def test_an_arm_that_trains_the_head_alone_is_found_by_what_it_trains() -> None:
    assert comparison.head_arm(with_head(0.7), TASK) == "head"
    assert comparison.head_arm(with_head(0.7, trained=150_000), TASK) is None


def test_the_log_loss_is_a_second_endpoint_with_a_margin_of_its_own() -> None:
    assert str(comparison.enough_by_loss(with_losses(study(), 0.05, 0.02), TASK)) == "above the largest tried"
    assert comparison.enough_by_loss(with_losses(study(), 0.01, None), TASK) is None
    inside = with_losses(study(), 0.01, 0.02)
    some = changed(inside, lambda x: {k: v for k, v in x.items() if (k, x["rank"], x["seed"]) != (LOSSES, 8, 2)})
    assert comparison.compared(some, TASK, by_loss=True) == {}


def test_a_lost_arm_has_no_number_and_counts_in_the_correction() -> None:
    scores = {"full": 0.8, "LoRA r=1": 0.78, "LoRA r=8": 0.79}
    records = study(lambda cell: scores[cell.arm] + 0.001 * (cell.seed % 3) * (cell.arm == "LoRA r=8"))
    table = comparison.table(lost(records), TASK).set_index("arm")
    row = table.loc["LoRA r=1"]
    assert row[["test", "test_low", "difference", "difference_low", "p_holm"]].isna().all()
    assert not row["matches"]
    assert (row["seeds"], row["diverged"]) == (4, 1)
    p = comparison.compared(records, TASK)["LoRA r=8"].p()
    assert table.loc["LoRA r=8", "p_holm"] == holm({"LoRA r=1": 1.0, "LoRA r=8": p})["LoRA r=8"] == min(1.0, 2 * p)
    assert set(comparison.powers(lost(records), TASK)) == {"LoRA r=8"}
    assert comparison.gains(lost(records), TASK)["LoRA r=1"] is comparison.LOST
