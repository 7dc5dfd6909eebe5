"""One notion of what varies: settings, dials, arms and the overrides that make a run again."""

import dataclasses
from typing import Any

import pytest
from here import needed

from lorax_lab.config.defaults import flat
from lorax_lab.config.identity import plain, science
from lorax_lab.launch.compose import compose, presets
from lorax_lab.record import variation
from lorax_lab.tasks import KINDS

OTHER = {
    "model": "smollm2", "rank": 3, "seed": 1, "method.alpha": 8, "method.target_modules": ["query", "value"],
    "train.learning_rate": 0.5, "train.epochs": 2, "train.head": False, "task.max_length": 64,
    "task.train_examples": None, "measure": "trial",
}  # fmt: skip


def config_of(*overrides: str) -> dict[str, Any]:
    return plain(compose(list(overrides)))


def typed(key: str) -> str:
    return f"{key}={variation.text(OTHER[key])}"


@pytest.mark.parametrize(
    ("task", "method"),
    [(task, "lora") for task in presets("task")] + [("sarcasm", method) for method in presets("method")],
)
def test_the_defaults_are_those_that_hydra_composes(task: str, method: str) -> None:
    words = needed(task)
    config = config_of(f"task={task}", f"method={method}", *words)
    assert set(variation.changed(config)) == {word.partition("=")[0] for word in words}


@pytest.mark.parametrize("kind", KINDS)
def test_the_defaults_of_a_kind_are_no_changes(kind: str) -> None:
    words = ["task.path=a", f"task.kind={kind}", "task.label=l", f"task.{next(iter(KINDS[kind].config.inputs))}=t"]
    config = config_of("task=local", *words)
    assert {*variation.changed(config), "task.kind"} == {word.partition("=")[0] for word in words}
    assert variation.settings(config).keys() <= flat(dataclasses.asdict(compose(["task=local", *words]))).keys()


@pytest.mark.parametrize("key", OTHER)
def test_a_setting_that_differs_is_a_dial_and_parts_arms(key: str) -> None:
    runs = [variation.settings(config_of(*words)) for words in ((), (typed(key),), (typed(key), "seed=5"))]
    assert set(variation.dials(runs[:2])) == {key} - {"seed"}
    assert (variation.arm(runs[0]) == variation.arm(runs[1])) == (key == "seed")
    assert variation.arm(runs[1]) == variation.arm(runs[2])
    assert variation.labels(runs, [key])[1][key] == variation.text(OTHER[key])


@pytest.mark.parametrize("key", OTHER)
def test_the_overrides_make_the_run_again(key: str) -> None:
    config = compose([typed(key), "seed=7"])
    again = compose(variation.overrides(dataclasses.asdict(config)))
    assert science(again, "m", "d") == science(config, "m", "d")
    assert again.model == config.model


@pytest.mark.parametrize("name", ["Löss", "a,b", "null", "12", "it's", "a b", "", "[a]", "$x", "{a:1}"])
def test_a_name_in_overrides_is_what_it_was(name: str) -> None:
    task = {"source": "local", "path": "a.csv", "label": "label", "text": name}
    again = compose(variation.overrides({"task": task}))
    assert again.task.text == name


@pytest.mark.parametrize("method", presets("method"))
def test_runs_of_one_name_have_one_arm_whatever_is_cut(method: str) -> None:
    k90, curve = (compose([f"method={method}", f"measure={measure}"]) for measure in ("k90", "curve"))
    arms = {variation.arm(variation.settings(plain(config))) for config in (k90, curve)}
    assert (len(arms) == 1) == (science(k90, "m", "d") == science(curve, "m", "d"))
    settings = [variation.settings(plain(config)) for config in (compose(["measure=curve"]), curve)]
    assert variation.MEASURE not in variation.dials(settings)


def test_what_an_older_record_lacks_is_null_or_its_default() -> None:
    config = config_of("method=full")
    older, null = config_of("method=full"), config_of("method=full")
    del older["train"]["head"], older["measure"]
    null["method"] |= {"alpha": None, "dropout": None, "rslora": None, "twist": None}
    assert variation.settings(older) == variation.settings(null) == variation.settings(config)
    all_examples = config_of("method=full", "task.train_examples=null")
    assert variation.dials([variation.settings(c) for c in (config, all_examples)]) == ("task.train_examples",)
