"""The LoRA paper's studies that have no runs yet: made records of their plans give pages, figures and LaTeX."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import study
from test_study_latex import faults, log_of

from analysis.paper import page
from analysis.paper.sections import SECTIONS
from analysis.study import page as study_page
from analysis.study.command import figures_of, latex
from analysis.study.figures import FIGURES
from analysis.study.records import RECORDS, Records
from lorax_lab.store.protocol import Arm, Cell, Protocol

STUDIES = sorted({section.study for section in SECTIONS if not (RECORDS / f"{section.study}.jsonl").exists()})
WITHOUT_RUNS = "every study of the paper has runs"


def truth(protocol: Protocol) -> Any:
    """Highest at the middle rate; a point lost where the rank is 1, ten where no matrix is updated."""

    def score(cell: Cell) -> float:
        arm = protocol.arm(cell.arm)
        off_the_best = abs(protocol.step(cell.arm, cell.rate) - protocol.rates // 2)
        lost = 0.01 * (arm.rank == 1) + 0.1 * ("alone" in arm.name)
        return 0.8 - 0.02 * off_the_best - lost + 0.001 * (cell.seed % 3)

    return score


def cut(records: Records, task: str) -> list[dict[str, Any]]:
    """Full updates cut in the sets of `paper_which_rank`: a tenth of the answers lost at 0 directions."""
    from experiments.paper_which_rank import CUT, SETS

    count = records.of(task, "final")[0]["inputs"]["examples"]["test"]
    lost = {k: count // 10 if k == 0 else 0 for k in ("whole", *CUT)}
    return [
        {"condition": task, "seed": seed, "set": name, "k": k}
        | {"correct": np.packbits(np.arange(count) >= lost[k]).tobytes().hex()}
        for seed in records.protocol.final_seeds
        for name in SETS
        for k in lost
    ]


def explicit(arm: Arm) -> Arm:
    """The arm with what it adapts named: made lines are told apart by what their arms name."""
    usual = {"method.target_modules": "[all-linear]", "method.ranks": "[]"}
    given = {override.partition("=")[0] for override in arm.overrides}
    more = tuple(f"{key}={value}" for key, value in usual.items() if key not in given)
    return dataclasses.replace(arm, overrides=(*arm.overrides, *more))


def made(name: str) -> Records:
    """Records of the whole plan, with its own sizes of the training set."""
    plan = importlib.import_module(f"experiments.{name}").plan("full")
    protocol = dataclasses.replace(plan.protocol, arms=tuple(map(explicit, plan.protocol.arms)))
    records = study(truth(protocol), protocol, tuple(plan.conditions))
    for line in records.lines:
        condition = line["config"]["task"]["name"]
        if condition.endswith(" examples"):
            line["inputs"]["examples"] = line["inputs"]["examples"] | {"train": int(condition.split()[0])}
    rows = {}
    if "sets" in plan.afterwards:
        rows["sets"] = [row for task in records.conditions for row in cut(records, task)]
    declared = dataclasses.replace(records.declared, figures=plan.figures)
    return dataclasses.replace(records, name=name, rows=rows, declared=declared)


@pytest.mark.skipif(not STUDIES, reason=WITHOUT_RUNS)
@pytest.mark.parametrize("name", STUDIES)
def test_a_planned_study_has_its_readings_and_figures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = made(name)
    for of in (page, study_page):
        monkeypatch.setattr(of, "breaches", lambda study: [])
    text = page.write([records], {name: f"study/{name}"})
    for section in (section for section in SECTIONS if section.study == name):
        own = text.partition(f"## {section.title}")[2].partition("\n## ")[0]
        for claim in section.claims:
            of_claim = own.partition(f"**{claim.text}**")[2].partition("Rule:")[0]
            rows = [line for line in of_claim.splitlines() if line.startswith("| ")][2:]
            assert rows, claim.text
            assert not [row for row in rows if "nan" in row or "no number" in row or "no score" in row]
    for figure in figures_of(records):
        table = FIGURES[figure].table(records)
        assert table is not None, figure
        FIGURES[figure].draw(table)
    assert study_page.write(records, [])
    if printed := [text for figure in figures_of(records) if (text := latex(figure, FIGURES[figure].table(records)))]:
        assert faults(log_of("\n\n".join(printed), tmp_path)) == []
