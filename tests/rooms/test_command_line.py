"""Flags, files and the console command: what is listed, run again, refused; nothing here trains."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import Lab
from recorded import run_record

import lorax_lab
from lorax_lab.config.overrides import expand
from lorax_lab.errors import ConfigError
from lorax_lab.launch.arguments import read
from lorax_lab.launch.command import COMMANDS
from lorax_lab.launch.compose import compose
from lorax_lab.launch.files import overrides_of, written_out
from lorax_lab.launch.launchers import start
from lorax_lab.launch.leases import acquire
from lorax_lab.launch.plan import Run, plan
from lorax_lab.launch.references import reference_overrides
from lorax_lab.launch.sweep import Sweep
from lorax_lab.record.folder import save_config
from lorax_lab.record.record import write_record

ROOT = Path(__file__).parents[2]


def store_of(overrides: list[str]) -> Path:
    return Path(next(override for override in overrides if override.startswith("runs_dir=")).partition("=")[2])


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def record_as(run: Run, status: str, **changes: object) -> None:
    """A record of a run that never ran, with its `config.yaml`."""
    config = dataclasses.asdict(run.config)
    save_config(run.folder, config)
    method, rank, seed = run.config.method.name, run.config.rank, run.config.seed
    fields = {"status": status, "config": config, "method": method, "rank": rank, "seed": seed} | changes
    write_record(run.folder, run_record(run.run_id, **fields))


# --dry-run


def test_a_dry_run_lists_every_run_and_writes_nothing(small_run: list[str], lab_here: Lab) -> None:
    sweep = [*small_run, "rank=2,4", "seed=0,1", "-m"]
    done = lab_here(*sweep, "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not store_of(small_run).exists()
    runs = plan(sweep[:-1], multirun=True)
    assert len(runs) == 6
    for run in runs:
        assert f"missing     {run.run_id}  method={run.config.method.name}" in done.stdout
    assert "method=lora rank=4 seed=1\n" in done.stdout
    assert "6 runs: 6 missing" in done.stdout
    assert "time unknown: there is no recorded run of the same method, model and task" in done.stdout


def test_a_dry_run_knows_what_is_recorded_failed_and_in_progress(small_run: list[str], lab_here: Lab) -> None:
    runs = plan([*small_run, "rank=1,2,3,4"], multirun=True)
    full, first, second, third, fourth = runs
    time = run_record().completed.time
    record_as(full, "completed", time=dataclasses.replace(time, total_seconds=100.0))
    record_as(first, "completed", time=dataclasses.replace(time, total_seconds=50.0))
    record_as(second, "failed", reason="an [odd] end")
    store = store_of(small_run)
    lease = acquire(store, third.run_id)
    with lease:  # type: ignore[union-attr]
        before = files_in(store)
        done = lab_here(*small_run, "rank=1,2,3,4", "-m", "--dry-run")
        assert files_in(store) == before
    lines = done.stdout.splitlines()
    states = {run.run_id: next(line for line in lines if run.run_id in line) for run in runs}
    assert states[full.run_id].startswith("recorded")
    assert states[first.run_id].startswith("recorded")
    assert states[second.run_id].startswith("failed")
    assert states[second.run_id].endswith("(failed: an [odd] end)")
    assert states[third.run_id].startswith("in progress")
    assert f"process {os.getpid()} on" in states[third.run_id]
    assert states[fourth.run_id].startswith("missing")
    assert "about 100 s, " not in done.stdout
    assert "about 2 min, one run after the other, by recorded runs" in done.stdout  # two LoRA runs of 50 s
    forced = lab_here(*small_run, "rank=1", "force=true", "--dry-run").stdout
    assert "2 runs: 2 forced" in forced


def test_a_dry_run_says_for_how_many_the_time_is_unknown(small_run: list[str], lab_here: Lab) -> None:
    full, *_ = plan([*small_run, "rank=1,2"], multirun=True)
    record_as(full, "completed")
    done = lab_here(*small_run, "rank=1", "seed=0,1", "-m", "--dry-run")
    assert "about 1 s for 1 of 3 runs, by recorded runs" in done.stdout
    assert "unknown for the other 2" in done.stdout


# --config


def test_a_recorded_configuration_runs_again(small_run: list[str], lab_here: Lab) -> None:
    typed = [
        *small_run,
        "rank=2",
        "method.target_modules=[query,value]",
        "method.dropout=0.1",
        "train.learning_rate=1e-4",
        "reference=false",
    ]
    (run,) = plan(typed, multirun=False)
    record_as(run, "completed")
    for path in (run.folder / "config.yaml", run.folder):
        done = lab_here("--config", str(path))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 of 1 already recorded in" in done.stdout
        assert "note:" not in done.stdout
    seeds = lab_here("--config", str(run.folder), "seed=0,1", "-m", "--dry-run")
    assert "2 runs: 1 recorded, 1 missing" in seeds.stdout
    assert f"recorded    {run.run_id}" in seeds.stdout
    again = lab_here("--config", str(run.folder), "force=true", "--dry-run")
    assert "1 run: 1 forced" in again.stdout


@pytest.mark.parametrize(
    "typed",
    [[], ["method=full"], ["task=glue/mrpc", "rank=2"], ["task.text=null", "model='/a b/c,d'"],
     ["train.precision=bf16"],
     ["task=local", "task.path='it''s, here.csv'", "task.text='a=b'", "task.label=l", "measure=trial"]],
)  # fmt: skip
def test_a_recorded_configuration_says_the_same_as_what_was_typed(tmp_path: Path, typed: list[str]) -> None:
    config = compose([override.replace("''", "\\'") for override in typed])
    save_config(tmp_path, dataclasses.asdict(config))
    (job,) = expand(overrides_of(read(["--config", str(tmp_path)])))
    assert compose(job) == config
    if config.method.name != "full":
        theirs = compose(reference_overrides([override.replace("''", "\\'") for override in typed]))
        assert compose(reference_overrides(job)) == theirs


def test_what_is_typed_counts_before_the_recorded_configuration(tmp_path: Path) -> None:
    save_config(tmp_path, dataclasses.asdict(compose(["rank=2", "method.alpha=3", "task.train_examples=64"])))
    (job,) = expand(overrides_of(read(["--config", str(tmp_path), "method=full", "seed=3"])))
    config = compose(job)
    assert (config.method.name, config.rank, config.seed, config.task.train_examples) == ("full", None, 3, 64)
    assert config.train.learning_rate == compose(["method=full"]).train.learning_rate


def test_a_recorded_configuration_that_is_another_run_today_is_told(small_run: list[str], lab_here: Lab) -> None:
    (run,) = plan([*small_run, "rank=2", "reference=false"], multirun=False)
    record_as(run, "completed")
    elsewhere = run.folder.rename(run.folder.with_name("tiny-of-other-data"))
    done = lab_here("--config", str(elsewhere), "--dry-run")
    assert "note: tiny-of-other-data was recorded; " in done.stdout
    assert f"this is another run: {run.run_id}" in done.stdout


def _with_key(content: dict) -> None:
    content["train"]["momentum"] = 0.9


def _without_method(content: dict) -> None:
    del content["method"]


def _with_text_for_a_section(content: dict) -> None:
    content["task"] = "movie_reviews"


def _with_code(content: dict) -> None:
    content["runs_dir"] = "${oc.env:HOME}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with_key, "does not fit this version: there is no key train.momentum"),
        (_without_method, "is no run's configuration, or not whole: it has no method"),
        (_with_text_for_a_section, "is no run's configuration: task, method, train and tracking are sections"),
        (_with_code, "${oc.env:HOME} is not possible"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    tmp_path: Path, lab_here: Lab, change: Callable[[dict], None], message: str
) -> None:
    content = dataclasses.asdict(compose([]))
    change(content)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    done = lab_here("--config", str(tmp_path / "config.yaml"))
    assert done.returncode == 2
    assert message in done.stdout


def test_a_configuration_that_is_not_there_is_refused(tmp_path: Path, lab_here: Lab) -> None:
    done = lab_here(f"--config={tmp_path / 'none.yaml'}")
    assert (done.returncode, "cannot be read" in done.stdout) == (2, True)


# --config-dir


SWEEP = """\
# @package _global_
defaults:
  - override /task: glue/mrpc
