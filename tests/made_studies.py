"""Studies as `synthetic` makes them, and more: log losses, controls of cuts, a lost arm, a head alone."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from synthetic import CUT_RANKS, EXAMPLES, MODULES, PROTOCOL, again, study

from analysis.study.records import Records
from lorax_lab.study.answers import CORRECT, CUT_ANSWERS, LOSSES, PSEUDO_VALUES, correct_answers
from lorax_lab.study.protocol import Arm

FOURS = (1, 4, 16)
"""The powers of four below 64."""


def changed(records: Records, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Records:
    return again(records, [change(line) for line in records.lines])


def with_losses(records: Records, worse: float, margin_in_nats: float | None) -> Records:
    """The same with log losses of every test example, those of LoRA so many nats worse."""
    base = np.random.default_rng(0).exponential(0.4, EXAMPLES["test"])

    def change(line: dict[str, Any]) -> dict[str, Any]:
        own = base + worse * (line["method"] == "lora") + 0.001 * line["seed"]
        losses = {LOSSES: own.astype(np.float16)}
        return line | (losses if line["config"]["measure"] != "trial" else {})

    declared = replace(records.declared, protocol=replace(records.protocol, loss_margin=margin_in_nats))
    return again(records, [change(line) for line in records.lines], declared)


def renewed(line: dict[str, Any], shrunk: dict[int, float] | None = None) -> dict[str, Any]:
    """The line with the present controls of its cuts, which keep the score from k = 4 on, on validation and on test.
    The cut of all matrices together loses .05 at k = 1, where that of each loses .2; what is shrunk gains."""
    if "functional" not in line:
        return line
    score, jitter = line["metrics"]["validation/accuracy"], 0.001 * (line["seed"] - 2)
    rows = [row for row in line["functional"] if row[0] in ("cut", "remainder", "gaussian") and row[2] is None]
    rows += [["random_at_norm", k, None, score - 0.2 * (k < 16)] for k in FOURS]
    rows += [["bottom_at_norm", k, None, score - 0.3] for k in FOURS]
    rows += [["scaled", k, None, score - 0.2 * (k < 16)] for k in FOURS]
    rows += [["global", k, None, score - 0.05 * (k < 4)] for k in FOURS]
    gains = shrunk or {50: -0.1, 70: -0.03, 80: 0.0, 90: 0.01}
    rows += [["shrunk", k, None, score + gain + jitter] for k, gain in gains.items()]
    rows += [["cut", k, module, score - 0.1 * (k < 4)] for module in MODULES for k in (0, *FOURS)]
    right = correct_answers(line)
    less = right & (np.cumsum(right) > 0.2 * EXAMPLES["test"])
    answers = {("cut", k): right if k >= 4 else less for k in CUT_RANKS}
    return line | {"functional": rows, CUT_ANSWERS: answers}


def present(records: Records, **how: Any) -> Records:
    """The study with the present controls of its cuts."""
    return again(records, [renewed(line, **how) for line in records.lines])


def lost(records: Records) -> Records:
    """The study, one final run of rank 1 diverged."""
    kept = ("run_id", "status", "method", "rank", "seed", "code", "git", "versions", "hardware", "written", "config")

    def change(line: dict[str, Any]) -> dict[str, Any]:
        if (line["rank"], line["seed"]) != (1, 2):
            return line
        return {key: line[key] for key in (*kept, "inputs")} | {"status": "diverged", "reason": "the loss is NaN"}

    return again(records, [change(line) for line in records.lines])


HEADED = replace(PROTOCOL, arms=(*PROTOCOL.arms, Arm("head", ("method=head",), 1e-3)), extensions=0)


def with_head(of_head: float, trained: int = 100) -> Records:
    """A study whose arm `head` trains so many parameters of the head alone, and scores so much."""
    records = study(lambda cell: of_head if cell.arm == "head" else 0.8 - 0.001 * (cell.arm == "LoRA r=1"), HEADED)

    def change(line: dict[str, Any]) -> dict[str, Any]:
        if records.arm_of(line) != "head":
            return line
        counts = {"trainable": trained, "adapter": 0, "head": trained, "total": 100_000}
        method = {"parameters": counts, "method": "head"}
        return line | method | {"config": line["config"] | {"method": {"name": "head"}}}

    return changed(records, change)


def in_nats(records: Records, are_kept: bool = True) -> Records:
    """The study of a language model: 2 less each score in nats, and what each test example adds if they `are_kept`."""
    lines = copy.deepcopy(records.lines)
    for line in lines:
        line["metrics"] = {key.replace("accuracy", "nats"): 2 - score for key, score in line["metrics"].items()}
        line |= {"metric": "nats", "higher_is_better": False}
        line["config"]["task"]["kind"] = "language_modeling"
        if "functional" in line:
            line["functional"] = [[*place, 2 - score] for *place, score in line["functional"]]
        if line.pop(CORRECT, None) is not None and are_kept:
            draw = np.random.default_rng(zlib.crc32(line["run_id"].encode()))
            values = draw.gamma(4, 0.1, EXAMPLES["test"])
            line[PSEUDO_VALUES] = (values - values.mean() + line["metrics"]["test/nats"]).astype(np.float16)
    return again(records, lines)


def of_one_seed(records: Records) -> Records:
    return replace(records, lines=[x for x in records.lines if x["config"]["measure"] == "trial" or x["seed"] == 0])
