"""Run identity: what makes another run and what does not; nothing that is new renames what is recorded."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import lorax_lab.methods as methods
from lorax_lab.config.identity import run_id
from lorax_lab.config.measured import CUT, MEASURED
from lorax_lab.launch.compose import compose, typed
from lorax_lab.study.published import read_lines

RECORDS = Path(__file__).parents[2] / "experiments" / "records"
FROZEN = {
    "rank=8": "minilm-movie_reviews-lora-r8-s0-8fc3dc60ea",
    "rank=4 seed=3": "minilm-movie_reviews-lora-r4-s3-3255c28f61",
    "method=full": "minilm-movie_reviews-full-s0-95c6db1f35",
    "method=full measure=controls": "minilm-movie_reviews-full-s0-cfd749d09d",
    "measure=trial train.head=false": "minilm-movie_reviews-lora-r8-s0-16eb147b29",
    "rank=2 method.alpha=32 method.dropout=0.1 method.rslora=true method.target_modules=[query,value]":
        "minilm-movie_reviews-lora-r2-s0-e2965ca2ba",
    "task=glue/stsb method=full method.target_modules=[query]": "minilm-stsb-full-s0-e184a58356",
    "task=local task.path=x.csv task.text=a task.label=b model=minilm train.precision=bf16":
        "minilm-local-lora-r8-s0-bc649c3805",
}  # fmt: skip
"""Names that runs of these overrides have had since the first version, for inputs of the hashes below."""


THEN = ("train.validations=3", "measure=curve", "train.precision=fp32", "task.group_near_duplicates=false")
"""What the defaults were then."""


def identity(*words: str) -> str:
    return run_id(compose(list(words)), "model-hash", "data-hash")


def test_equal_settings_spelled_differently_places_windows_and_switches_are_the_same_run() -> None:
    assert identity("method=full", "model=/a b/c:d").startswith("c_d-movie_reviews-full-s0-")
    plain = identity("train.learning_rate=1e-4", "method.target_modules=[query,value]")
    assert plain == identity("train.learning_rate=0.0001", "method.target_modules=[value,query]")
    assert identity() == identity("rank=8", "train.learning_rate=0.001", "method.target_modules=[all-linear]")
    assert identity() == identity(
        "runs_dir=/elsewhere", "tracking=offline", "force=true", "reference=false", "train.device=cpu"
    )


@pytest.mark.parametrize(
    "word",
    ["seed=1", "train.epochs=2", "method.ranks=[query:4]", "task.train_examples=100", "task.split_seed=1",
     "task.max_length=64", "train.warmup=0", "train.optimizer=sgd", "train.schedule=cosine", "train.validations=3"],
)  # fmt: skip
def test_everything_that_decides_the_result_makes_another_run(word: str) -> None:
    assert identity(word) != identity()


def filled(defaults: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What a line recorded; what it leaves out, because it decides nothing or came later, as it is by default."""
    merged = dict(defaults) | dict(recorded)
    for key, value in defaults.items():
        if isinstance(value, dict) and key != "method":
            merged[key] = filled(value, recorded.get(key, {}))
    return merged


@pytest.mark.parametrize("folder", sorted(path.parent for path in RECORDS.glob("*/runs.parquet")), ids=lambda f: f.name)
def test_the_names_of_published_runs_follow_from_what_they_recorded(folder: Path) -> None:
    """The first line of a study, the last, and a few between them."""
    lines = read_lines(folder)
    for line in [*lines[:: len(lines) // 5 + 1], lines[-1]]:
        of_texts = ["task=local", "task.group_near_duplicates=false", "task.path=x", "task.text=a", "task.label=b"]
        is_of_language = line["config"]["task"]["kind"] == "language_modeling"
        defaults = dataclasses.asdict(compose(["task=arithmetic", "model=smollm2"] if is_of_language else of_texts))
        has_path = line["config"]["task"]["source"] in ("local", "hub", "image_folder")
        defaults["task"]["path"] = "x" if has_path else None
        for key in methods.METHODS[line["config"]["method"]["name"]].settings.HASHED_AS_NULL:
            line["config"]["method"].pop(key, None)  # what the oldest lines say of full fine-tuning
        config, inputs = typed(filled(defaults, line["config"])), line["inputs"]
        assert run_id(config, inputs["model_sha256"], inputs["data_sha256"]) == line["run_id"]


@pytest.mark.parametrize("words", FROZEN)
def test_a_configuration_keeps_its_name_whatever_setting_is_new(words: str) -> None:
    then = [word for word in THEN if word.partition("=")[0] not in words]
    assert identity(*then, *words.split()) == FROZEN[words]


def test_how_an_update_is_cut_makes_another_run_of_full_fine_tuning_alone() -> None:
    """An older record's `standard` is the whole curve."""
    assert methods.REFERENCE == CUT
    assert identity("method=full", "measure=standard") == identity("method=full", "measure=curve")
    assert len({identity("method=full", f"measure={measure}") for measure in MEASURED}) == len(MEASURED)
    assert identity("measure=k90") == identity("measure=curve") != identity("measure=trial")


@pytest.mark.parametrize("name", ["x" * 250, "日本" * 60])
def test_the_id_of_a_long_name_fits_a_file_system(name: str) -> None:
    config = compose([f"model='/models/{name}'"]) if len(name.encode()) <= 255 else compose([f"task.name='{name}'"])
    first, other = run_id(config, "a", "b"), run_id(config, "a", "c")
    assert first[:-10] == other[:-10]
    assert first != other
    assert len(f".{first}.json.01234567".encode()) <= 255
