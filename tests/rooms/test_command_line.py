"""Flags, files and the console command: what is listed, run again, refused; nothing here trains."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import launched, ran
from here import plan, store_of
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf
from recorded import run_record

from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import EXTRAS, in_our_words
from lorax_lab.launch.runs import Run
from lorax_lab.record.folder import save_config
from lorax_lab.record.lease import lease
from lorax_lab.record.record import write_record


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def record_as(run: Run, status: str, **changes: object) -> None:
    """A record of a run that never ran, with its `config.yaml`."""
    config = dataclasses.asdict(run.config)
    save_config(run.folder, config)
    method, rank, seed = run.config.method.name, run.config.rank, run.config.seed
    fields = {"status": status, "config": config, "method": method, "rank": rank, "seed": seed} | changes
    write_record(run.folder, run_record(run.run_id, **fields))


def states(printed: str) -> dict[str, str]:
    """The state of each run by its id, as a dry run lists them."""
    lines = [line.split() for line in printed.splitlines() if "tiny-bert-local-" in line]
    return {next(word for word in words if word.startswith("tiny-bert-local-")): words[0] for words in lines}


def test_a_dry_run_fetches_nothing(small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id of a run whose data have a pinned hash is known without them, and that of a hub's data set is not."""
    monkeypatch.setenv("LORAX_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    record_as(plan(small_run)[0], "completed")
    model = small_run[0]
    shown = ran(model, "task=sarcasm", f"runs_dir={store_of(small_run)}", "rank=4", "--dry-run")
    assert "sarcasm (46.3 MB) is not on this machine yet" in shown
    assert "tiny-bert-sarcasm-lora-r4-s0-?" not in shown
    assert "time unknown: model or data are not on this machine yet" in shown
    hub = launched("model=org/name", "task=sarcasm", "rank=4", "--dry-run")
    assert "name-sarcasm-lora-r4-s0-?" in hub.stdout
    assert not list(tmp_path.glob("cache/sarcasm*"))


def test_a_dry_run_knows_what_is_recorded_failed_and_in_progress(small_run: list[str]) -> None:
    full, first, second, third, fourth = plan([*small_run, "rank=1,2,3,4"])
    record_as(full, "completed")
    record_as(first, "completed")
    record_as(second, "failed", reason="an [odd] end")
    store = store_of(small_run)
    with lease(third.folder) as mine:
        assert mine
        before = files_in(store)
        done = launched(*small_run, "rank=1,2,3,4", "-m", "--dry-run")
        assert files_in(store) == before
    ids = [run.run_id for run in (full, first, second, third, fourth)]
    expected = ("recorded", "recorded", "failed", "in", "missing")
    assert states(done.stdout) == dict(zip(ids, expected, strict=True))
    assert "an [odd] end" in done.stdout
    forced = launched(*small_run, "rank=1", "force=true", "--dry-run").stdout
    assert set(states(forced).values()) == {"forced"}


def test_a_recorded_configuration_runs_again(small_run: list[str]) -> None:
    typed = ["rank=2", "method.target_modules=[query,value]", "train.learning_rate=1e-4", "reference=false"]
    (run,) = plan([*small_run, *typed])
    record_as(run, "completed")
    for path in (run.folder / "config.yaml", run.folder):
        done = launched("--config", str(path), "--dry-run")
        assert states(done.stdout) == {run.run_id: "recorded"}, done.stdout
    seeds = launched("--config", str(run.folder), "seed=0,1", "-m", "--dry-run")
    assert sorted(states(seeds.stdout).values()) == ["missing", "recorded"]
    again = launched("--config", str(run.folder), "force=true", "--dry-run")
    assert states(again.stdout) == {run.run_id: "forced"}


SWEEP = """\
# @package _global_
defaults:
  - override /task: mine
rank: 4
method: {alpha: 32}
train: {learning_rate: 2e-3, epochs: 2}
hydra:
  sweeper:
    params: {rank: "4,8", seed: "0,1"}
"""


def test_a_configuration_that_aliases_make_endless_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))]
    (tmp_path / "config.yaml").write_text("\n".join([*lines, "task: {}", "method: {}"]))
    done = launched("--config", str(tmp_path), "--dry-run")
    assert (done.returncode, "aliases" in done.stdout) == (2, True)


