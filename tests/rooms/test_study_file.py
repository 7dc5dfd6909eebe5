"""A study that a YAML file declares."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from here import until

from experiments.__main__ import main, read
from experiments.study import run_sweep
from lorax_lab.errors import ConfigError
from lorax_lab.study.published import read_lines

STUDY = """
question: Does rank 1 do?
prediction: It keeps 90 %.
factors: {task: {tweets: [task=tweets]}}
arms:
  full: {overrides: [method=full], lowest: 5e-5}
  LoRA r=1: {overrides: [method=lora, rank=1], lowest: 5e-4}
common: [task.pooling=mean]
rates: 2
seeds: [3, 4, 5, 6, 7]
"""


def file(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_a_study_with_arms_seeds_and_prediction(tmp_path: Path) -> None:
    study = read(file(tmp_path, STUDY))
    plan = study.plan()
    assert study.PREDICTION == "It keeps 90 %."
    assert [(arm.name, arm.rank, arm.lowest) for arm in plan.protocol.arms] == [
        ("full", None, 5e-5),
        ("LoRA r=1", 1, 5e-4),
    ]
    assert (plan.protocol.reference, plan.protocol.rates, plan.protocol.final_seeds) == ("full", 2, (3, 4, 5, 6, 7))
    assert list(plan.conditions) == ["tweets"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (STUDY.replace("arms:", "arm:"), "has no arms"),
        (STUDY + "margn: 0.02\n", "there is no key margn; did you mean 'margin'"),
        (STUDY.replace("lowest: 5e-5", "rate: 5e-5"), "lowest"), ("- a\n- b\n", "mine.yaml"),
        (STUDY.replace("rates: 2", "rates: 0"), "rates are 1 or more"),
        (STUDY + "selection_seeds: []\n", "seeds stand there"),
        (STUDY.replace("[3, 4, 5, 6, 7]", "[3, 3]"), "each once"),
        (STUDY.replace("[3, 4, 5, 6, 7]", "[100, 1]"), "no seed is of both kinds"),
        (STUDY.replace("[method=full]", "method=full"), "overrides"), (STUDY + "margin: big\n", "big"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read(file(tmp_path, text))


def test_records_of_a_file_go_beside_it(tmp_path: Path) -> None:
    assert main([str(file(tmp_path, STUDY)), "--declare"]) == 0
    assert (tmp_path / "records" / "mine" / "declaration.json").is_file()


@pytest.mark.slow
def test_all_missing_runs_of_a_study_are_one_sweep(
    tiny: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One of its trials, of both arms, and one of its final runs, of both arms and seeds."""
    words = json.dumps([word for word in tiny if not word.startswith(("runs_dir=", "tracking=", "workers="))])
    text = STUDY.replace("[task=tweets]", words).replace("rates: 2", "rates: 1\nextensions: 0")
    study = str(file(tmp_path, text.replace("[3, 4, 5, 6, 7]", "[3, 4]")))
    assert main([study, "--runs", str(tmp_path / "runs"), "tracking=disabled", "workers=1"]) == 0
    printed = capfd.readouterr().out
    assert [printed.count(place) for place in ("[2/2]", "[4/4]", "runs in ")] == [2, 2, 2]
    assert len(read_lines(tmp_path / "records" / "mine")) == 6


def test_a_study_of_the_folder_is_one_with_a_module_or_one_that_is_declared(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("capacity", "shallow"):
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        assert f"python -m experiments {name}" in capsys.readouterr().out
    assert main(["shalow", "--dry-run"]) == 2
    assert "did you mean 'shallow'" in capsys.readouterr().err


def test_a_module_that_is_run_by_itself_says_what_to_type() -> None:
    done = subprocess.run([sys.executable, "-m", "experiments.capacity"], capture_output=True, text=True, check=False)
    assert (done.returncode, "type: python -m experiments capacity" in done.stderr) == (1, True)


def test_help_has_a_whole_study(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--help"]) == 0
    example = "\n".join(line[4:] for line in capsys.readouterr().out.splitlines() if line.startswith("    "))
    assert read(file(tmp_path, example)).plan().protocol.arms[1].rank == 1


def test_a_sweep_ends_where_its_records_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("experiments.study.LOOK", 0.1)
    ready, ended = tmp_path / "ready", tmp_path / "ended"
    text = f"""import signal, time
signal.signal(15, lambda *_: (open({str(ended)!r}, "w"), exit(1)))
open({str(ready)!r}, "w")
time.sleep(60)"""

    def full_disk() -> None:
        until(ready.exists)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        run_sweep([sys.executable, "-c", text], full_disk)
    assert ended.exists()
