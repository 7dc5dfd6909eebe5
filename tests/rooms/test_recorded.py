"""A run's name, made again from what a published line keeps of its configuration: a law over methods and tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lorax_lab.study.recorded import recorded_id

from experiments.declare import declaration_of
from experiments.study import Plan, composed
from lorax_lab.config.identity import plain, run_id
from lorax_lab.config.overrides import CONF
from lorax_lab.study.declaration import Declaration
from lorax_lab.study.protocol import Arm, Protocol
from lorax_lab.study.published import _rounded, portable

METHODS = sorted(str(p.relative_to(CONF / "method").with_suffix("")) for p in Path(CONF / "method").rglob("*.yaml"))
TASKS = sorted(path.stem for path in Path(CONF / "task").glob("*.yaml"))
BARE = ("_base", "local", "hub", "image_folder")
"""Presets that need columns or a path."""


def declared(*overrides: str) -> Declaration:
    protocol = Protocol((Arm("one", overrides, 1e-3),), "one", 3, 2.0, (100,), (0, 1, 2, 3, 4), 0.02)
    return declaration_of(Plan(protocol, {"task": {"all": ()}}, (), {}), {"prediction": "!"})


def check(*overrides: str) -> None:
    config = composed(overrides)
    line = json.loads(json.dumps(_rounded(portable(plain(config)), 6)))
    assert recorded_id(line, {}, ("m", "d"), declared(*overrides)) == run_id(config, "m", "d")


@pytest.mark.parametrize("method", METHODS)
def test_every_methods_runs_have_the_name_that_their_lines_give(method: str) -> None:
    check(f"method={method}")


@pytest.mark.parametrize("task", [task for task in TASKS if task not in BARE])
def test_every_tasks_runs_have_the_name_that_their_lines_give(task: str) -> None:
    check(f"task={task}", "method=full", "train.head=false", "train.length_window=1", "measure=controls")


def test_a_rounded_setting_is_taken_from_the_declaration() -> None:
    overrides = ("method=lora", "method.alpha=12.3456789")
    config = composed(overrides)
    line = _rounded(portable(plain(config)), 6)
    assert line["method"]["alpha"] == 12.3457
    assert recorded_id(line, {}, ("m", "d"), declared(*overrides)) != run_id(config, "m", "d")
    exact = {"method.alpha": 12.3456789}
    assert recorded_id(line, exact, ("m", "d"), declared(*overrides)) == run_id(config, "m", "d")
