"""Composition and checks: every file in conf/ composes, every bad setting has one clear message."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from lorax_lab.config import RunConfig, TaskConfig
from lorax_lab.config.overrides import CONF, expand
from lorax_lab.data import SOURCES, Source
from lorax_lab.errors import ConfigError
from lorax_lab.launch import typed
from lorax_lab.launch.compose import _composed, compose, content_of, spell_out
from lorax_lab.launch.files import onto
from lorax_lab.launch.keys import GROUPS, added, known_keys, presets
from lorax_lab.launch.references import reference_overrides
from lorax_lab.launch.typed import from_dict
from lorax_lab.methods import METHODS, REFERENCE
from lorax_lab.tasks import KINDS

LOCAL = ["task.path=x.csv", "task.text=a", "task.label=b"]


def test_every_file_in_conf_composes() -> None:
    files = [f.relative_to(CONF) for f in CONF.rglob("*.yaml") if f.stem != "_base"]
    choices = [f for f in files if len(f.parts) > 1 and f.parts[0] not in ("hydra", "kind")]
    assert {f.parts[0] for f in choices} == set(GROUPS)
    for file in choices:
        name = str(file.relative_to(file.parts[0]).with_suffix(""))
        assert name in presets(file.parts[0])
        own = [word for word in LOCAL if name in SOURCES and word[5:].partition("=")[0] in needed(SOURCES[name])]
        assert isinstance(compose([f"{file.parts[0]}={name}", *own]), RunConfig)


def needed(source: Source) -> tuple[str, ...]:
    return source.needed(KINDS["classification"].config)


@pytest.mark.parametrize("name", KINDS)
def test_the_defaults_of_a_kind_are_those_of_its_file(name: str) -> None:
    shared = {field.name for field in dataclasses.fields(TaskConfig)}
    own = {f.name: f.default for f in dataclasses.fields(KINDS[name].config) if f.name not in shared}
    file = yaml.safe_load((CONF / "kind" / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    assert file == {key: value for key, value in own.items() if value is not None}


def test_known_keys_are_the_keys_of_the_composed_configuration() -> None:
    assert {"rank", "method.alpha", "task.text_pair", "train.max_steps", "tracking.mode"} <= set(known_keys())
    assert {"model", "task", "method", "rank", "seed", "reference", "force", "runs_dir"} <= set(known_keys())
    sections = {key: value for key, value in dataclasses.asdict(compose([])).items() if isinstance(value, dict)}
    others = {f"{section}.{key}" for section in sections if section != "method" for key in sections[section]}
    others |= {f"task.{field.name}" for kind in KINDS.values() for field in dataclasses.fields(kind.config)}
    fields = [(name, field) for name, method in METHODS.items() for field in dataclasses.fields(method.settings)]
    # PEFT has more than those
    methods = {f"method.{field.name}" for name, field in fields if "/" not in name or "neutral" not in field.metadata}
    assert {key for key in known_keys() if "." in key} == others | methods


def test_a_mistyped_key_is_answered_without_torch() -> None:
    code = "import sys; from lorax_lab.launch.compose import spell_out\ntry: spell_out(['method.alhpa=1'])\n"
    code += "except ValueError as error: print(error)\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "did you mean 'method.alpha'" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnak=8"], r"no key rnak; did you mean 'rank'"),
        (["train.learning_rat=1"], r"no key train.learning_rat; did you mean 'train.learning_rate'"),
        (["rank"], r"rank has no value; type rank=…"),
        (["eight"], r"'eight' is not understood; settings are written key=value"),
        (["method=lroa"], r"method=lroa: there is no method lroa; did you mean 'lora'"),
        (["task=moive_reviews"], r"task=moive_reviews is not a preset; did you mean 'movie_reviews'"),
        (["task=movie_reviews,org/name"], r"only presets can be swept"),
        (["task=local"], r"task=local needs task.path=… task.text=… task.label=…"),
        (
            [*LOCAL, "task=local", "task.text_pair=b"],
            r"task.text_pair=b is the column that task.label names; name another column for each, label, text_pair",
        ),
        ([*LOCAL, "task=local", "task.label=a"], r"task.text=a is the column that task.label names"),
        ([*LOCAL, "task=local", "task.text_pair=a"], r"task.text_pair=a is the column that task.text names"),
        (["rank=0"], r"rank=0 is not possible: a whole number from 1"),
        (["rank=-4"], r"rank=-4 is not possible"),
        (["rank=2.5"], r"rank=2.5 is not possible: it is a whole number or null; for instance rank=8"),
        (["rank=eight"], r"rank=eight is not possible: it is a whole number"),
        (["rank=null"], r"rank=None is not possible"),
        (
            ["method=full", "rank=8"],
            r"method=full rank=8 is not possible: this method has no rank.*type method=lora",
        ),
        (
            ["method=full", "method.alpha=8"],
            r"method.alpha=8 is not.*method=full has no alpha; leave method.alpha out",
        ),
        (["method=full", "method.dropout=0.1"], r"method.dropout=0.1 is not possible"),
        (["method=full,lora", "method.rslora=true"], r"method=full has no rslora; leave method.rslora out"),
        (["method.alpha=much"], r"method.alpha=much is not possible: it is a number; for instance method.alpha=16"),
        (["method.rslora=maybe"], r"method.rslora=maybe is not possible: it is true or false"),
        (["method.name=lroa"], r"method=lroa: there is no such method; did you mean 'lora'"),
        (["measure=controls"], r"measure=controls is not possible: only the update of method=full is truncated"),
        (["train.precision=bf16-true"], r"train.precision=bf16-true is not possible.*did you mean.*'bf16'"),
        (["method.dropout=1"], r"method.dropout=1.0 is not possible: 0 ≤ dropout < 1"),
        (["method.alpha=0"], r"method.alpha=0.0 is not possible"),
        (["method.target_modules=[]"], r"method.target_modules=\[\] is not possible: all-linear"),
        (["train.learning_rate=-1"], r"train.learning_rate=-1.0 is not possible.*train.learning_rate=1e-4"),
        (["train.learning_rate=nan"], r"train.learning_rate=nan is not possible"),
        (["train.batch_size=0"], r"train.batch_size=0 is not possible"),
        (["train.max_steps=0"], r"train.max_steps=0 is not possible"),
        (["train.precision=fp8"], r"train.precision=fp8 is not possible.*fp32, bf16, fp16"),
        (["train.schedule=cosin"], r"train.schedule=cosin is not possible.*linear, constant"),
        (["task.train_examples=0"], r"task.train_examples=0 is not possible"),
        (["seed=-1"], r"seed=-1 is not possible"),
        (["tracking=onlin"], r"tracking=onlin: there is no tracking onlin; did you mean 'online'"),
        (["rank=[4"], r"rank=\[4 is not understood"),
    ],
)
def test_bad_settings_have_one_clear_message(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        [compose(job) for job in expand(spell_out(words))]


def test_a_data_set_id_stands_for_the_hub_source() -> None:
    assert spell_out(["task=org/name", "task.text=t"]) == [
        "task=hub",
        "task.path='org/name'",
        "task.name='org/name'",
        "++task.text=t",
    ]
    assert spell_out(["task=glue/mrpc"]) == ["task=glue/mrpc"]
    assert {"movie_reviews", "local", "hub", "glue/stsb"} <= set(presets("task"))


def test_the_grid_is_every_combination() -> None:
    jobs = expand(["rank=4,8", "seed=0,1", "model=/a b"])
    assert jobs == [[f"rank={r}", f"seed={s}", "model=/a b"] for r in (4, 8) for s in (0, 1)]
    assert expand(["method.target_modules=[query,value]"]) == [["method.target_modules=[query,value]"]]


def test_the_reference_keeps_all_but_what_is_the_methods_own() -> None:
    words = ["rank=4", "seed=2", "train.learning_rate=1e-3", "method.alpha=4", "task.train_examples=64"]
    reference, run = compose(reference_overrides(words)), compose(words)
    assert reference.method.name == REFERENCE
    assert reference.train.learning_rate == compose([f"method={REFERENCE}"]).train.learning_rate
    assert (reference.task, reference.seed, reference.model) == (run.task, run.seed, run.model)


@pytest.mark.parametrize(
    "words",
    [
        [], ["method=full"], ["task=boolq", "seed=3"], ["task=tweets", "train.learning_rate=1", "train.weight_decay=0"],
        ["method=peft/adalora"], ["checkpoint_seconds=1", "isolate=true", "time_limit_seconds=60"],
        ["method.target_modules=[value,query]", "train.max_steps=3", "tracking=offline", "train.head=false"],
    ],
)  # fmt: skip
def test_sections_that_are_converted_once_are_as_all_at_once(words: list[str]) -> None:
    raw = content_of([added(word) for word in words])
    method, settings = typed._method_settings(raw)
    whole = {**raw, "method": settings}
    sections = {"method": method, "task": typed._task_settings(raw)}
    config = typed._by_sections(whole, sections)
    assert config is not None
    assert repr(config) == repr(typed._whole(whole, sections))
    config.train.epochs, config.method.target_modules = 77, ["other"]
    assert repr(typed._by_sections(whole, sections)) == repr(typed._whole(whole, sections))


def test_what_refers_to_another_setting_or_is_wrong_is_converted_whole() -> None:
    assert compose(["model=${task.name}"]).model == "movie_reviews"
    for word in ("seed=-1", "rank=x", "train.epochs=1.5", "task.split_seed=null"):
        with pytest.raises(ConfigError, match=re.escape(word.partition("=")[0])):
            compose([word])
    for one, other in (("1", "1.0"), ("1", "true")):
        assert len({typed.Repr({"a": yaml.safe_load(each)}) for each in (one, other)}) == 2


def test_the_learning_rate_of_lora_is_ten_times_that_of_full() -> None:
    rates = {name: compose([f"method={name}"]).train.learning_rate for name in ("full", "lora")}
    assert rates["lora"] == pytest.approx(10 * rates["full"])


def test_no_configuration_names_code_to_run() -> None:
    assert not [f for f in Path(CONF).rglob("*.yaml") if "_target_" in f.read_text()]


def test_a_recorded_configuration_is_read_back_as_it_was() -> None:
    for words in ([], ["method=full"], ["rank=2", "method.dropout=0.5", "train.precision=bf16"]):
        config = compose(words)
        assert from_dict(dataclasses.asdict(config)) == config


def test_a_configuration_that_says_null_for_what_its_method_once_had_is_read() -> None:
    content = dataclasses.asdict(compose(["method=full"]))
    content["method"] |= {"alpha": None, "dropout": None, "rslora": None}
    assert from_dict(content) == compose(["method=full"])
    content["method"]["alhpa"] = None
    with pytest.raises(ConfigError, match=r"method=full has no alhpa"):
        from_dict(content)


def test_a_configuration_without_a_method_is_refused() -> None:
    content = dataclasses.asdict(compose([]))
    del content["method"]
    with pytest.raises(ConfigError, match=r"there is no such method; allowed: full, lora"):
        from_dict(content)


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
    overrides = [word if word.startswith(("+", "~")) else added(word) for word in words]
    fast, whole = content_of(overrides), OmegaConf.to_container(_composed(tuple(overrides), False))
    assert json.dumps(fast) == json.dumps(whole)
    with pytest.raises(ConfigError, match=r"Could not override 'seed\.deeper'"):
        content_of(["seed.deeper=3"])


def test_a_typed_launcher_replaces_a_files_with_its_settings() -> None:
    of_file = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0"]
    assert onto(of_file, ["hydra/launcher=basic"]) == ["seed=0", "hydra/launcher=basic"]
    assert onto(of_file, ["seed=1"]) == [*of_file[:2], "seed=1"]
