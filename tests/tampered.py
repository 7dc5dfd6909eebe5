"""A made-up study that follows from its own content throughout, for those who tamper with it; and what they do."""

from __future__ import annotations

import base64
import copy
import random
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from synthetic import NAMES, SIDE, again, declaration, line, matrix, noise, study

from analysis.study.records import Records
from lorax_lab.spectra import noise_ceiling, summary
from lorax_lab.study.answers import correct_answers
from lorax_lab.study.declaration import Declaration, decisive
from lorax_lab.study.protocol import Cell

Lines = list[dict[str, Any]]
ONE, TASKS = ("reviews",), ("reviews", "headlines")


@cache
def spectrum(name: str, seed: int) -> tuple[float, ...]:
    """Singular values that fall, to four digits."""
    draw = random.Random(f"{name} {seed}")
    fall = 0.9 + 0.02 * draw.random()
    return tuple(
        sorted((float(f"{0.1 * fall**i * (1 + 0.05 * draw.random()):.4g}") for i in range(SIDE)), reverse=True)
    )


def measured(name: str, seed: int) -> dict[str, Any]:
    """A matrix's row of measures of its spectrum."""
    sigma = torch.tensor(spectrum(name, seed), dtype=torch.float64)
    row = matrix(name, seed) | summary(sigma, (SIDE, SIDE))
    edge = noise_ceiling((SIDE, SIDE), 0.002)
    above = {"noise_edge": edge, "spikes": float((sigma > edge).sum()), "rounding_edge": 1e-7, "above_rounding": SIDE}
    return row | above | {"base_norm": 10.0, "relative_norm": row["frobenius_norm"] / 10.0}


def losses(of_run: dict[str, Any], tasks: tuple[str, ...] = ONE) -> str:
    """Log losses of two classes that follow from the run's answers, others for each run."""
    draw = np.random.default_rng(zlib.crc32(of_run["run_id"].encode()) + tasks.index(of_run["config"]["task"]["name"]))
    right = correct_answers(of_run)
    return packed(np.where(right, draw.uniform(0.05, 0.6, right.size), draw.uniform(0.75, 3.0, right.size)))


def packed(numbers: np.ndarray) -> str:
    """Numbers of test examples as a line keeps them."""
    return base64.b64encode(numbers.astype("<f2").tobytes()).decode()


def cut_answers_of(of_run: dict[str, Any]) -> dict[str, str]:
    """The answers of the cut updates, which lose on test what they lose on validation; others for each k and seed."""
    whole, own = of_run["metrics"]["validation/accuracy"], correct_answers(of_run)
    made = {}
    for part, k, module, score in of_run["functional"]:
        if (part, module) == ("cut", None):
            right, known = own.copy(), np.flatnonzero(own)
            lost = round((whole - score) * own.size)
            right[np.roll(known, 41 * k + of_run["seed"])[:lost]] = False
            made[f"cut/{k}"] = np.packbits(right).tobytes().hex()
    return made


@cache
def whole(tasks: tuple[str, ...] = ONE) -> Records:
    """The study: a declaration of format 2, full updates with their singular values and answers when they are cut."""
    made = study(tasks=tasks)
    lines = copy.deepcopy(made.lines)
    for of_run in lines:
        if "functional" in of_run:
            place = 100 * tasks.index(of_run["config"]["task"]["name"]) + of_run["seed"]
            of_run["matrices"] = {name: measured(name, place) for name in NAMES}
            of_run["gaussian"] = {name: noise(row) for name, row in of_run["matrices"].items()}
            of_run["sigma"] = {name: list(spectrum(name, place)) for name in NAMES}
            of_run["functional_correct"] = cut_answers_of(of_run)
        if "correct" in of_run:
            of_run["log_losses"] = losses(of_run, tasks)
    cells = [(task, arm.name) for task in tasks for arm in made.protocol.arms]
    settings = {(task, arm): decisive(line(Cell("final", task, arm, 1e-3, 0), 0.5)["config"]) for task, arm in cells}
    scores = dict.fromkeys(tasks, ("accuracy", True))
    return again(made, lines, declaration(made.protocol, tasks, settings=settings, scores=scores))


@cache
def in_nats() -> Records:
    """The study as a language model's: each score is 2 minus it, in nats, and each test example has a pseudo-value."""
    lines = copied()
    for of_run in lines:
        of_run |= {"metric": "nats", "higher_is_better": False, "inputs": of_run["inputs"] | {"classes": []}}
        of_run["config"]["task"]["kind"] = "language_modeling"
        of_run["metrics"] = {k.replace("accuracy", "nats"): round(2 - v, 6) for k, v in of_run["metrics"].items()}
        for key in ("correct", "log_losses", "functional_correct"):
            of_run.pop(key, None)
        if "test/nats" in of_run["metrics"]:
            draw = np.random.default_rng(zlib.crc32(of_run["run_id"].encode()))
            own = with_mean(of_run["metrics"]["test/nats"], 0.3 * draw.standard_normal(1000))
            of_run["pseudo_values"] = packed(own)
        if "functional" in of_run:
            whole_score = of_run["metrics"]["validation/nats"]
            of_run["functional"] = [[*row, round(2 - score, 6)] for *row, score in of_run["functional"]]
            cuts = {k: score for part, k, module, score in of_run["functional"] if (part, module) == ("cut", None)}
            changed = {
                k: with_mean(own.mean() + score - whole_score, own + 0.05 * draw.standard_normal(1000))
                for k, score in cuts.items()
            } | {SIDE: own}
            of_run["functional_pseudo_values"] = {f"cut/{k}": packed(values) for k, values in changed.items()}
    declared = whole().declared
    settings = {pair: own | {"task.kind": "language_modeling"} for pair, own in declared.settings.items()}
    scores = dict.fromkeys(ONE, ("nats", False))
    return again(whole(), lines, replace(declared, settings=settings, scores=scores))


def with_mean(mean: float, numbers: np.ndarray) -> np.ndarray:
    """The numbers, shifted."""
    return numbers - numbers.mean() + mean


def copied(tasks: tuple[str, ...] = ONE) -> Lines:
    """The study's lines, to be changed."""
    return copy.deepcopy(whole(tasks).lines)


def with_lines(change: Callable[[Lines], Any]) -> Records:
    """The study after a change of its lines."""
    lines = copied()
    change(lines)
    return replace(whole(), lines=lines)


def with_declared(**changes: Any) -> Records:
    """The study whose declaration was edited, while its lines stayed."""
    return replace(whole(), declared=replace(whole().declared, **changes))


def with_protocol(**changes: Any) -> Records:
    """The study whose protocol was edited."""
    return with_declared(protocol=replace(whole().protocol, **changes))


def of(lines: Lines, stage: str, **wanted: Any) -> Lines:
    """The lines of a stage with these values at their top."""
    trial = stage == "trial"
    return [
        x for x in lines if (x["config"]["measure"] == "trial") == trial and all(x[k] == v for k, v in wanted.items())
    ]


def without(declared: Declaration, *arms: str) -> Declaration:
    """The declaration without some arms."""
    kept = tuple(arm for arm in declared.protocol.arms if arm.name not in arms)
    cells = {pair: own for pair, own in declared.settings.items() if pair[1] not in arms}
    return replace(declared, protocol=replace(declared.protocol, arms=kept), settings=cells)
