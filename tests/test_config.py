"""Composition, checks and identity: every file in conf/ composes, every bad setting has one clear message."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorax_lab.config import RunConfig, known_keys, run_id
from lorax_lab.config.overrides import CONF, expand
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose, presets, spell_out
from lorax_lab.launch.references import reference_overrides

LOCAL = ["task.path=x.csv", "task.text=a", "task.label=b"]


def identity(*words: str) -> str:
    return run_id(compose(spell_out(list(words))), "model-hash", "data-hash")


def test_every_file_in_conf_composes() -> None:
    files = [f.relative_to(CONF) for f in CONF.rglob("*.yaml") if f.stem != "_base"]
    groups = {"task", "method", "train", "tracking"}
    choices = [f for f in files if f.parts[0] in groups]
    assert len(files) == 27
    assert len(choices) == 24
    for file in choices:
        own = LOCAL if file.stem in ("local", "hub") else []
        config = compose([f"{file.parts[0]}={file.relative_to(file.parts[0]).with_suffix('')}", *own])
        assert isinstance(config, RunConfig)


def test_known_keys_are_the_keys_of_the_composed_configuration() -> None:
    assert {"rank", "method.alpha", "task.text_pair", "train.max_steps", "tracking.mode"} <= set(known_keys())
    assert {"model", "task", "method", "rank", "seed", "reference", "force", "runs_dir"} <= set(known_keys())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnak=8"], r"no key rnak; did you mean 'rank'"),
        (["train.learning_rat=1"], r"no key train.learning_rat; did you mean 'train.learning_rate'"),
        (["rank"], r"rank has no value; type rank=…"),
        (["eight"], r"eight is not understood; settings are written key=value"),
        (["method=lroa"], r"method=lroa: there is no method lroa; did you mean 'lora'"),
        (["task=moive_reviews"], r"task=moive_reviews is not a preset; did you mean 'movie_reviews'"),
        (["task=movie_reviews,org/name"], r"only presets can be swept"),
        (["task=local"], r"task=local needs task.path=… task.text=… task.label=…"),
        (["rank=0"], r"rank=0 is not possible: a whole number from 1"),
        (["rank=-4"], r"rank=-4 is not possible"),
        (["rank=2.5"], r"rank: Value '2.5' .*whole number, for instance rank=8"),
        (["rank=eight"], r"rank: Value 'eight'.*whole number"),
        (["rank=null"], r"rank=None is not possible"),
        (["method=full", "rank=8"], r"method=full rank=8 is not possible: full fine-tuning has no rank"),
        (["method=full", "method.alpha=8"], r"method.alpha=8.0 is not possible: method=full has no alpha"),
        (["method=full", "method.dropout=0.1"], r"method.dropout=0.1 is not possible"),
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


def test_equal_settings_spelled_differently_are_the_same_run() -> None:
    plain = identity("train.learning_rate=1e-4", "method.target_modules=[query,value]")
    assert plain == identity("train.learning_rate=0.0001", "method.target_modules=[value,query]")
    assert identity() == identity("rank=8", "train.learning_rate=0.001", "method.target_modules=[all-linear]")


def test_places_windows_and_switches_do_not_make_another_run() -> None:
    words = ["runs_dir=/elsewhere", "tracking=offline", "force=true", "reference=false", "train.device=cpu"]
    assert all(identity(word) == identity() for word in words)
    assert identity(*words) == identity()


@pytest.mark.parametrize(
    "word",
    ["rank=4", "seed=1", "train.epochs=2", "train.precision=bf16", "method.alpha=8", "method.rslora=true",
     "task.train_examples=100", "task.split_seed=1", "task.max_length=64", "method=full", "train.warmup=0"],
)  # fmt: skip
def test_everything_that_decides_the_result_makes_another_run(word: str) -> None:
    assert identity(word) != identity()


def test_the_inputs_hashes_make_another_run() -> None:
    config = compose([])
    assert len({run_id(config, m, d) for m in "ab" for d in "ab"}) == 4


def test_the_run_id_can_be_read() -> None:
    assert identity("rank=4", "seed=3").startswith("minilm-movie_reviews-lora-r4-s3-")
    assert identity("method=full", "model=/a b/c:d").startswith("c_d-movie_reviews-full-s0-")


def test_a_data_set_id_stands_for_the_hub_source() -> None:
    assert spell_out(["task=org/name", "task.text=t"]) == [
        "task=hub",
        "task.path=org/name",
        "task.name=org/name",
        "task.text=t",
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
    assert reference.method.name == "full"
    assert reference.train.learning_rate == compose(["method=full"]).train.learning_rate
    assert (reference.task, reference.seed, reference.model) == (run.task, run.seed, run.model)


def test_the_learning_rate_of_lora_is_ten_times_that_of_full() -> None:
    rates = {name: compose([f"method={name}"]).train.learning_rate for name in ("full", "lora")}
    assert rates["lora"] == pytest.approx(10 * rates["full"])


def test_no_configuration_names_code_to_run() -> None:
    assert not [f for f in Path(CONF).rglob("*.yaml") if "_target_" in f.read_text()]
