"""Words follow numbers: each sentence of a study's page, on records that make it true and on records that do not."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from synthetic import EXAMPLES, PROTOCOL, again, parameters, study

from analysis.study import comparison, findings, margin, overview, page, rules, update, verdict
from analysis.study.figures import FIGURES
from analysis.study.records import Records
from analysis.study.scale import Scale
from analysis.study.statistics import Interval, Smallest
from analysis.study.verdict import Ruling, counted_line, first_line, reading, rulings, spectrum_line
from lorax_lab.study.answers import CUT_ANSWERS, LOSSES
from lorax_lab.study.protocol import Arm, Cell

TASK = "reviews"
SURE_LOSS, NO_LOSS, SURE_GAIN = (
    Interval(-0.01, -0.015, -0.005, 5),
    Interval(-0.01, -0.021, 0.001, 5),
    Interval(0.05, 0.04, 0.06, 5),
)


def changed(records: Records, change: Any) -> Records:
    return replace(records, lines=[change(line) for line in records.lines])


def packed(right: np.ndarray) -> str:
    return np.packbits(right).tobytes().hex()


def with_cuts_on_test(records: Records, lost: dict[int, int]) -> Records:
    """The same, the full fine-tunes with answers of their cuts: at each k so many right answers fewer, of which each
    seed loses others."""

    def change(line: dict[str, Any]) -> dict[str, Any]:
        if "functional" not in line:
            return line
        whole = np.unpackbits(np.frombuffer(bytes.fromhex(line["correct"]), np.uint8), count=EXAMPLES["test"])
        answers = {}
        for k, count in lost.items():
            cut = whole.copy()
            cut[np.flatnonzero(whole)[7 * line["seed"] :][: count + line["seed"] % 2 * (count > 0)]] = 0
            answers |= {f"cut/{k}": packed(cut), f"remainder/{k}": packed(whole if k == 0 else 1 - whole)}
        return line | {CUT_ANSWERS: answers}

    return changed(records, change)


def with_losses(records: Records, worse: float, margin_in_nats: float | None) -> Records:
    """The same with log losses of every test example, those of LoRA so many nats worse."""
    base = np.random.default_rng(0).exponential(0.4, EXAMPLES["test"])

    def change(line: dict[str, Any]) -> dict[str, Any]:
        own = base + worse * (line["method"] == "lora") + 0.001 * line["seed"]
        losses = {LOSSES: base64.b64encode(own.astype("<f2").tobytes()).decode()}
        return line | (losses if line["config"]["measure"] != "trial" else {})

    declared = replace(records.declared, protocol=replace(records.protocol, loss_margin=margin_in_nats))
    return again(records, [change(line) for line in records.lines], declared)


# ---- the answer


def ruling(r_star: Smallest | None, k_star: Smallest, at_r: Interval | None, at_k: Interval | None) -> Ruling:
    effective = Interval(20, 19, 21, 5)
    return Ruling("reviews", update.ALL, verdict.SUPPORTED, r_star, k_star, at_r, at_k, effective, 50.0, effective)


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (SURE_LOSS, "loses 0.0100 [0.0050, 0.0150]"),
        (NO_LOSS, "keeps its score"),
        (Interval(-0.01, -0.02, 0.0, 5), "keeps its score"),
        (Interval(0.0, 0.0, 0.0, 5), "keeps its score"),
        (SURE_GAIN, "gains 0.0500 [0.0400, 0.0600]"),
    ],
)
def test_a_score_is_kept_only_where_no_loss_is_sure(gain: Interval, words: str) -> None:
    assert Scale().change(gain) == words


@pytest.mark.parametrize(
    ("star", "gain", "words"),
    [
        (Smallest(8, 1, 8), NO_LOSS, "LoRA matches full fine-tuning from rank 8 (95 % interval 1 to 8), and"),
        (
            Smallest(8, 8, 8),
            SURE_GAIN,
            "matches full fine-tuning from rank 8, where it gains 0.0500 [0.0400, 0.0600], and",
        ),
        (
            Smallest(8, 8, 8),
            SURE_LOSS,
            "LoRA is within the margin of full fine-tuning from rank 8, where it loses 0.0100 [0.0050, 0.0150], and",
        ),
        (Smallest(None, 2, None), None, "no rank is shown to be enough for LoRA, 2 is the lowest that may be, and"),
        (
            Smallest(None, None, None),
            None,
            "LoRA is surely short of full fine-tuning even at the highest rank tried, and",
        ),
        (None, None, "supported: the full update"),
    ],
)
def test_the_answer_says_of_lora_what_its_interval_allows(
    star: Smallest | None, gain: Interval | None, words: str
) -> None:
    text = first_line([ruling(star, Smallest(4, 4, 4), gain, NO_LOSS)])
    assert words in text
    assert ("matches" in text) == (gain is not None and gain.high >= 0)


def test_a_match_is_not_plain_where_a_higher_rank_is_surely_worse() -> None:
    matches = ruling(Smallest(4, 1, 4), Smallest(4, 4, 4), NO_LOSS, NO_LOSS)
    said = first_line([replace(matches, worse=(16, 32))])
    assert "LoRA is within the margin of full fine-tuning from rank 4 (95 % interval 1 to 4), and surely" in said
    assert "and surely worse than it at rank 16 and 32, and the full update" in said
    lowest = {1: -0.001, 8: -0.015}
    records = study(lambda cell: 0.8 + lowest.get(PROTOCOL.arm(cell.arm).rank or 0, 0.0))
    assert verdict.rulings(records)[0].worse == (8,)
    assert verdict.rulings(study())[0].worse == ()


@pytest.mark.parametrize(
    ("star", "gain", "words"),
    [
        (Smallest(4, 2, 4), NO_LOSS, "update keeps its score when cut to its top 4 (95 % interval 2 to 4) directions."),
        (Smallest(4, 4, 4), SURE_LOSS, "update loses 0.0100 [0.0050, 0.0150] when cut to its top 4 directions."),
        (Smallest(1, 1, 1), SURE_GAIN, "update gains 0.0500 [0.0400, 0.0600] when cut to its top 1 direction."),
        (Smallest(0, 0, 0), NO_LOSS, "the model keeps its score without any update of the matrices (k = 0)."),
        (Smallest(0, 0, 0), SURE_LOSS, "the model loses 0.0100 [0.0050, 0.0150] without any update"),
        (Smallest(None, 2, None), None, "no cut of the full update is shown to be enough, 2 directions are the fewest"),
        (Smallest(None, None, None), None, "the full update is surely short of itself at every cut"),
    ],
)  # fmt: skip
def test_the_answer_says_of_the_cuts_what_their_interval_allows(
    star: Smallest, gain: Interval | None, words: str
) -> None:
    assert words in first_line([ruling(Smallest(8, 8, 8), star, NO_LOSS, gain)])


def test_the_answer_over_many_tasks_counts_verdicts_and_names_the_ranks_by_their_unfavourable_ends() -> None:
    low = ruling(Smallest(4, 1, 4), Smallest(8, 4, 8), NO_LOSS, NO_LOSS)
    lower = replace(low, task="tweets", r_star=Smallest(1, 1, 2), k_star=Smallest(16, 2, 16))
    high = replace(low, task="cloze", verdict=verdict.NOT_SUPPORTED, r_star=Smallest(None, 4, None))
    unsure = replace(low, task="noise", verdict=verdict.UNDECIDED)
    assert counted_line([low, lower, high, unsure]) == (
        "Of 4 tasks the low-rank hypothesis is supported on 2 (reviews and tweets, with r* at most 4 and k* at most 16 "
        "by the upper ends of the 95 % intervals); not supported on 1 (cloze, with r* not found (at least 4) and k* 8 "
        "(95 % interval 4 to 8)); undecided on 1 (noise)."
    )
    again = replace(low, task="reviews (sample 2)")
    assert counted_line([low, lower, high, unsure], "condition").startswith(
        "Of 4 conditions the low-rank hypothesis is"
    )
    assert counted_line([low, lower, high, unsure, again]).startswith(
        "Of 4 tasks and 1 second training sample the low-rank hypothesis is supported on 3 (reviews, tweets and "
        "reviews (sample 2), with "
    )
    without_lora = [replace(one, r_star=None) for one in (low, lower)]
    assert "supported on 2 (reviews and tweets, with k* at most 16 by" in counted_line(without_lora)


def test_a_page_of_many_tasks_has_the_count_above_and_a_sentence_for_each() -> None:
    few, many = study(tasks=("a", "b", "c")), study(tasks=("a", "b", "c", "d"))
    assert verdict.sentences(few) == []
    written = page.write(many)
    assert "**Of 4 tasks the low-rank hypothesis is undecided on 4 (a, b, c and d).**" in written
    for task in "abcd":
        assert f"\n- On {task} the low-rank hypothesis is undecided: LoRA" in written
    assert "effective rank (20; noise 52)" in spectrum_line(many)


def test_a_ruling_has_the_gains_at_its_own_ranks() -> None:
    records = study()
    whole = verdict.rulings(records)[0]
    assert whole.at_r == comparison.gains(records, TASK)["LoRA r=8"]
    assert whole.at_k == update.gains(records, TASK)[4]
    lost = study(lambda cell: 0.8 - 0.4 * (cell.arm != "full"))
    assert (verdict.rulings(lost)[0].at_r, str(verdict.rulings(lost)[0].r_star)) == (None, "above the largest tried")


# ---- the spectrum


@pytest.mark.parametrize(
    ("low", "high", "says"), [(3, 24, "low"), (24.1, 30, "high"), (20, 25, "not sure"), (24, 24.5, "not sure")]
)
def test_a_spectral_rank_is_low_only_where_it_surely_is(low: float, high: float, says: str) -> None:
    assert reading(Interval((low + high) / 2, low, high, 5), 24) == says


def test_the_spectrum_alone_is_said_to_be_high_only_by_the_measures_that_are() -> None:
    """A rank is low up to 4 of 64. The stable rank is 3 everywhere, the others above 4. Noise of 64 x 64 has a stable
    rank of 64 / 4 in the limit, of 17 since its largest value lies below the edge, and an effective rank of 51.53."""
    text = spectrum_line(study())
    assert "By the same line, 4, the spectrum alone would have said high by effective rank (20; noise 52)" in text
    assert text.endswith("; low by stable rank (3; noise 17).")

    def loud(line: dict[str, Any]) -> dict[str, Any]:
        rows = {name: row | {"stable_rank": 30.0} for name, row in line.get("matrices", {}).items()}
        return line | ({"matrices": rows} if rows else {})

    assert "low" not in spectrum_line(changed(study(), loud))

    two = study(tasks=("reviews", "tweets"))
    mixed = changed(two, lambda line: loud(line) if line["config"]["task"]["name"] == "tweets" else line)
    assert "low on reviews and high on tweets by stable rank (3 and 30; noise 17)" in spectrum_line(mixed)


def test_the_table_of_measures_says_the_same() -> None:
    text = "\n".join(findings.cuts(study()))
    assert "| by the line of 4 |" in text
    assert "| stable rank | 3.0 [3.0, 3.0] | 17.2 | 0.17 | low |" in text  # 3 / 17.17
    assert "| 51.5 | 0.39 | high |" in text  # 20.2 / 51.53


# ---- what intervals cover, and where k* is decided


def test_a_score_without_answers_by_example_has_an_interval_over_the_seeds_alone_and_the_page_says_so() -> None:
    with_answers = study()
    text = rules.intervals_rule(with_answers)
    assert "The interval of a difference on test covers other seeds and other test examples" in text
    assert "seeds alone, since its score" not in text
    f1 = changed(
        with_answers,
        lambda line: (
            line | {"metric": "f1", "metrics": {f"{k.partition('/')[0]}/f1": v for k, v in line["metrics"].items()}}
        ),
    )
    assert comparison.gains(f1, TASK)["LoRA r=1"].examples == 0
    assert comparison.gains(with_answers, TASK)["LoRA r=1"].examples == EXAMPLES["test"]
    text = rules.intervals_rule(f1)
    assert "covers the seeds alone, since its score is no sum over examples" in text
    assert "other test examples (" not in text
    bare = changed(with_answers, lambda line: {k: v for k, v in line.items() if k != "correct"})
    assert "covers the seeds alone" in rules.intervals_rule(bare)


def test_the_page_names_the_tasks_whose_intervals_cover_less() -> None:
    two = study(tasks=("reviews", "tweets"))
    bare = changed(
        two, lambda x: {k: v for k, v in x.items() if k != "correct" or x["config"]["task"]["name"] == "reviews"}
    )
    text = rules.intervals_rule(bare)
    assert "on test on reviews covers other seeds" in text
    assert "on test on tweets covers the seeds alone" in text


def test_k_star_is_decided_on_test_where_the_answers_are_kept() -> None:
    first = study()
    records = with_cuts_on_test(first, {0: 300, 1: 200, 2: 20, 4: 5, 8: 0, 64: 0})  # at k = 2 the margin itself
    assert update.is_on_test(records, TASK)
    assert not update.is_on_test(first, TASK)
    gained = update.gains(records, TASK)
    assert list(gained) == [0, 1, 2, 4, 8, 64]
    assert {gain.examples for gain in gained.values()} == {EXAMPLES["test"]}
    assert gained[1].mean == pytest.approx(-(200 + 0.4) / EXAMPLES["test"])
    assert {gain.examples for gain in update.gains(first, TASK).values()} == {0}
    assert str(update.functional_rank(records, TASK)) == "4 (95 % interval 2 to 4)"
    text = rules.intervals_rule(records)
    assert (
        "k* has the same margin, split and interval as r*: it is decided on test examples that chose nothing." in text
    )
    assert "The k* of one type of matrix is decided on validation" in text
    older = rules.intervals_rule(first)
    assert "k* is decided on validation, which chose the learning rates too" in older
    assert "chose nothing" not in older
    assert not update.is_on_test(records, TASK, "random")
    assert not update.is_on_test(records, TASK, "cut", "intermediate.dense")
    assert update.gains(records, TASK, "remainder")[8].mean < -0.5


def test_one_seed_without_answers_of_its_cuts_leaves_k_star_on_validation() -> None:
    records = with_cuts_on_test(study(), {0: 60, 64: 0})
    some = changed(records, lambda x: {k: v for k, v in x.items() if (k, x["seed"]) != (CUT_ANSWERS, 3)})
    assert not update.is_on_test(some, TASK)
    assert list(update.gains(some, TASK)) == list(update.gains(study(), TASK))


def test_the_answers_figure_says_what_its_intervals_cover() -> None:
    def title(records: Records) -> str:
        return " ".join(FIGURES["answer"].draw(FIGURES["answer"].table(records)).get_suptitle().split())

    first = title(study())
    assert "fine-tuning (test, 95 % intervals over seeds and test examples)" in first
    assert "k directions (validation, 95 % intervals over seeds)" in first
    records = with_cuts_on_test(study(), {0: 60, 1: 40, 4: 1, 64: 0})
    assert "k directions (test, 95 % intervals over seeds and test examples)" in title(records)
    table = FIGURES["answer"].table(records)
    assert set(table[table["side"] == "k"]["size"]) == {0, 1, 4, 64}
    assert table[table["side"] == "k"].groupby("size")["difference"].mean()[1] == pytest.approx(
        -40.4 / EXAMPLES["test"]
    )


# ---- the margin


def test_without_a_head_trained_alone_the_margin_is_a_share_of_what_the_update_brings_and_is_marked() -> None:
    """At k = 0 the score falls by .2, so that a margin of .02 is a tenth of it."""
    text = rules.margin_rule(study())
    assert "On reviews the margin of 0.02 is 10 % of the 0.2000 [0.1980, 0.2020] that the update" in text
    assert "the update of the matrices brings over itself cut to k = 0, all else as trained with it, on val" in text
    assert rules.share_of(study(), TASK) == "10 % (k = 0)"
    on_test = rules.margin_rule(with_cuts_on_test(study(), {0: 60, 64: 0}))
    assert "as trained with it, on test" in on_test
    idle = changed(study(), lambda line: line | {"functional": [[*row[:3], 0.8] for row in line.get("functional", [])]})
    assert "is no share of what the update of the matrices brings over itself cut" in rules.margin_rule(idle)
    assert "is not surely above 0" in rules.margin_rule(idle)
    assert rules.share_of(idle, TASK) == "—"


def test_a_cut_of_some_matrices_does_not_stand_for_the_head_alone() -> None:
    def one_matrix(line: dict[str, Any]) -> dict[str, Any]:
        method = line["config"]["method"] | {"target_modules": ["intermediate.dense"]}
        return line | {"config": line["config"] | {"method": method}}

    records = changed(study(), one_matrix)
    assert "On reviews no run stands for the head alone" in rules.margin_rule(records)
    assert "(k = 0, all else as trained)" in "\n".join(findings.cuts(records))
    assert "(k = 0, head, embeddings and biases as trained)" in "\n".join(findings.cuts(study()))
    headless = changed(study(), lambda line: line | {"parameters": line["parameters"] | {"head": 0}})
    assert "(k = 0, all else as trained)" in "\n".join(findings.cuts(headless))


def headed(cell: Cell) -> float:
    return 0.7 if cell.arm == "head" else 0.8 - 0.01 * abs(HEADED.step(cell.arm, cell.rate) - 1)


HEADED = replace(PROTOCOL, arms=(*PROTOCOL.arms, Arm("head", ("method=head",), 1e-3)), extensions=0)


def body_less(records: Records, head: int) -> Records:
    """The same, its arm `head` as that method makes it, with so many parameters of the head."""

    def of(line: dict[str, Any]) -> dict[str, Any]:
        if records.arm_of(line) != "head":
            return line
        trained = {"trainable": head, "adapter": 0, "head": head, "total": 100_000}
        return line | {
            "parameters": trained,
            "config": line["config"] | {"method": {"name": "head"}},
            "method": "head",
        }

    return changed(records, of)


def test_an_arm_that_trains_the_head_alone_is_what_the_margin_is_measured_by() -> None:
    records = study(headed, HEADED)
    assert margin.head_arm(records, TASK) is None
    alone = body_less(records, 100)
    assert margin.head_arm(alone, TASK) == "head"
    text = rules.margin_rule(alone)
    assert "is 20 % of the 0.1000" in text
    assert "that `full` brings over `head`, on test" in text
    assert rules.share_of(alone, TASK) == "20 %"
    assert margin.head_arm(body_less(records, 150_000), TASK) is None


@pytest.mark.parametrize(("of_head", "says"), [(0.7, verdict.SUPPORTED), (0.79, verdict.UNDECIDED)])
def test_a_task_that_the_head_alone_may_solve_tells_no_rank(of_head: float, says: str) -> None:
    scores = study(lambda cell: of_head if cell.arm == "head" else 0.8, HEADED)
    records = body_less(scores, 100)
    assert {ruling.verdict for ruling in rulings(records) if ruling.module == update.ALL} == {says}
    assert page.at_margin(records, TASK, 0.02)[2] == says
    assert page.at_margin(records, TASK, 0.3)[2] == verdict.UNDECIDED
    assert "where the head alone is not surely short of a match" in rules.low_rule(records)
    assert "head alone" not in rules.low_rule(study())


def test_the_power_is_in_the_verdict_arm_by_arm() -> None:
    """Of 1,000 examples rank 1 answers 32 otherwise than the reference, rank 8 only 4, others of each seed."""
    records = study(protocol=replace(PROTOCOL, margin=0.006))
    chances = margin.powers(records, TASK)
    assert set(chances) == {"LoRA r=1", "LoRA r=8"}
    same, worse = chances["LoRA r=1"]
    of_eight, worse_of_eight = chances["LoRA r=8"]
    assert 0.1 < worse < same < worse_of_eight < 0.9 < of_eight
    half = margin.powers(study(protocol=replace(PROTOCOL, margin=0.003)), TASK)  # as far as where it is worse by half
    assert {arm: pair[0] for arm, pair in half.items()} == {"LoRA r=1": worse, "LoRA r=8": worse_of_eight}
    # a difference has an eighth of the variance, which at an eighth of the margin's square is the same chance
    of_one = margin.powers(study(protocol=replace(PROTOCOL, margin=0.003 * 8**0.5)), TASK)["LoRA r=1"]
    assert of_one[0] == pytest.approx(worse_of_eight, abs=0.01)
    assert (
        f"is {same:.2f} to {of_eight:.2f} at a true difference of 0, and {worse:.2f} to {worse_of_eight:.2f} where it "
        "is 0.003 worse"
    ) in overview.write([records], {"made": "made.md"})
    assert f"| {same:.2f}, {worse:.2f} |" in page.write(records)
    alike = rules.margin_rule(study(lambda cell: 0.8))
    assert "is 1.00 at a true difference of 0, and 1.00 where it is 0.01 worse" in alike


def test_a_study_with_figures_of_its_own_does_not_lead() -> None:
    """Though it began later."""
    general = replace(study(), name="general")
    own = replace(general.declared, figures=("losses", "answer"))
    later = [line | {"written": line["written"].replace("2026", "2027")} for line in general.lines]
    special = replace(general, name="special", declared=own, lines=later)
    assert rules.began(special) > rules.began(general)
    rows = overview.write([special, general], {"general": "general.md", "special": "special.md"}).splitlines()
    names = [row.partition("]")[0].removeprefix("| [") for row in rows if row.startswith("| [")]
    assert names == ["general", "special"]


# ---- the second endpoint


def test_the_log_loss_is_a_second_endpoint_with_a_margin_of_its_own() -> None:
    inside = with_losses(study(), 0.01, 0.02)
    (text,) = rules.second_endpoint(inside)
    assert "Its own margin, declared before the runs, is 0.02. By it, reviews: r* = 1." in text
    arms = "\n".join(page._arms(inside))  # the losses are made up, so that the whole page would be refused
    assert "| difference in log loss |" in arms
    trained = parameters(1)["adapter"]
    assert f"| +0.0100 [+0.0100, +0.0100] | {trained} |" in arms
    assert text in page.compared(inside)
    gain = comparison.loss_gains(inside, TASK)["LoRA r=1"]
    assert (gain.mean, gain.examples) == (pytest.approx(-0.01, abs=1e-3), EXAMPLES["test"])
    (short,) = rules.second_endpoint(with_losses(study(), 0.05, 0.02))
    assert "By it, reviews: r* = above the largest tried." in short


def test_a_log_loss_without_a_margin_is_only_reported_and_one_without_losses_is_not_passed() -> None:
    (text,) = rules.second_endpoint(with_losses(study(), 0.01, None))
    assert "No margin was declared for it, so that it is only reported." in text
    assert "r*" not in text
    assert rules.second_endpoint(study()) == []
    assert "log loss" not in page.write(study())
    (lacking,) = rules.second_endpoint(study(protocol=replace(PROTOCOL, loss_margin=0.02)))
    assert "A margin of 0.02 nats was declared for the log loss, and the runs kept no log losses" in lacking
    one = with_losses(study(), 0.01, 0.02)
    some = changed(one, lambda x: {k: v for k, v in x.items() if (k, x["rank"], x["seed"]) != (LOSSES, 8, 2)})
    assert comparison.compared_losses(some, TASK) == {}


# ---- the rules


def test_a_study_that_is_older_than_the_rules_says_which_are_newer() -> None:
    newer = changed(study(), lambda line: line | {"written": rules.RULES_SINCE})
    assert "Two rules are newer" in rules.low_rule(study())
    assert "newer" not in rules.low_rule(newer)


def test_the_verdict_is_ruled_again_at_shares_of_the_declared_margin() -> None:
    text = page.write(study())
    assert [f"| reviews | {m} |" in text for m in ("0.01", "0.02", "0.03")] == [True] * 3
    text = page.write(study(protocol=replace(PROTOCOL, margin=0.1)))
    assert [f"| reviews | {m} |" in text for m in ("0.05", "0.1", "0.15")] == [True] * 3


# ---- arms, limits, source


def test_an_arm_is_said_to_match_only_where_it_surely_is_within_the_margin() -> None:
    scores = {"full": 0.8, "LoRA r=1": 0.5, "LoRA r=8": 0.8}
    stated = verdict.arms_line(study(lambda cell: scores[cell.arm]))
    assert stated == (
        "On reviews, against full (margin 0.02): surely within the margin: LoRA r=8; surely short of it: LoRA r=1."
    )
    scores["LoRA r=1"] = 0.78
    assert verdict.arms_line(study(lambda cell: scores[cell.arm])).endswith("LoRA r=8; undecided: LoRA r=1.")


def test_the_limits_name_one_alpha_only_where_there_is_one() -> None:
    assert "LoRA's alpha is 16 at every rank" in page.write(study())
    arms = (*PROTOCOL.arms[:2], Arm("LoRA r=8", ("method=lora", "rank=8", "method.alpha=64"), 1e-3))
    assert "alpha is" not in page.write(study(protocol=replace(PROTOCOL, arms=arms)))


def test_the_source_counts_seeds_and_threads() -> None:
    assert "with seeds 100 and 101, chosen" in page.source(study())
    one = study(protocol=replace(PROTOCOL, selection_seeds=(100,)))
    assert "with seed 100, chosen" in page.source(one)
    assert "Seconds are medians; processes had 1 thread." in page.write(study())
    two = changed(study(), lambda line: line | {"hardware": line["hardware"] | {"threads": 2}})
    assert "processes had 2 threads." in page.write(two)


def test_what_is_left_without_the_top_directions_loses_only_where_it_surely_does() -> None:
    assert "What is left without the top k* = 4 directions loses 0.2000" in "\n".join(findings.cuts(study()))

    def kept(line: dict[str, Any]) -> dict[str, Any]:
        rows = [[*row[:3], line["metrics"]["validation/accuracy"]] for row in line.get("functional", [])]
        cut = [row if row[0] == "remainder" else own for row, own in zip(rows, line.get("functional", []), strict=True)]
        return line | ({"functional": cut} if cut else {})

    text = "\n".join(findings.cuts(changed(study(), kept)))
    assert "What is left without the top k* = 4 directions keeps its score." in text
    assert "the model loses 0.2000" in text
