"""Published lines of studies that never ran: what the comparison's tests are made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis.study.records import Records
from lorax_lab.store.declaration import Declaration, to_content
from lorax_lab.store.protocol import Arm, Cell, Protocol, finals, select

PROTOCOL = Protocol(
    arms=(
        Arm("full", ("method=full",), 1e-4),
        Arm("LoRA r=1", ("method=lora", "rank=1"), 1e-3),
        Arm("LoRA r=8", ("method=lora", "rank=8"), 1e-3),
    ),
    reference="full",
    rates=3,
    factor=2.0,
    selection_seeds=(100, 101),
    final_seeds=(0, 1, 2, 3, 4),
    margin=0.02,
    extensions=1,
)
EXAMPLES = {"train": 300, "validation": 100, "test": 200}
Truth = Callable[[Cell], float]
"""The score that a run has; a trial's on validation, a final run's on test."""


def peaked(cell: Cell) -> float:
    """Highest in the middle of each grid; rank 1 three points worse than the others."""
    step = PROTOCOL.step(cell.arm, cell.rate)
    return 0.8 - 0.02 * abs(step - 1) - 0.03 * (cell.arm == "LoRA r=1") + 0.001 * (cell.seed % 3)


def line(cell: Cell, score: float, protocol: Protocol = PROTOCOL) -> dict[str, Any]:
    """A completed run's line, as `published.line_of` makes them, of the given score."""
    arm, trial = protocol.arm(cell.arm), cell.stage == "trial"
    method = "full" if arm.rank is None else "lora"
    alpha = next((float(o.partition("=")[2]) for o in arm.overrides if o.startswith("method.alpha=")), 16.0)
    train = {"learning_rate": cell.rate, "batch_size": 16, "epochs": 1, "precision": "fp32", "warmup": 0.1}
    metrics = {"validation/accuracy": score} | ({} if trial else {"test/accuracy": score})
    made: dict[str, Any] = {
        "format": 1,
        "run_id": f"m-{cell.condition}-{method}-r{arm.rank}-a{alpha:g}-s{cell.seed}-{cell.stage}-{cell.rate:g}",
        "status": "completed",
        "method": method,
        "rank": arm.rank,
        "seed": cell.seed,
        "code": "c" * 64,
        "git": {"commit": "a" * 40, "dirty": False},
        "versions": {"torch": "2"},
        "hardware": {"device": "cpu", "threads": 1},
        "written": "2026-11-25T00:00:00Z",
        "config": {
            "model": "m",
            "rank": arm.rank,
            "task": {"name": cell.condition, "kind": "classification", "train_examples": 300},
            "method": {
                "name": method,
                "alpha": None if method == "full" else alpha,
                "target_modules": ["all-linear"],
            },
            "measure": "trial" if trial else "controls" if method == "full" else "standard",
            "train": train,
        },
        "inputs": {
            "model_sha256": "m",
            "data_sha256": "d",
            "examples": EXAMPLES,
            "head_sha256": f"head of {cell.seed}",
        },
        "parameters": {"trainable": 1000 * (arm.rank or 100), "adapter": 900, "head": 100, "total": 100_000},
        "metric": "accuracy",
        "metrics": metrics,
        "memory": {"peak_bytes": 10**6, "phase": "backward", "batch_shape": [16, 8], "by_category": {}},
        "time": {"total_seconds": 10.0, "train_seconds": 8.0, "steps": 19, "examples": 300, "tokens": 3000},
    }
    if not trial:
        right = np.arange(EXAMPLES["test"]) < round(score * EXAMPLES["test"])
        made["correct"] = np.packbits(right).tobytes().hex()
        made["matrices"] = {name: matrix(name, cell.seed) for name in NAMES}
        if method == "full":
            made["gaussian"] = {name: made["matrices"][name] | made["matrices"][name]["null"] for name in NAMES}
            made["functional"] = functional(score, cell.seed)
            made["sigma"] = {name: [1.0] for name in NAMES}
    return made


