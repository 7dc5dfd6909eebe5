"""Composition and checks: every file in conf/ composes, every bad setting has one clear message."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from here import expand, needed
from omegaconf import OmegaConf

from lorax_lab.config import RunConfig, TaskConfig
from lorax_lab.config.overrides import CONF
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import (
    GROUPS,
    _composed,
    compose,
    content_of,
    presets,
    recorded,
    reference_of,
    spell_out,
    typed,
)
from lorax_lab.methods import REFERENCE
from lorax_lab.record.folder import save_config
from lorax_lab.tasks import KINDS


def test_every_file_in_conf_composes() -> None:
    files = [f.relative_to(CONF) for f in CONF.rglob("*.yaml") if f.stem != "_base"]
    choices = [f for f in files if len(f.parts) > 1 and f.parts[0] not in ("hydra", "kind")]
    assert {f.parts[0] for f in choices} == set(GROUPS) - {"experiment"}
    for file in choices:
        group, name = file.parts[0], str(file.relative_to(file.parts[0]).with_suffix(""))
        assert name in presets(group)
        assert isinstance(compose([f"{group}={name}", *(needed(name) if group == "task" else [])]), RunConfig)


@pytest.mark.parametrize("name", KINDS)
def test_the_defaults_of_a_kind_are_those_of_its_file(name: str) -> None:
    shared = {field.name for field in dataclasses.fields(TaskConfig)}
    own = {f.name: f.default for f in dataclasses.fields(KINDS[name].config) if f.name not in shared}
    file = OmegaConf.to_container(OmegaConf.load(CONF / "kind" / f"{name}.yaml"))
    assert file == own


NAMED_AS_TYPED = [
    "eight", "rank=[4", "method=lroa", "method=peft/no", "method.alhpa=1", "task=moive_reviews", "task.max_lenght=4",
    "task=local", "rank=0", "rank=2.5", "rank=eight", "method=full method.alpha=8",
    "method=full,lora method.rslora=true", "method.alpha=much", "method.target_modules=[]", "measure=controls",
    "train.precision=bf16-true", "train.learning_rate=nan", "train.epochs=1.5", "train.max_steps=0",
    "task.train_examples=0", "task.split_seed=null", "seed=-1", "workers=many", "checkpoint_seconds=-1",
    "time_limit_seconds=0", "tracking=onlin", "train.patience=0", "train.patience=3", "train.keep=first",
]  # fmt: skip
"""Of several words, by the last."""
BAD = {word: word.split()[-1] for word in NAMED_AS_TYPED} | {
    "rnak=8": "rnak", "+rnak=8": "rnak", "train.learning_rat=1": "train.learning_rat",
    "method.name=lroa": "method=lroa", "rank=null": "rank=None", "method=full rank=8": "method=full rank=8",
    "method.alpha=0": "method.alpha=0.0", "method.dropout=1": "method.dropout=1.0",
    "method=peft/adalora train.keep=best train.validations=2": "method=peft/adalora",
    "method=peft/adalora train.precision=fp16": "method=peft/adalora",
    "train.learning_rate=-1": "train.learning_rate=-1.0", "model=${no.such}": "no",
    "train.keep=best": "train.keep=best",
}  # fmt: skip


@pytest.mark.parametrize("words", BAD)
def test_a_bad_setting_is_named_in_one_sentence(words: str) -> None:
    with pytest.raises(ConfigError) as error:
        [compose(job) for job in expand(spell_out(words.split()))]
    assert BAD[words] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("word", ["model=", "model=' '", "runs_dir=''", "task.path=''", "task.metric=''"])
def test_a_blank_place_or_metric_is_refused(word: str) -> None:
    """`model=$UNSET` becomes one: it would be the folder that the command is typed in."""
    with pytest.raises(ConfigError, match=re.escape(word.partition("=")[0] + "=")):
        compose([word])


def test_a_data_set_id_stands_for_the_hub_source() -> None:
    path = ["++task.path='org/name'", "++task.name='org/name'"]
    assert spell_out(["task=org/name", "task.text=t"]) == ["task=hub", *path, "++task.text=t"]
    assert spell_out(spell_out(["task=glue/mrpc"])) == ["task=glue/mrpc"]
    assert {"movie_reviews", "local", "hub", "glue/stsb"} <= set(presets("task"))


def test_the_reference_keeps_all_but_what_is_the_methods_own() -> None:
    words = ["seed=2", "task.train_examples=64", "train.epochs=2"]
    run = compose([*words, "rank=4", "train.learning_rate=1e-3", "method.alpha=4", "method.target_modules=[query]"])
    assert reference_of(run) == compose([*words, f"method={REFERENCE}"])


@pytest.mark.parametrize(
    "typed_words",
    [[], ["method=full"], ["task=glue/mrpc", "rank=2"], ["task.text=null", "model='/a b/c,d'"],
     ["train.precision=bf16", "method.dropout=0.5"],
     ["task=local", "task.path='it\\'s, here.csv'", "task.text='a=b'", "task.label=l", "measure=trial"]],
)  # fmt: skip
def test_a_recorded_configuration_is_read_back_as_it_was(tmp_path: Path, typed_words: list[str]) -> None:
    config = compose(typed_words)
    assert typed(dataclasses.asdict(config)) == config
    save_config(tmp_path, dataclasses.asdict(config))
    (job,) = expand(recorded(tmp_path))
    assert compose(job) == config


def test_what_is_typed_counts_before_the_recorded_configuration(tmp_path: Path) -> None:
    save_config(tmp_path, dataclasses.asdict(compose(["rank=2", "method.alpha=3", "task.train_examples=64"])))
    (job,) = expand(recorded(tmp_path, ["method=full", "seed=3"]))
    assert compose(job) == compose(["method=full", "seed=3", "task.train_examples=64"])
    (tmp_path / "config.yaml").write_text("rank: 2")
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(ConfigError, match=re.escape(str(path))):
            recorded(path)


@pytest.mark.parametrize(
    "words",
    [
        ["rank=4", "seed=1", "method=full"],
        ["method.alpha=3", "task=sarcasm", "train.learning_rate=1e-3"],
        ["task=local", "task.path=/a b.csv", "task.text=sentence", "task.label=label"],
        ["method.target_modules=[a]", "method.target_modules=[b]", "seed=5", "seed=6"],
        ["task.name='x y'", "task.path=''", 'task.group="a,b"', "task.label=null", "train.head=false"],
        ["model=${task.name}", "+task.foo=3", "~train.warmup", "tracking=offline"],
        ["task.max_length=64", "rank=null", "hydra/launcher=basic"],
    ],
)
def test_values_are_set_as_hydra_sets_them(words: list[str]) -> None:
    overrides = spell_out(words)
    content = content_of(overrides, _composed)
    assert json.dumps(content) == json.dumps(_composed(tuple(overrides)))
