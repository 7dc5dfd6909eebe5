"""One run in several processes is the run of one process: its losses, its update, and where it goes on from."""

import shutil
import warnings
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from conftest import launched, ran
from here import plan
from safetensors.torch import load_file, save_file
from together import assert_same_run, run_in, together
from torch.distributed import checkpoint

from lorax_lab import distributed
from lorax_lab.errors import ConfigError
from lorax_lab.launch.plan import check_together
from lorax_lab.record import read_record

METHODS = {"full": ["method=full"], "lora": ["method=lora", "rank=2", "reference=false"]}
RAGGED = ("train.batch_size=7", "train.gradient_accumulation=2", "train.max_steps=8", "train.epochs=2")
STEPS = ("train.max_steps=5", "checkpoint_seconds=0", "train.validations=5", "train.keep=best")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_train_the_run_of_one(processes: int, steady_run: list[str], tmp_path: Path) -> None:
    """Also where a batch has fewer rows than there are processes: 94 examples in batches of 7 leave 3."""
    cases: dict[Path, list[str]] = {}
    for name, method in METHODS.items():
        words = [*steady_run, *method, *RAGGED]
        ran(*words, f"runs_dir={tmp_path / name}")
        cases |= {tmp_path / f"{name} {kind}": [*words, f"train.parallel={kind}"] for kind in ("data", "shard")}
    done = together(processes, [[*words, f"runs_dir={store}"] for store, words in cases.items()])
    assert done.returncode == 0, done.stdout + done.stderr
    for store in cases:
        assert_same_run(run_in(tmp_path / store.name.split()[0]), run_in(store), processes)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "parallel"), [("full", "shard"), ("lora", "data")])
def test_a_run_whose_process_is_killed_says_so_and_goes_on_in_any_number_of_them(
    method: str, parallel: str, steady_run: list[str], tmp_path: Path
) -> None:
    words = [*steady_run, *METHODS[method], *STEPS, f"train.parallel={parallel}"]
    ran(*words, f"runs_dir={tmp_path / 'alone'}")
    done = together(2, [[*words, f"runs_dir={tmp_path / 'one'}"]], "3")
    record = read_record(run_in(tmp_path / "one"))
    assert done.returncode != 0
    assert (record.status, record.reason) == ("killed", f"process 1 of 2: {distributed.SILENT}")
    for name in ("two", "four"):
        shutil.copytree(tmp_path / "one", tmp_path / name)
    ran(*words, f"runs_dir={tmp_path / 'one'}")
    for processes, name in ((2, "two"), (4, "four")):
        done = together(processes, [[*words, f"runs_dir={tmp_path / name}"]])
        assert done.returncode == 0, done.stdout + done.stderr
    for name, processes in (("one", None), ("two", 2), ("four", 4)):
        assert_same_run(run_in(tmp_path / "alone"), run_in(tmp_path / name), processes)


@pytest.mark.slow
def test_a_base_that_diverges_before_it_trains_leaves_the_processes_together(
    steady_run: list[str], tmp_path: Path
) -> None:
    """They end the run, and train the next one."""
    sound = Path(next(word for word in steady_run if word.startswith("model=")).removeprefix("model="))
    broken = shutil.copytree(sound, tmp_path / "broken" / "tiny-bert")
    tensors = load_file(broken / "model.safetensors")
    tensors["encoder.layer.1.output.LayerNorm.weight"].fill_(3e38)
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    words = [*steady_run, "method=full", "train.max_steps=2"]
    done = together(2, [[*words, f"model={base}", f"runs_dir={base.parent / 'runs'}"] for base in (broken, sound)])
    records = [read_record(run_in(base.parent / "runs")) for base in (broken, sound)]
    assert [record.status for record in records] == ["diverged", "completed"], done.stdout + done.stderr
    assert records[0].reason == "outputs that are not finite"


@pytest.mark.parametrize("name", distributed.COUNTS)
def test_variables_of_a_launcher_that_is_gone_are_refused_before_anything_is_planned(
    name: str, small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr("lorax_lab.launch.sweep.run_of", lambda config: pytest.fail("a run was planned"))
    done = launched(*small_run, "rank=2")
    assert done.returncode == 2
    assert f"{name}=2 is set" in done.stdout
    assert f"unset {name}" in done.stdout
    with pytest.raises(ConfigError, match=f"{name}=2 is set"):
        distributed.check_joined()


def test_processes_that_do_not_come_are_not_waited_for(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """All that torchrun sets may be left in a shell. What joins no processes trains with none of them."""
    variables = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "JOINING", timedelta(seconds=1))
    done = launched(*small_run, "rank=2")
    assert (done.returncode, "WORLD_SIZE=2 is set, and the others do not come" in done.stdout) == (2, True)
    assert "waiting for the other processes" in done.stdout
    with pytest.raises(ConfigError, match="start this command without torchrun"):
        distributed.check_joined()


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        (["rank=2"], "train the full fine-tune first, or type reference=false"),
        (["method=full", "seed=0,1"], "start each by itself"),
        (["method=full", "time_limit_seconds=60"], "type timeout"),
        (["method=peft/oft", "reference=false", "train.parallel=shard"], "type train.parallel=data"),
        (["method=full", "train.optimizer=muon", "train.parallel=shard"], "type train.parallel=data"),
        (["method=full"], "hydra/launcher is not possible"),
    ],
)
def test_what_several_processes_cannot_train_is_refused(words: list[str], instead: str, small_run: list[str]) -> None:
    with pytest.raises(ConfigError, match=instead):
        check_together(plan([*small_run, *words]), has_launcher="launcher" in instead)


@pytest.mark.parametrize("name", [distributed.METADATA, "__0_0.distcp"])
def test_a_checkpoint_of_several_processes_that_is_cut_short_is_refused(name: str, tmp_path: Path) -> None:
    tensors = {"model/x": torch.arange(6.0).view(2, 3), "random/cpu": torch.ones(4, dtype=torch.uint8)}
    with warnings.catch_warnings(action="ignore"):  # that this is one process
        checkpoint.save(tensors, storage_writer=checkpoint.FileSystemWriter(tmp_path), no_dist=True)
    read = distributed.load(tmp_path, lambda name: None)
    assert all(torch.equal(read[key], tensor) for key, tensor in tensors.items())
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ValueError, match="is not whole"):
        distributed.load(tmp_path, lambda name: None)