MODULES = ("attention.self.query", "attention.self.value", "intermediate.dense")
NAMES = [f"bert.encoder.layer.{layer}.{module}" for layer in range(2) for module in MODULES]
SIDE = 64
CUT_RANKS = (0, 1, 2, 4, 8, 16, 32, 64)


def matrix(name: str, seed: int) -> dict[str, Any]:
    """The measures of one update: its effective rank is 20 where noise has 50."""
    layer, module = int(name.split(".")[3]), name.split(".", 4)[4]
    measures = {"effective_rank": 20.0 + 0.1 * seed, "stable_rank": 3.0, "participation_ratio": 6.0}
    measures |= {"energy_rank_90": 12, "energy_rank_95": 20, "energy_rank_99": 30}
    null = {"effective_rank": 50.0, "stable_rank": 16.0, "participation_ratio": 32.0}
    null |= {"energy_rank_90": 32, "energy_rank_95": 37, "energy_rank_99": 42}
    row: dict[str, Any] = {"shape": [SIDE, SIDE], "module": module, "layer": layer, "null": null, "relative_norm": 0.01}
    return row | measures | {"spikes": 5 + seed % 2, "bulk_misfit": 0.1, "rounding_edge": 1e-7, "above_rounding": 60}


def functional(whole: float, seed: int) -> list[list[Any]]:
    """Cuts that keep the whole score from k = 4 on, remainders that lose it from there on, and the controls."""
    jitter = 0.001 * (seed - 2)

    def rises(k: int, at: int) -> float:
        return whole if k >= at else whole - 0.2 + jitter

    rows: list[list[Any]] = [["cut", k, None, rises(k, 4)] for k in CUT_RANKS]
    rows += [["remainder", k, None, whole if k < 4 else whole - 0.2 + jitter] for k in CUT_RANKS]
    rows += [["random", k, None, rises(k, 32)] for k in CUT_RANKS[1:-1]]
    rows += [["scaled", k, None, rises(k, 16)] for k in CUT_RANKS[1:-1]]
    rows += [["cut", k, module, rises(k, 2)] for module in MODULES for k in CUT_RANKS[:-1]]
    return [*rows, ["gaussian", SIDE, None, whole - 0.25]]


def declaration(protocol: Protocol = PROTOCOL, tasks: tuple[str, ...] = ("reviews",), **more: Any) -> Declaration:
    """What such a study declares, as format 1 has it: overrides alone."""
    about = {"study": "experiments.made", "question": "?", "prediction": "!", "cost": "None."}
    return Declaration(about, protocol, {"task": {task: (f"task={task}",) for task in tasks}}, **more)


def written(declared: Declaration) -> str:
    """A declaration's file."""
    return json.dumps(to_content(declared))


def study(truth: Truth = peaked, protocol: Protocol = PROTOCOL, tasks: tuple[str, ...] = ("reviews",)) -> Records:
    """A study whose every run is there, its scores those of `truth`."""
    made: dict[Cell, dict[str, Any]] = {}
    for task in tasks:
        chosen = select(protocol, task, made.get)
        while chosen.missing:
            made |= {cell: line(cell, truth(cell), protocol) for cell in chosen.missing}
            chosen = select(protocol, task, made.get)
        made |= {cell: line(cell, truth(cell), protocol) for cell in finals(protocol, task, chosen)}
    return Records("made", declaration(protocol, tasks), list(made.values()), [])


def shared(tasks: tuple[str, ...], seeds: int = 3) -> pd.DataFrame:
    """Half of the top k directions of any two full updates in common, of the column space; of the row space, chance."""
    runs = [(task, seed) for task in tasks for seed in range(seeds)]
    rows = []
    for (task, seed), (other, other_seed) in combinations(runs, 2):
        if task == other or seed == other_seed:
            about = {"task": task, "seed": seed, "other_task": other, "other_seed": other_seed}
            for name in NAMES:
                for k in (1, 8, 32):
                    of = {"matrix": name, "module": matrix(name, 0)["module"], "layer": 0, "k": k}
                    random = {"random_column": k / SIDE, "random_row": k / SIDE}
                    rows.append(about | of | random | {"column": 0.5 + k / (2 * SIDE), "row": k / SIDE})
    return pd.DataFrame(rows)
