"""What cannot train, or is no more what was planned, is refused before anything trains, and leaves no record."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import launched, ran, tiny_model

from lorax_lab import tasks
from lorax_lab.errors import ConfigError
from lorax_lab.execute import execute
from lorax_lab.launch import plan
from lorax_lab.launch.compose import compose, recorded
from lorax_lab.launch.plan import run_of
from lorax_lab.models import matrix_shapes, shapes_of
from lorax_lab.record.record import scan

CANNOT = {
    "a rank above the matrices": (["rank=2,500,4", "-m"], "rank=500 is above min(out, in) = 32 of"),
    "a target that the model has not": (
        ["rank=2", "method.target_modules=[query],[qury]", "-m"],
        "method.target_modules=qury matches no matrix of the model; did you mean 'query'",
    ),
    "nothing that may change": (["method=head", "train.head=false,true", "-m"], "train.head=false"),
    "no such model": (["model=./nowhere"], "./nowhere"),
    "a column that the table has not": (["task.label=label,lable", "-m"], "task.label=lable is not a column"),
    "a precision that the machine has not": (["train.precision=fp32,fp16", "-m"], "type train.precision=bf16"),
}


@pytest.mark.parametrize("reason", CANNOT)
def test_one_run_that_cannot_train_stops_the_sweep_before_it_begins(
    small_run: list[str], tmp_path: Path, reason: str
) -> None:
    overrides, message = CANNOT[reason]
    given = {word.partition("=")[0] for word in overrides}
    done = launched(*[word for word in small_run if word.partition("=")[0] not in given], *overrides)
    shown = " ".join((done.stdout + done.stderr).split())
    assert message in shown
    assert done.returncode == 2
    assert "Traceback" not in shown
    assert not list((tmp_path / "runs").glob("*/record.json"))
    assert not list((tmp_path / "runs").glob("tiny-bert-*"))


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_shapes_are_known_from_the_configuration_alone(kind: str, tmp_path: Path) -> None:
    model = tiny_model(kind)
    model.config.save_pretrained(tmp_path)
    state = torch.get_rng_state()
    assert matrix_shapes(str(tmp_path)) == shapes_of(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_table_that_changes_after_the_run_was_planned_or_while_it_is_read_is_refused(
    small_run: list[str], table_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copy(table_file, tmp_path / "mine.csv")

    def grow() -> None:
        with path.open("a") as file:
            file.write("quite a new film,positive\n")

    config = compose([*small_run, f"task.path={path}"])
    run = run_of(config)
    grow()
    with pytest.raises(ConfigError, match=rf"task=local changed after {run.run_id}"):
        execute(run.config, run.run_id, run.folder, None)
    source = tasks.source_of(config.task)
    changing = replace(source, read=lambda config: (grow(), source.read(config))[1])
    monkeypatch.setattr(tasks, "source_of", lambda config: changing)
    with pytest.raises(ConfigError, match=r"mine\.csv changed while it was read"):
        tasks.load_task(config.task)


def test_a_small_table_is_trained_for_200_steps_unless_a_budget_is_typed(
    small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [word for word in small_run if "_examples=" not in word]
    said = ran(*words, "rank=2")
    records, _ = scan(tmp_path / "runs")
    assert [record.completed.time.steps for record in records.values()] == [200, 200]  # 320 texts, 20 steps an epoch
    assert "train.epochs=10, which makes about 200 steps of a small table; to train less, type train.epochs=1" in said
    again = next(folder for folder, record in records.items() if record.method == "lora") / "config.yaml"
    assert run_of(compose(recorded(again))).run_id == again.parent.name
    for typed in ("train.epochs=1", "train.max_steps=3", "task.train_examples=null"):
        assert run_of(compose([*words, typed])).config.train.epochs == 1
    assert run_of(compose(recorded(again, ["train.epochs=1"]))).config.train.epochs == 1
    pools = tasks.source_of(compose(words).task).read(compose(words).task)
    large = replace(pools, train=pools.train * 50)
    monkeypatch.setattr(plan, "source_of", lambda task: replace(tasks.source_of(task), read=lambda task: large))
    of_large, without = run_of(compose(words)), run_of(compose([*words, "train.epochs=1"]))
    assert of_large.run_id == without.run_id
