"""Arms of a store against each other: paired differences, shares, and what cannot be said."""

import html
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ran
from rich.console import Console
from stores import Store

from analysis.__main__ import main
from analysis.compare import compare, groups
from analysis.figures import FIGURES
from analysis.groups import load
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose
from lorax_lab.launch.table import Row, table
from lorax_lab.record.folder import OUTPUTS, save_arrays
from lorax_lab.record.record import read_record, write_record
from lorax_lab.windows.contents import record_values

SCORES = {"full": 0.9, 4: 0.8, 8: 0.88, "head": 0.7}
"""Of full fine-tuning, of LoRA of rank 4 and 8, and of the head alone; 1,000 test examples."""


def answers(score: float, draw: int) -> dict[str, np.ndarray]:
    correct = np.zeros(1000, bool)
    correct[np.random.default_rng(draw).permutation(1000)[: round(1000 * score)]] = True
    return {"outputs": np.zeros((1000, 2), np.float32), "correct": correct}


def store(
    folder: Path, seeds: int, fitted: bool = True, scores: Any = SCORES, missing: Any = (), validation: Any = None
) -> Path:
    """A store whose full fine-tunes have fitted a head alone and were cut, or where an arm trained it."""
    made = Store(folder)
    for seed in range(seeds):
        for number, (arm, score) in enumerate(scores.items()):
            if (arm, seed) in missing or (arm == "head" and fitted):
                continue
            score = score[seed] if isinstance(score, tuple) else score
            rank, is_full = arm if isinstance(arm, int) else None, arm == "full"
            baselines = {"head/accuracy": scores["head"]} if is_full and fitted else None
            method = "head" if arm == "head" else ""
            run = made.run(rank=rank, seed=seed, test=score, validation=validation, method=method, baselines=baselines)
            saved = {"test": answers(score, 10 * seed + number) | {"labels": np.zeros(1000, np.int64)}}
            if is_full and fitted:
                saved |= {"head/0": answers(scores["head"], 5), "cut/16": saved["test"], "cut/2": answers(0.75, seed)}
            save_arrays(run / OUTPUTS, saved)
    return folder


