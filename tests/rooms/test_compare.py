"""Arms of a store against each other: paired differences, shares, and what cannot be said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stores import Store

from analysis.__main__ import main
from analysis.compare import compare, groups
from lorax_lab.errors import ConfigError
from lorax_lab.record.folder import OUTPUTS, save_arrays


def store(folder: Path, seeds: int, with_head: bool = True) -> Path:
    """Full fine-tuning has .9, LoRA of rank 4 .8 and of rank 8 .88, the head alone .7, of 1,000 test examples."""
    made, arms = Store(folder), {"full": 0.9, 4: 0.8, 8: 0.88} | ({"head": 0.7} if with_head else {})
    for seed in range(seeds):
        for number, (arm, score) in enumerate(arms.items()):
            rank = arm if isinstance(arm, int) else None
            run = made.run(rank=rank, seed=seed, test=score, method="head" if arm == "head" else "")
            correct = np.zeros(1000, bool)
            correct[np.random.default_rng(10 * seed + number).permutation(1000)[: round(1000 * score)]] = True
            outputs = np.zeros((1000, 2), np.float32)
            labels = np.zeros(1000, np.int64)
            save_arrays(run / OUTPUTS, {"test": {"outputs": outputs, "labels": labels, "correct": correct}})
    return folder


def test_arms_are_paired_with_full_fine_tuning_and_have_their_share_of_what_it_brings(tmp_path: Path) -> None:
    (group,) = groups(store(tmp_path / "runs", 3))
    facts = compare(group)
    rows = facts["table"].set_index("arm")
    assert facts["reference"] == "full fine-tuning"
    assert rows.loc["LoRA r = 8", "difference"] == pytest.approx(-0.02)
    assert rows.loc["LoRA r = 8", "difference_low"] < -0.02 < rows.loc["LoRA r = 8", "difference_high"]
    assert rows.loc["LoRA r = 8", "share"] == pytest.approx(0.9)
    assert rows.loc["LoRA r = 4", "share"] == pytest.approx(0.5)
    assert [of["sizes"][0.8].mean for of in facts["enough"]] == [8]
    against = compare(group, "r = 4")["table"].set_index("arm")
    assert against.loc["LoRA r = 8", "difference"] == pytest.approx(0.08)


def test_what_one_seed_and_no_head_cannot_say_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = store(tmp_path / "runs", 1, with_head=False)
    assert main(["compare", str(runs), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert page in capsys.readouterr().out
    assert "seed=0,1,2,3,4" in page
    assert "method=head" in page
    assert "-0.020 |" in page


def test_a_page_with_shares_has_its_figure(tmp_path: Path) -> None:
    assert main(["compare", str(store(tmp_path / "runs", 2)), "--out", str(tmp_path / "out")]) == 0
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".md", ".csv", ".png", ".pdf"}


def test_an_arm_that_there_is_not_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    (group,) = groups(store(tmp_path / "runs", 1))
    with pytest.raises(ConfigError, match=r"--against rank=16 .*LoRA r = 4"):
        compare(group, "rank=16")
    with pytest.raises(ConfigError, match="no two arms"):
        groups(tmp_path / "nowhere")