def test_a_sweep_lies_in_a_file_of_the_users_own(small_run: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "my conf"
    words = [word.removeprefix("task.") for word in small_run if word.startswith("task.")]
    values = "".join(f"{word.replace('=', ': ', 1)}\n" for word in words)
    task = f"defaults: [_base, _self_]\nname: mine\nsource: local\n{values}"
    for group, text in (("experiment", SWEEP), ("task", task)):
        (folder / group).mkdir(parents=True)
        (folder / group / "mine.yaml").write_text(text)
    typed = [word for word in small_run if not word.startswith("task")]
    done = ran(*typed, "experiment=mine", "--config-dir", str(folder), "seed=7,8", "-m", "--dry-run")
    runs = [line.split()[1] for line in done.splitlines() if line.startswith("missing")]
    assert [run.rpartition("-")[0] for run in runs] == [
        f"tiny-bert-mine-{arm}"
        for arm in ("full-s7", "lora-r4-s7", "full-s8", "lora-r4-s8", "lora-r8-s7", "lora-r8-s8")
    ]
    assert not store_of(small_run).exists()
    shown = launched(*typed, "+experiment=mine", "--config-dir", str(folder), "--cfg=job")
    shown_config = OmegaConf.create(shown.stdout)
    assert (shown_config.method.alpha, shown_config.task.max_length) == (32, 128)


def test_a_sweep_may_join_grids_of_a_file(small_run: list[str], tmp_path: Path) -> None:
    """What is typed counts before what stands there, and a run of two grids is one."""
    grids = tmp_path / "two grids.json"
    grids.write_text(json.dumps([["rank=4,8", "train.epochs=9"], ["rank=8,${seed}"]]))
    typed = ["train.epochs=2", "seed=3", "reference=false", f"hydra.sweeper.grids='{grids}'"]
    done = ran(*small_run, *typed, "-m", "--dry-run")
    runs = [line.split()[1].rpartition("-")[0] for line in done.splitlines() if line.startswith("missing")]
    assert [run.partition("lora-")[2] for run in runs] == ["r4-s3", "r8-s3", "r3-s3"]


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        (["rank=2,4"], "type -m"), (["method=lora,lroa", "-m"], "method=lroa"),
        (["experiment=mine"], "--config-dir DIR"), (["rank=glob(*)", "-m"], "rank=1,2"),
        (["rank=interval(1,8)", "-m"], "hydra/sweeper=search"),
        (["hydra/sweeper=optuna", "--dry-run"], "leave hydra/"),
        (["hydra/sweeper=optuna", "--cfg=job"], "leave hydra/"), (["hydra/sweeper=search"], "rank=1,2,4,8"),
        (["hydra/launcher=jobli"], "hydra/launcher"), (["--config", "/no/such.yaml"], "/no/such.yaml"),
        (["--config-dir", "/no/such", "rank=2"], "/no/such"), (["rank"], "rank"), (["--dry"], "--dry"),
        (["hydra.launcher._target_=os.system", "rank=2"], "hydra/launcher=joblib"),
        (["--resolve"], "--resolve"), (["--cfg=job", "rnak=8"], "rnak"), (["nowhere=1"], "there is no key nowhere"),
        (["--rank", "8"], "type rank=8"), (["--lora_alpha=16"], "type method.alpha=16"),
        (["train.lr=1e-3"], "did you mean train.learning_rate?"), (["train.dropout=no"], "method.dropout"),
    ],
)  # fmt: skip
def test_a_slip_or_a_word_of_another_trainer_is_answered(typed: list[str], named: str) -> None:
    done = launched(*typed)
    shown = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2, shown
    assert named in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(("file", "extra"), EXTRAS.items())
def test_an_extra_that_is_not_installed_is_named(file: str, extra: str) -> None:
    with pytest.raises(ConfigError, match=rf"{file} is not installed; type pip .*\[{extra}\]"), in_our_words():
        raise MissingConfigException("no such file", file)


def test_a_working_folder_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = launched("rank=2", "--dry-run")
    assert (done.returncode, "is gone; cd to" in done.stdout) == (2, True)


def link(path: Path, to: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(to)


@pytest.mark.parametrize(
    ("typed", "named"), [("", "is a link"), ("checkpoints", "is a link"), ("task.name=hf_" + "a1" * 10, "task.name=")]
)
def test_what_a_run_would_harm_or_show_is_refused_before_it_begins(
    typed: str, named: str, small_run: list[str], tmp_path: Path
) -> None:
    """A linked folder or checkpoints, behind which are those of another; a key in the folder's name."""
    foreign = tmp_path / "foreign"
    for name in ("step-000001", "step-000002", "step-000003"):
        (foreign / name).mkdir(parents=True)
    words = [*small_run, "rank=2", "force=true"]
    link(plan(words)[1].folder / typed, foreign)
    done = launched(*words, *[typed] * ("=" in typed))
    assert (done.returncode, named in done.stdout) == (2, True), done.stdout
    assert len([*foreign.iterdir()]) == 3


def test_of_the_processes_of_a_machine_one_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert "rnak" in launched("rnak=8").stdout  # a variable that was left in the shell silences nothing
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    done = launched("rnak=8")
    assert (done.returncode, done.stdout) == (2, "")


def test_help_answers_without_torch_from_any_folder(tmp_path: Path) -> None:
    code = "import sys; sys.argv[1:] = ['--help']\ntry:\n    from lorax_lab.launch.entry import launch; launch()\n"
    code += "finally:\n    print('torch' in sys.modules, file=sys.stderr)"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120)
    assert done.stderr.splitlines()[-1] == "False"
    for flag in ("--dry-run", "--config RUN/config.yaml", "--config-dir DIR", "--cfg job", "--version", "-m"):
        assert flag in done.stdout
    assert all(f"  {dial}=" in done.stdout for dial in ("model", "task", "method", "rank", "seed"))
    assert not any(tmp_path.iterdir())
