"""`train.precision=auto`: bf16 where it is faster, decided before a run gets its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lorax_lab.launch import fastest
from lorax_lab.launch.compose import compose


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder in which trials of the test's own are kept."""
    monkeypatch.setenv("LORAX_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def auto(*words: str) -> str:
    return fastest.settled(compose(["train.precision=auto", *words])).train.precision


@pytest.mark.parametrize(("ratio", "chosen"), [(0.3, "bf16"), (0.8, "bf16"), (0.9, "fp32"), (3.0, "fp32")])
def test_bf16_has_to_be_clearly_faster_and_the_trial_is_kept(
    ratio: float, chosen: str, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fastest.chosen.cache_clear()
    monkeypatch.setattr(fastest, "bf16_ratio", lambda: ratio)
    assert auto("train.device=cpu") == chosen
    (path,) = kept.rglob("precisions/*.json")
    assert json.loads(path.read_text())["ratio"] == ratio
    fastest.chosen.cache_clear()
    monkeypatch.setattr(fastest, "bf16_ratio", lambda: pytest.fail("it was tried again"))
    assert auto("train.device=cpu") == chosen


@pytest.mark.parametrize(("units", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_is_known_by_its_units(units: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return units

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert auto() == chosen
    assert asked == [False]
    assert auto("train.device=mps") == "fp32"
