"""Made records of the plans of the LoRA paper's studies, whose answers are known, give pages and figures."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import zlib
from typing import Any

import numpy as np
import pytest
from synthetic import study

from analysis.paper import page
from analysis.study import comparison
from analysis.study import page as study_page
from analysis.study.command import figures_of
from analysis.study.figures import FIGURES
from analysis.study.records import Records
from lorax_lab.afterwards.similarities import EACH
from lorax_lab.study.protocol import Arm, Cell, Protocol

MEASURED_OF_ALL = {"paper_subspaces", "paper_amplification"}
"""Their pairs and factors are of every matrix; those that are made here are of query and value."""
STUDIES = sorted(set(page.studies_of_paper()) - MEASURED_OF_ALL)


def truth(protocol: Protocol) -> Any:
    """Highest at the middle rate; a point lost where the rank is 1, ten where no matrix is updated."""

    def score(cell: Cell) -> float:
        arm = protocol.arm(cell.arm)
        off_the_best = abs(protocol.step(cell.arm, cell.rate) - protocol.rates // 2)
        lost = 0.01 * (arm.rank == 1) + 0.1 * ("alone" in arm.name)
        own = 0.002 * (zlib.crc32(f"{cell.condition} {cell.arm} {cell.seed}".encode()) % 8)  # no arm repeats another
        return 0.8 - 0.02 * off_the_best - lost + own

    return score


def cut(records: Records, task: str) -> list[dict[str, Any]]:
    """Full updates cut in the sets of `paper_which_rank`: at 0 directions the first set loses a fiftieth of the
    answers, the second two, and so on."""
    from experiments.paper_which_rank import CUT, SETS

    count = records.of(task, "final")[0]["inputs"]["examples"]["test"]
    return [
        {"condition": task, "seed": seed, "set": name, "k": str(k)}
        | {"correct": np.arange(count) >= (count * place // 50 if k == 0 else seed)}
        for seed in records.protocol.final_seeds
        for place, name in enumerate(SETS, start=1)
        for k in ("whole", *CUT)
    ]


def similar(task: str) -> list[dict[str, Any]]:
    """What pairs of `paper_which_rank` share in two layers of query and value: by pair a hundredth more."""
    from experiments.paper_which_rank import BOTH, PAIRS

    sizes = [1, 2, 4, 8, 40, 64]
    rows = []
    for (place, pair), side in itertools.product(enumerate(PAIRS), ("row", "column", "A", "A at the start")):
        count = 5 if pair.startswith("W") else 10 if pair.startswith("two") else 20
        for module, layer in itertools.product(("attention.self.query", "attention.self.value"), (0, 1)):
            each = {f"{i},{j}": [0.2 + 0.01 * place + 0.001 * n for n in range(count)] for i, j in EACH}
            of = {"condition": task, "pair": pair, "side": side, "matrix": f"layer.{layer}.{module}", "module": module}
            of_few = [j for j in sizes if j <= {"W and r=4": 4, "W and r=8": 8}.get(pair, 64)]
            phi = [[200 + 10 * place] * len(of_few)] * len(sizes)
            rows.append(
                of | {"layer": layer, "d": 384, "i": sizes, "j": of_few, "phi": phi, "each": each, "adapted": BOTH}
            )
    return rows


def amplified(records: Records, task: str) -> list[dict[str, Any]]:
    """Factors of query and value in one layer, half of a Gaussian's."""
    from experiments.paper_which_rank import OF_ARM

    return [
        {
            "condition": task,
            "arm": arm,
            "seed": seed,
            "matrix": f"layer.0.{module}",
            "module": module,
            "layer": 0,
            "r": r,
        }
        | {"factor": 16 / r + 0.01 * seed, "gaussian_factor": 32 / r, "random_factor": 32 / r, "base_factor": 0.1}
        | {"delta_norm": 1.5, "base_in_delta": 0.2, "base_in_random": 0.1, "base_in_base": 15.0}
        for arm, ranks in OF_ARM.items()
        for r in ranks
        for seed in records.protocol.final_seeds
        for module in ("attention.self.query", "attention.self.value")
    ]


def losses(line: dict[str, Any]) -> np.ndarray:
    """Log losses of two classes that follow from the run's answers, others for each run."""
    draw, right = np.random.default_rng(zlib.crc32(line["run_id"].encode())), line["correct"]
    losses = np.where(right, draw.uniform(0.05, 0.6, right.size), draw.uniform(0.75, 3.0, right.size))
    return losses.astype(np.float16)


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
        if "correct" in line:
            line["log_losses"] = losses(line)
    rows = {}
    if "sets" in plan.afterwards:
        rows["sets"] = [row for task in records.conditions for row in cut(records, task)]
    if "similarities" in plan.afterwards:
        rows["similarities"] = [row for task in records.conditions for row in similar(task)]
        rows["factors"] = [row for task in records.conditions for row in amplified(records, task)]
    declared = dataclasses.replace(records.declared, figures=plan.figures)
    return dataclasses.replace(records, name=name, rows=rows, declared=declared)


@pytest.mark.parametrize("name", STUDIES)
def test_a_plan_has_its_readings_and_figures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    records = made(name)
    for of in (page, study_page):
        monkeypatch.setattr(of, "breaches", lambda study: [])
    for section in page.sections():
        for claim in section["claims"] if section["study"] == name else ():
            read = page._claim(claim, records, section["measured"])
            assert read["rows"], claim["text"]
            assert not [row for row in read["rows"] if "—" in row[2] or "nan" in " ".join(row)]
            assert read["lacking"] == []
    for figure in figures_of(records):
        table = FIGURES[figure].table(records)
        assert table is not None, figure
        FIGURES[figure].draw(table)
    assert study_page.write(records, [])


def test_the_sets_are_not_mixed_up() -> None:
    table = FIGURES["sets"].table(made("paper_which_rank"))
    at_nothing = table[(table["side"] == "k") & (table["size"] == 0)].set_index("set")["mean"]
    assert at_nothing.to_dict() == pytest.approx(
        {"query": -0.018, "query and value": -0.038, "attention": -0.058, "feed-forward": -0.078, "all": -0.098}
    )


def test_no_cut_of_the_sets_is_more_than_twice_the_one_before() -> None:
    """An update that needs 9 to 16 directions would else have k* 64."""
    from experiments.paper_which_rank import CUT, RANKS

    assert all(larger <= max(1, 2 * smaller) for smaller, larger in itertools.pairwise(CUT))
    assert {0, *RANKS} <= set(CUT)


def test_the_sizes_are_not_mixed_up() -> None:
    records = made("paper_data_sizes")
    table = FIGURES["sizes"].table(records)
    for task in records.conditions:
        of = table[(table["task"] == task) & (table["what"] == "LoRA r=8")]
        scores = [line["metrics"]["test/accuracy"] for line in comparison.seeds_of(records, task, "LoRA r=8").values()]
        assert of["value"].item() == pytest.approx(np.mean(scores))
        assert of["examples"].item() == int(task.split()[0])
    assert table.loc[table["what"] == "LoRA r=8", "value"].nunique() > 3