@pytest.mark.parametrize("fitted", [True, False])
def test_arms_are_paired_with_full_fine_tuning_and_have_their_share_of_what_it_brings(
    fitted: bool, tmp_path: Path
) -> None:
    (group,) = groups(store(tmp_path / "runs", 3, fitted))
    facts = compare(group)
    assert facts["why"] == ""
    rows = facts["table"].set_index("arm")
    assert facts["reference"] == "full fine-tuning"
    assert rows.loc["LoRA r = 8", "difference"] == pytest.approx(-0.02)
    assert rows.loc["LoRA r = 8", "difference_low"] < -0.02 < rows.loc["LoRA r = 8", "difference_high"]
    assert rows.loc["LoRA r = 8", "share"] == pytest.approx(0.9)
    assert rows.loc["LoRA r = 4", "share"] == pytest.approx(0.5)
    assert [of["sizes"][0.8].mean for of in facts["enough"]] == [8, 16][: 1 + fitted]
    with pytest.raises(ConfigError, match=r"r = 1 is in the names of 0 arms.*LoRA r = 4"):
        compare(group, "r = 1")  # though it begins r = 16
    against = compare(group, "r = 4")["table"].set_index("arm")
    assert against.loc["LoRA r = 8", "difference"] == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("seeds", "scores", "said"),
    [
        (1, {"full": 0.9, 4: 0.9, 8: 0.9, "head": 0.7}, "One seed is not enough to tell which rank of LoRA"),
        (3, {"full": 0.9, 4: 0.8, 8: 0.9, "head": 0.7}, "the linear probe from rank 8 on, 95 % interval 8 to 8"),
        (3, {"full": 0.9, 4: (0.86, 0.88, 0.9), 8: 0.9, "head": 0.7}, "probe from rank 4 on, 95 % interval 4 to 8"),
        (3, {"full": 0.9, 4: 0.8, 8: (0.86, 0.885, 0.91), "head": 0.7}, "from rank 8 on, 95 % interval 8 or more (tes"),
        (
            3,
            {"full": 0.9, 4: 0.8, 8: (0.85, 0.87, 0.9), "head": 0.7},
            "No rank of LoRA up to 8 retains on average 90 %",
        ),
        (3, {"full": 0.9, 4: 0.7, 8: 0.75, "head": 0.6}, "Every rank of LoRA up to 8 retains significantly less"),
        (1, {"full": 0.6, 4: 0.9, 8: 0.9, "head": 0.7}, "does not beat the linear probe (0.600 and 0.700, test acc"),
        (3, {"full": 0.705, 4: 0.7, 8: 0.7, "head": 0.7}, "is not significantly better than the linear probe"),
    ],
)
def test_every_screen_has_the_one_sentence_on_test(
    seeds: int, scores: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On validation every arm scores as full fine-tuning does, so rank 4 would do."""
    runs = store(tmp_path / "runs", seeds, scores=scores, validation=0.9)
    (group,) = load(runs).groups
    answer = group.answer
    assert said in answer
    rows = [Row(compose(["rank=4"]), record, record.status) for record in group.records.values()]
    console = Console(width=1000, file=StringIO())
    console.print(table(rows, runs))
    assert main(["compare", str(runs), "--out", str(tmp_path / "out")]) == 0
    assert main(["report", "--runs", str(runs), "--out", str(tmp_path / "page.html")]) == 0
    assert answer in capsys.readouterr().out
    assert answer in html.unescape((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert set(FIGURES["functional_rank"].table(group)["answer"]) == {answer}
    assert {record_values(record, runs)["answer"] for record in group.records.values()} == {answer}
    assert all(sentence in console.file.getvalue() for sentence in re.split(r"(?<=\.) (?=[A-Z])", answer))


def test_the_command_line_gives_that_sentence_at_its_defaults(
    small_run: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table_of_runs, runs = ran(*small_run, "rank=1,2", "-m"), tmp_path / "runs"
    (group,) = load(runs).groups
    assert main(["compare", str(runs), "--out", str(tmp_path / "out")]) == 0
    assert group.answer in capsys.readouterr().out
    assert re.split(r"(?<=\.) ", group.answer)[0] in " ".join(table_of_runs.split())


def test_runs_of_unlike_budgets_are_not_compared_and_what_differs_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Store(tmp_path / "runs")
    for seed in range(3):
        made.run(seed=seed, test=0.5, train={"epochs": 2})
        made.run(rank=4, seed=seed, test=0.9, train={"epochs": 40})
    assert main(["compare", str(made.folder)]) == 2
    said = capsys.readouterr()
    assert "the only arm of" in said.out
    assert "train.epochs=40" in said.out
    for seed in range(3):
        made.run(seed=seed, test=0.5, train={"epochs": 40}, collapsed=["one class"])
        run = made.run(rank=4, seed=seed, test=0.8, train={"epochs": 40}, alpha=8.0)
        write_record(run, replace(read_record(run), code="another"))
    assert main(["compare", str(made.folder), "--out", str(tmp_path / "out")]) == 0
    page = capsys.readouterr().out
    for words in (
        "train.epochs=40",
        "method.alpha (16, 8)",
        "3 of 9 runs collapsed",
        "code: ",
        "every run of the refe",
    ):
        assert words in page
    assert "full fine-tuning (3 of 3 collapsed) | 3 | 0.500 | — |" in page
    assert not re.search(r"LoRA.*\| [+-]0\.", page)


def test_what_one_seed_and_no_head_cannot_say_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = store(tmp_path / "runs", 1, fitted=False, scores={"full": 0.9, 8: 0.88})
    assert main(["compare", str(runs), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert page in capsys.readouterr().out
    assert "seed=0,1,2,3,4" in page
    assert "method=head" in page
    assert "-0.020 |" in page
    assert main(["compare", str(store(tmp_path / "fitted", 1)), "--out", str(tmp_path / "out")]) == 0
    assert "| 90 % |" in (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".md", ".csv", ".png", ".pdf"}


def test_arms_that_lack_a_seed_keep_those_that_they_have(tmp_path: Path) -> None:
    (group,) = groups(store(tmp_path / "runs", 3, missing={(4, 2), (8, 0), (8, 1), (8, 2)}))
    rows = compare(group)["table"].set_index("arm")
    assert rows.loc["LoRA r = 4", "paired"] == 2
    (group,) = groups(store(tmp_path / "apart", 4, missing={("full", 0), ("full", 1), (4, 2), (4, 3), (8, 2)}))
    facts = compare(group)
    rows = facts["table"].set_index("arm")
    assert rows.loc["LoRA r = 4", "paired"] == 0  # no seed in common
    assert rows.loc["LoRA r = 8", "paired"] == 1
    assert set(facts["single"]) == {"LoRA r = 4", "LoRA r = 8"}


@pytest.mark.parametrize("seeds", [1, 3])
def test_there_is_no_share_of_what_full_fine_tuning_does_not_bring(seeds: int, tmp_path: Path) -> None:
    (group,) = groups(store(tmp_path / "runs", seeds, scores=SCORES | {"full": 0.6}))
    facts = compare(group)
    assert facts["shares"] is None
    assert "does not beat the head alone" in facts["why"]
    assert "difference" not in facts["table"]