rank: 4
method: {alpha: 32}
train: {learning_rate: 2e-3, epochs: 2}
hydra:
  sweeper:
    params: {rank: "4,8", seed: "0,1"}
"""


def experiment(folder: Path, text: str, name: str = "mine") -> str:
    path = folder / "my conf" / "experiment" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return f"--config-dir={path.parents[1]}"


def test_a_sweep_lies_in_a_file_of_the_users_own(tmp_path: Path) -> None:
    for name in ("experiment=mine", "+experiment=mine"):
        jobs = expand(overrides_of(read([name, experiment(tmp_path, SWEEP), "-m"])))
        configs = [compose(job) for job in jobs]
        assert [(config.rank, config.seed) for config in configs] == [(4, 0), (4, 1), (8, 0), (8, 1)]
        first = configs[0]
        assert (first.task.name, first.method.alpha, first.train.learning_rate, first.train.epochs) == (
            "glue/mrpc", 32.0, 2e-3, 2,
        )  # fmt: skip
        reference = compose(reference_overrides(jobs[0]))
        assert (reference.method.name, reference.rank, reference.train.epochs) == ("full", None, 2)
        assert reference.train.learning_rate == compose(["method=full"]).train.learning_rate


def test_what_is_typed_counts_before_the_file(tmp_path: Path) -> None:
    folder = experiment(tmp_path, SWEEP)
    jobs = expand(overrides_of(read(["experiment=mine", folder, "seed=7", "train.epochs=1"])))
    assert [(compose(job).rank, compose(job).seed, compose(job).train.epochs) for job in jobs] == [(4, 7, 1), (8, 7, 1)]
    (one, other) = expand(overrides_of(read(["experiment=mine", folder, "method=full"])))
    assert (compose(one).rank, compose(one).seed, compose(other).seed) == (None, 0, 1)


def test_a_task_of_the_users_own_lies_in_a_file(tmp_path: Path) -> None:
    folder = experiment(tmp_path, SWEEP)
    path = tmp_path / "my conf" / "task" / "mine.yaml"
    path.parent.mkdir()
    path.write_text("defaults: [_base, _self_]\nname: mine\nsource: local\npath: p.csv\ntext: t\nlabel: l\n")
    jobs = expand(overrides_of(read(["task=mine,movie_reviews", folder])))
    assert [compose(job).task.name for job in jobs] == ["mine", "movie_reviews"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rnak: 4", "experiment=mine: there is no key rnak; did you mean 'rank'"),
        ("rank: four", "rank=four is not possible: it is a whole number"),
        ("runs_dir: ${oc.env:HOME}", "${oc.env:HOME} is not possible"),
        ("hydra: {callbacks: {x: {_target_: os.system}}}", "_target_ is not possible"),
        ("hydra: {launcher: {_target_: os.system}}", "_target_ is not possible"),
        ("hydra: {job: {chdir: true}}", "there is no key hydra.job.chdir here"),
        ("hydra: {sweeper: {max_batch_size: 2}}", "hydra/sweeper is not possible: a sweeper such as Optuna's"),
        ("defaults: [override /hydra/sweeper: optuna]", "hydra/sweeper is not possible: a sweeper such as Optuna's"),
        ("hydra: {sweeper: {params: {rnak: '1,2'}}}", "there is no key rnak"),
        ("hydra: {launcher: {n_jobs: 2}}", "n_jobs"),
    ],
)
def test_a_file_is_checked_as_what_is_typed(tmp_path: Path, lab_here: Lab, text: str, message: str) -> None:
    folder = experiment(tmp_path, f"# @package _global_\n{text}\n")
    done = lab_here("experiment=mine", folder, "--dry-run", f"runs_dir={tmp_path / 'runs'}")
    assert done.returncode == 2, done.stdout
    assert message in done.stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["experiment=other"], "did you mean 'mother'"),
        (["experiment=mine,mother"], "one experiment at a time"),
        (["experiment=mine", "--config-dir=/no/such/folder"], "there is no such folder"),
    ],
)
def test_an_experiment_that_is_not_there_is_refused(tmp_path: Path, typed: list[str], message: str) -> None:
    experiment(tmp_path, SWEEP)
    folder = experiment(tmp_path, SWEEP, "mother")
    with pytest.raises(ConfigError, match=message):
        overrides_of(read([folder, *typed]))


def test_an_experiment_needs_its_folder() -> None:
    with pytest.raises(ConfigError, match=r"type --config-dir DIR, which has experiment/mine\.yaml"):
        overrides_of(read(["+experiment=mine"]))


def test_settings_written_out_are_read_back() -> None:
    content = {"a": "it's", "b": None, "c": [1, "x y"], "d": {"e": 1e-5, "f": "a,b", "g": "{}"}, "h": "\\'", "i": ""}
    (job,) = expand(written_out(content))
    assert job == written_out(content)
    from hydra.core.override_parser.overrides_parser import OverridesParser

    values = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(job)}
    plain = {key: value for key, value in content.items() if key != "d"} | {
        f"d.{key}": value
        for key, value in content["d"].items()  # type: ignore[union-attr]
    }
    assert values == plain


def test_every_planned_run_is_a_job_or_the_reference_of_one(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(plan([*small_run, "rank=1,2", "seed=0,1"], multirun=True))
    tried: list[str] = []
    monkeypatch.setattr(sweep, "try_once", lambda run, wait=False: tried.append(run.run_id))
    started: list[int] = []
    start(lambda number: (started.append(number), sweep.job(number)), len(sweep.jobs), [], sweep.runs_dir)
    assert started == [0, 1, 2, 3]
    assert list(dict.fromkeys(tried)) == [run.run_id for run in sweep.runs]
    for run in sweep.runs:
        assert run.reference is None or tried.index(run.reference) < tried.index(run.run_id)


# flags and commands


def test_hydra_shows_the_first_run_of_a_sweep_in_a_file(tmp_path: Path, lab_here: Lab) -> None:
    done = lab_here("--cfg=job", "experiment=mine", experiment(tmp_path, SWEEP))
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("# the first of 4 runs\n")
    assert yaml.safe_load(done.stdout)["method"]["alpha"] == 32


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--dry"], "--dry is not possible; did you mean '--dry-run'"),
        (["--config"], "expected one argument; --help lists"),
        (["-cn", "x"], "type --config FILE"),
        (["--experimental-rerun=x"], "type --config RUN/config.yaml"),
        (["hydra/sweeper=optuna"], "chooses each run by the results of those before"),
        (["hydra.sweeper.max_batch_size=1"], "chooses each run by the results of those before"),
        (["hydra.sweeper.params.rank=1,2"], "belongs into a file of --config-dir; type rank=1,2 -m"),
        (["hydra.launcher.n_jobs=2"], "type hydra/launcher=joblib as well"),
        (["hydra.verbose=true"], "there is no key hydra.verbose"),
        (["--cfg=job", "+hydra.callbacks.x._target_=os.system"], "_target_ is not possible"),
        (["--cfg=job", "rnak=8"], "there is no key rnak"),
        (["--shell-completion", "install=bash"], "lorax-lab --shell-completion install=bash"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(lab_here: Lab, typed: list[str], message: str) -> None:
    done = lab_here(*typed)
    assert done.returncode == 2
    assert message in done.stdout
    assert done.stdout.startswith("error: ")
    assert "Traceback" not in done.stdout + done.stderr


def test_flags_stand_anywhere() -> None:
    for typed in (["-m", "rank=1,2", "seed=1"], ["rank=1,2", "-m", "seed=1"], ["rank=1,2", "seed=1", "--multirun"]):
        arguments = read(typed)
        assert (arguments.multirun, arguments.overrides) == (True, ["rank=1,2", "seed=1"])


def test_the_version_is_ours(lab_here: Lab) -> None:
    assert lab_here("--version").stdout == f"lorax_lab {lorax_lab.__version__}\n"


def command(*typed: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    code = "import sys; sys.argv[0] = 'lorax-lab'; from lorax_lab.launch.command import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *typed], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_help_as_its_module_does(name: str) -> None:
    ours = command(name, "--help")
    assert ours.returncode == 0, ours.stderr
    assert "usage:" in ours.stdout or "examples:" in ours.stdout


def test_help_answers_without_torch() -> None:
    code = "import sys; sys.argv[1:] = ['--help']\ntry:\n    from lorax_lab.launch.entry import launch; launch()\n"
    code += "finally:\n    print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stderr.splitlines()[-1] == "False"
    for flag in ("--dry-run", "--config RUN/config.yaml", "--config-dir DIR", "--cfg job", "--version", "-m"):
        assert flag in done.stdout


def test_the_command_lists_its_commands_and_suggests() -> None:
    shown = command("--help").stdout
    assert all(f"  {name} " in shown and each.does in shown for name, each in COMMANDS.items())
    assert command("--version").stdout == f"lorax_lab {lorax_lab.__version__}\n"
    wrong = command("rum")
    assert (wrong.returncode, "did you mean 'run'" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("line", "proposed"),
    [
        ("lorax-lab ", set(COMMANDS)),
        ("lorax-lab run task=", {"task=movie_reviews", "task=tweets"}),
        ("lorax-lab run rank=4 method.", {"method.alpha="}),
        ("lorax-lab audit ", set()),
    ],
)
def test_the_shell_completes(line: str, proposed: set[str]) -> None:
    done = command("--shell-completion", "query=bash", COMP_LINE=line)
    assert done.returncode == 0, done.stderr
    words = set(done.stdout.split())
    assert proposed <= words
    assert bool(words) == bool(proposed)
    assert json.dumps(sorted(words)).isascii()


def test_a_text_longer_than_the_model_reads_is_refused_before_it_trains(
    small_run: list[str], lab_here: Lab, tmp_path: Path
) -> None:
    rows = [f"{' '.join(['film'] * (i % 90))} good {i},{'yes' if i % 2 else 'no'}" for i in range(240)]
    (tmp_path / "long.csv").write_text("\n".join(["sentence,label", *rows]) + "\n")
    done = lab_here(*small_run, f"task.path={tmp_path / 'long.csv'}", "rank=2")
    assert done.returncode == 2
    assert "model=" in done.stdout
    assert "reads 64; type task.max_length=64" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_a_store_that_is_a_file_is_refused(small_run: list[str], lab_here: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for more in ([], ["--dry-run"]):
        done = lab_here(*small_run, "rank=2", f"runs_dir={tmp_path / 'file'}", *more)
        assert done.returncode == 2
        assert "is a file; name a folder" in done.stdout


def test_a_configuration_cut_at_a_lines_end_is_not_another_run(tmp_path: Path) -> None:
    save_config(tmp_path, dataclasses.asdict(compose(["rank=2"])))
    lines = (tmp_path / "config.yaml").read_text().splitlines()
    cut = lines[: next(i for i, line in enumerate(lines) if line.startswith("rank"))]
    (tmp_path / "config.yaml").write_text("\n".join(cut) + "\n")
    with pytest.raises(ConfigError, match="not whole: it has no rank, seed"):
        overrides_of(read(["--config", str(tmp_path)]))


def test_values_that_cannot_be_listed_are_named() -> None:
    with pytest.raises(ConfigError, match=r"has no list of values; list them, as in train.learning_rate=1,2,3"):
        expand(["train.learning_rate=interval(0,1)"])


@pytest.mark.parametrize("which", ["job", "hydra", "all"])
def test_what_cfg_can_print(which: str) -> None:
    assert read(["--cfg", which]).config_of == which
