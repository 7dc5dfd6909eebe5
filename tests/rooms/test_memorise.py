"""`task.memorise`: the training examples are what is scored, and nothing calls their score a test score."""

import pytest
from conftest import ran
from here import store_of
from synthetic import changed, peaked, study
from test_tasks import cut, pool, texts

from analysis.groups import load
from analysis.scores import SCORED, scores
from analysis.study import page
from analysis.study.figures import FIGURES
from lorax_lab.data.leaks import MEMORISED
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose, spell_out
from lorax_lab.record import measures
from lorax_lab.record.record import scan

SIZES = ("task.validation_examples=null", "task.test_examples=null")


@pytest.mark.parametrize("groups", [None, 13])
def test_validation_and_test_are_the_training_examples_in_their_order(groups: int | None) -> None:
    task = cut(pool(60, groups), train_examples=24, memorise=True)
    assert task.validation == task.test == task.train
    assert task.sizes == {"train": 24, "validation": 24, "test": 24}


def test_fewer_examples_are_a_part_of_more_and_all_rows_can_be_learned() -> None:
    few, many, everything = (cut(pool(60), train_examples=n, memorise=True) for n in (10, 40, None))
    assert texts(many.train)[:10] == texts(few.train)
    assert sorted(texts(everything.train)) == sorted(texts(pool(60)))
    with pytest.raises(ConfigError, match=r"60 rows.*task\.train_examples=61"):
        cut(pool(60), train_examples=61, memorise=True)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["task=sarcasm"], r"task\.validation_examples=1000.*task\.test_examples=null"),
        (["task=tweets", "task.kind=regression", *SIZES], r"task\.kind=regression"),
        (["model=smollm2", "task=arithmetic", *SIZES], r"task\.kind=language_modeling"),
    ],
)
def test_what_it_leaves_no_meaning_is_refused(words: list[str], named: str) -> None:
    compose(spell_out(words))
    with pytest.raises(ConfigError, match=named):
        compose(spell_out([*words, "task.memorise=true"]))


def test_a_frozen_head_is_trained_against_and_the_score_is_of_training(small_run: list[str]) -> None:
    words = [*small_run, *SIZES, "task.memorise=true", "task.train_examples=48", "train.head=false"]
    shown = ran(*words, "rank=2")
    assert shown.count(MEMORISED) == 1
    runs = store_of(words)
    for record in scan(runs)[0].values():
        result = record.completed
        assert record.config["task"]["memorise"] is True
        assert result.inputs.examples == {"train": 48, "validation": 48, "test": 48}
        assert result.metrics["test/accuracy"] == result.metrics["validation/accuracy"]
        assert result.parameters.head == 0
        assert measures.means(runs / record.run_id)["relative_norm"] > 0
    group = load(runs).groups[0]
    assert set(scores(group, "test")["split"]) == {"training"}


def test_no_page_calls_a_training_score_a_test_score() -> None:
    plain, extra = study(peaked), {"memorise": True}
    memorised = changed(plain, lambda x: x | {"config": x["config"] | {"task": x["config"]["task"] | extra}})
    for records, is_memorised in ((plain, False), (memorised, True)):
        assert (SCORED in FIGURES["cost"].table(records)) == is_memorised
        assert ("asks to memorise" in page.write(records)) == is_memorised
