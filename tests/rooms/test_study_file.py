"""A study that a YAML file declares."""

from pathlib import Path

import pytest

from experiments.__main__ import main, read
from lorax_lab.errors import ConfigError

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


def test_help_has_a_whole_study(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--help"]) == 0
    example = "\n".join(line[4:] for line in capsys.readouterr().out.splitlines() if line.startswith("    "))
    assert read(file(tmp_path, example)).plan().protocol.arms[1].rank == 1
