"""What one answer for every input scores: as the tasks' own metrics say, and known of every published study."""

from pathlib import Path

import numpy as np
import pytest
from synthetic import study

from analysis import constant
from analysis.study.figures import FIGURES
from analysis.study.records import RECORDS
from experiments import constants as command
from lorax_lab.study.published import read_lines
from lorax_lab.tasks import KINDS

WITHOUT = ("planted",)
"""Studies whose labels a teacher makes anew: the line is that of a guess."""
METRICS = [(kind, name) for kind in ("classification", "regression") for name in KINDS[kind].metrics]


@pytest.mark.parametrize(("kind", "metric"), METRICS)
@pytest.mark.parametrize("classes", [2, 5])
def test_a_constant_answer_scores_what_the_tasks_own_metric_gives_it(kind: str, metric: str, classes: int) -> None:
    shares = np.arange(1, classes + 1) / (classes + 1) / classes * 2
    labels = np.random.default_rng(classes).choice(classes, 200, p=shares)
    own = KINDS[kind].metrics[metric].constant
    found = constant.of_labels(metric, labels, classes)
    if own is None:
        assert found is None
    else:
        assert found[0] == pytest.approx(own(labels, classes))


def test_every_published_accuracy_has_its_majority_class() -> None:
    known = constant._known()
    for path in sorted(path.parent for path in RECORDS.glob("*/runs.parquet")):
        for line in read_lines(path):
            if line.get("metric") != "accuracy" or path.stem in WITHOUT or "test" not in line["inputs"]["examples"]:
                continue
            of = [key for key in known if (key[0], key[2]) == (path.stem, line["inputs"]["data_sha256"])]
            assert ("test", line["inputs"]["examples"]["test"]) in {(key[3], key[4]) for key in of}, (
                f"type: python -m experiments.constants {path.stem}"
            )


def test_the_command_writes_one_studys_rows_and_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = constant.read()
    before.assign(constant=0.25).to_csv(tmp_path / "constants.csv", index=False)
    for module in (constant, command):
        monkeypatch.setattr(module, "FILE", tmp_path / "constants.csv")
    rows = before[before["study"] == "rank_sweep"].to_dict("records")
    monkeypatch.setattr(command, "rows_of", {"rank_sweep": rows}.__getitem__)
    assert command.main(["rank_sweep"]) == 0
    after = constant.read()
    mine = after["study"] == "rank_sweep"
    assert after[mine].to_dict("records") == rows
    assert len(after) == len(before)
    assert set(after[~mine]["constant"]) == {0.25}


def test_a_studys_scores_have_the_line() -> None:
    figure = FIGURES["functional"].draw(FIGURES["functional"].table(study()))
    names = [name for axes in figure.axes for name in axes.get_legend_handles_labels()[1]]
    assert names.count(constant.GUESS) == 1
    assert [0.5, 0.5] in [list(line.get_ydata()) for axes in figure.axes for line in axes.lines]
