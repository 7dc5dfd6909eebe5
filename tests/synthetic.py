"""Published lines of studies that never ran: what the tests of comparisons, pages and figures are made of."""

import copy
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.study.records import Records
from lorax_lab.config.defaults import flat
from lorax_lab.config.overrides import values_of
from lorax_lab.spectra import gaussian_null
from lorax_lab.study.answers import CORRECT, CUT_ANSWERS, LOSSES, PSEUDO_VALUES
from lorax_lab.study.declaration import Declaration, Pair, Settings, decisive, write_declaration
from lorax_lab.study.protocol import Arm, Cell, Protocol, finals, select
from lorax_lab.study.published import NOT_RECORDED, RECORDED, Measured, write_lines

PROTOCOL = Protocol(
    arms=(
        Arm("full", ("method=full",), 1e-4),
        Arm("LoRA r=1", ("method=lora", "rank=1"), 1e-3),
        Arm("LoRA r=8", ("method=lora", "rank=8"), 1e-3),
    ),
    reference="full", rates=3, factor=2.0, selection_seeds=(100, 101), final_seeds=(0, 1, 2, 3, 4), margin=0.02,
    extensions=1,
)  # fmt: skip
EXAMPLES = {"train": 300, "validation": 1000, "test": 1000}
TOTAL, HEAD = 100_000, 100
"""Parameters of the base with its head, and of the head."""
COMMIT = "c372cab7c9ac4192176cb44bbe7f7fdf3b5c9fe6"
"""The first one of the repository's history."""
DECLARED, TRIED, RUN = "2026-11-24T00:00:00Z", "2026-11-25T00:55:00Z", "2026-11-25T01:00:00Z"
Truth = Callable[[Cell], float]
"""The score that a run has; a trial's on validation, a final run's on test."""


def peaked(cell: Cell) -> float:
    """Highest in the middle of each grid; rank 1 three points worse than the others."""
    step = PROTOCOL.step(cell.arm, cell.rate)
    return 0.8 - 0.02 * abs(step - 1) - 0.03 * (cell.arm == "LoRA r=1") + 0.001 * (cell.seed % 3)


def line(cell: Cell, score: float, protocol: Protocol = PROTOCOL) -> dict[str, Any]:
    """A completed run's line, as `published.line_of` makes them, of the given score to a thousandth."""
    arm, trial, score = protocol.arm(cell.arm), cell.stage == "trial", round(score, 3)
    settings = dict(override.split("=", 1) for override in arm.overrides)
    method = settings.get("method", "full" if arm.rank is None else "lora")
    own = {key[len("method.") :]: value(text) for key, text in settings.items() if key.startswith("method.")}
    train = {"learning_rate": cell.rate, "batch_size": 16, "epochs": 1, "precision": "fp32", "warmup": 0.1}
    metrics = {"validation/accuracy": score} | ({} if trial else {"test/accuracy": score})
    config: dict[str, Any] = {"model": "m", "rank": arm.rank, "seed": cell.seed}
    config["task"] = {"name": cell.condition, "kind": "classification", "train_examples": 300}
    alpha = None if arm.rank is None else 16.0
    config["method"] = {"name": method, "alpha": alpha, "target_modules": ["all-linear"], **own}
    config["measure"] = "trial" if trial else "controls" if method == "full" else "standard"
    config["train"] = train
    inputs: dict[str, Any] = {"model_sha256": "m", "examples": EXAMPLES, "classes": ["a", "b"]}
    inputs["data_sha256"] = "d" if cell.condition == "reviews" else f"d of {cell.condition}"
    inputs["head_sha256"] = f"head of {cell.seed}"
    made: dict[str, Any] = {"status": "completed", "method": method, "rank": arm.rank, "seed": cell.seed}
    made |= {"code": "c" * 64, "git": {"commit": COMMIT, "dirty": False}, "versions": {"torch": "2"}}
    made |= {"hardware": {"device": "cpu", "threads": 1}, "written": TRIED if trial else RUN}
    made |= {"config": config, "inputs": inputs, "parameters": parameters(arm.rank)}
    made |= {"metric": "accuracy", "metrics": metrics}
    made["memory"] = {"peak_bytes": 10**6, "phase": "backward", "batch_shape": [16, 8], "by_category": {}}
    seconds = {"total_seconds": 10.0, "train_seconds": place(cell)}
    made["time"] = seconds | {"steps": 19, "examples": 300, "tokens": 3000}
    weights = 4 * made["parameters"]["total"]
    made["memory"]["by_category"] = {"weights": weights, "activations": 10**6 - weights}
    if not trial:
        made["correct"] = answers(score, [a.name for a in protocol.arms].index(cell.arm), cell.seed)
        made["matrices"] = {name: matrix(name, cell.seed, arm.rank, place(cell)) for name in NAMES}
        if method == "full":
            made["gaussian"] = {name: noise(row) for name, row in made["matrices"].items()}
            made["functional"] = functional(score, cell.seed)
    digest = zlib.crc32(json.dumps([config, inputs], sort_keys=True).encode())
    return made | {"run_id": f"m-{cell.condition}-s{cell.seed}-{digest:08x}"}


def value(text: str) -> Any:
    """Of an override; the names of a list in the order in which configurations have them."""
    (parsed,) = values_of(f"value={text}")
    return sorted(parsed) if isinstance(parsed, list) else parsed


def place(cell: Cell) -> float:
    """Seconds that no two cells have in common."""
    return 8.0 + zlib.crc32(repr(cell).encode()) / 2**32


def parameters(rank: int | None) -> dict[str, int]:
    """Numbers of parameters of full fine-tuning, or of LoRA."""
    adapter = rank * 2 * SIDE * len(NAMES) if rank else TOTAL - HEAD
    return {"trainable": adapter + HEAD, "adapter": adapter, "head": HEAD, "total": TOTAL + (adapter if rank else 0)}


def answers(score: float, arm: int, seed: int) -> np.ndarray:
    """Which answers are right: others for each seed; of two arms with one score all but two."""
    count = EXAMPLES["test"]
    right = np.arange(count) < round(score * count)
    known = round(score * count)
    if 2 * arm < known and known + 2 * arm < count:
        right[2 * arm], right[known + 2 * arm] = False, True
    return np.roll(right, 37 * seed)


MODULES = ("attention.self.query", "attention.self.value", "intermediate.dense")
NAMES = [f"bert.encoder.layer.{layer}.{module}" for layer in range(2) for module in MODULES]
SIDE = 64
CUT_RANKS = (0, 1, 2, 4, 8, 16, 32, 64)


def matrix(name: str, seed: int, rank: int | None = None, norm: float = 1.0) -> dict[str, Any]:
    """The measures of one update: its effective rank is 20 where noise has 51; of LoRA .8 of its rank."""
    layer, module = int(name.split(".")[3]), name.split(".", 4)[4]
    row: dict[str, Any] = {"shape": [SIDE, SIDE], "module": module, "layer": layer, "relative_norm": 0.01}
    row["null"] = gaussian_null((SIDE, SIDE), rank)
    if rank:
        shares = {"effective_rank": 0.8, "stable_rank": 0.5, "participation_ratio": 0.6}
        row |= {key: max(1.0, share * rank) for key, share in shares.items()}
        row |= {"energy_rank_90": rank, "energy_rank_95": rank, "energy_rank_99": rank, "above_rounding": rank}
    else:
        row |= {"effective_rank": 20.0 + 0.1 * seed, "stable_rank": 3.0, "participation_ratio": 6.0}
        row |= {"energy_rank_90": 12, "energy_rank_95": 20, "energy_rank_99": 30}
        row |= {"spikes": 5 + seed % 2, "bulk_misfit": 0.1, "rounding_edge": 1e-7, "above_rounding": 60}
    return row | {"frobenius_norm": norm, "spectral_norm": norm / row["stable_rank"] ** 0.5}


def noise(row: dict[str, Any]) -> dict[str, Any]:
    """The measures of noise of the shape and norm of an update."""
    return row | row["null"] | {"spectral_norm": row["frobenius_norm"] / row["null"]["stable_rank"] ** 0.5}


def functional(whole: float, seed: int) -> list[list[Any]]:
    """Cuts that keep the whole score from k = 4 on, remainders that lose it from there on, and the controls."""
    jitter = 0.001 * (seed - 2)

    def rises(k: int, at: int) -> float:
        return whole if k >= at else max(0.0, whole - 0.2 + jitter)

    rows: list[list[Any]] = [["cut", k, None, rises(k, 4)] for k in CUT_RANKS]
    rows += [["remainder", k, None, whole if k < 4 else max(0.0, whole - 0.2 + jitter)] for k in CUT_RANKS]
    rows += [["random", k, None, rises(k, 32)] for k in CUT_RANKS[1:-1]]
    rows += [["scaled", k, None, rises(k, 16)] for k in CUT_RANKS[1:-1]]
    rows += [["cut", k, module, rises(k, 2)] for module in MODULES for k in CUT_RANKS[:-1]]
    return [*rows, ["gaussian", SIDE, None, max(0.0, whole - 0.25)]]


def declaration(protocol: Protocol = PROTOCOL, tasks: tuple[str, ...] = ("reviews",), **more: Any) -> Declaration:
    """What such a study declares."""
    about = {"study": "experiments.made", "question": "?", "prediction": "!", "cost": "None."}
    full = {arm.name: ("measure=controls",) for arm in protocol.arms if arm.rank is None}
    settings = {
        (task, arm.name): decisive(line(Cell("trial", task, arm.name, arm.lowest, 0), 0.5, protocol)["config"])
        for task in tasks
        for arm in protocol.arms
    }
    more = {"final": full, "written": DECLARED, "settings": settings} | more
    factors = {"task": {task: (f"task={task}",) for task in tasks}}
    return Declaration(texts=about, protocol=protocol, factors=factors, **more)


def settings_of(declared: Declaration, lines: list[dict[str, Any]]) -> dict[Pair, Settings]:
    """The settings of each cell, as the first line has them that the cell's overrides fit."""
    settings = {}
    for condition, overrides in declared.conditions.items():
        for arm in declared.protocol.arms:
            wanted = dict(map(setting, (*overrides, *arm.overrides)))
            fitting = (decisive(x["config"]) for x in lines if wanted.items() <= flat(x["config"]).items())
            settings[condition, arm.name] = next(fitting, wanted)
    return settings


def setting(override: str) -> tuple[str, Any]:
    """An override as the setting that it makes: `method=lora` names a group's file."""
    key, _, text = override.partition("=")
    return (f"{key}.name", text) if key in ("task", "method") else (key, value(text))


def study(truth: Truth = peaked, protocol: Protocol = PROTOCOL, tasks: tuple[str, ...] = ("reviews",)) -> Records:
    """A study whose every run is there, its scores those of `truth`."""
    made: dict[Cell, dict[str, Any]] = {}
    for task in tasks:
        chosen = select(protocol, task, made.get)
        while chosen.missing:
            made |= {cell: line(cell, truth(cell), protocol) for cell in chosen.missing}
            chosen = select(protocol, task, made.get)
        made |= {cell: line(cell, truth(cell), protocol) for cell in finals(protocol, task, chosen)}
    return Records("made", declaration(protocol, tasks), list(made.values()))


def again(records: Records, lines: list[dict[str, Any]], declared: Declaration | None = None) -> Records:
    """The study with other lines, or of another declaration, as if it had been run so."""
    declared = declared or records.declared
    return replace(records, lines=lines, declared=replace(declared, settings=settings_of(declared, lines)))


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


def publish(folder: Path, lines: list[dict[str, Any]], declared: Declaration | None = None) -> None:
    """Write a study as it is published."""
    write_lines(folder, map(as_published, lines))
    if declared:
        write_declaration(folder, declared)


def as_published(made: dict[str, Any]) -> dict[str, Any]:
    """A line whose matrices can be written: their measures stand for singular values that are not kept."""
    no_value = {"shape", "null", "nulls", "module", "layer", "undefined", *NOT_RECORDED}
    lined = dict(made)
    for key in ("matrices", "gaussian"):
        if key in made:
            lined[key] = {
                name: row if isinstance(row, Measured) else Measured(_facts(row, no_value))
                for name, row in made[key].items()
            }
    return lined


def _facts(row: dict[str, Any], no_value: set[str]) -> dict[str, Any]:
    facts = {"module": row["module"], "layer": row["layer"], "out": row["shape"][0], "in": row["shape"][1]}
    facts |= {"base_norm": 100.0} | flat({"nulls": row.get("nulls", {})})
    facts |= {"product_rank": int(row["energy_rank_99"])} if "spikes" not in row else {}
    return facts | {f"{RECORDED}.{key}": value for key, value in row.items() if key not in no_value}


# ---- log losses, the present controls of cuts, a lost arm, a head alone, nats

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


def renewed(line: dict[str, Any]) -> dict[str, Any]:
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
    gains = {50: -0.1, 70: -0.03, 80: 0.0, 90: 0.01}
    rows += [["shrunk", k, None, score + gain + jitter] for k, gain in gains.items()]
    rows += [["cut", k, module, score - 0.1 * (k < 4)] for module in MODULES for k in (0, *FOURS)]
    right = line[CORRECT]
    less = right & (np.cumsum(right) > 0.2 * EXAMPLES["test"])
    answers = {("cut", k): right if k >= 4 else less for k in CUT_RANKS}
    return line | {"functional": rows, CUT_ANSWERS: answers}


def present(records: Records) -> Records:
    """The study with the present controls of its cuts."""
    return changed(records, renewed)


def lost(records: Records, seeds: tuple[int, ...] = (2,), **wanted: Any) -> Records:
    """The study, the final runs with these seeds diverged that are as wanted, else those of rank 1."""
    fields = ("run_id", "method", "rank", "seed", "code", "git", "versions", "hardware", "written", "config", "inputs")
    wanted = wanted or {"rank": 1}

    def change(line: dict[str, Any]) -> dict[str, Any]:
        if line["seed"] not in seeds or any(line[key] != value for key, value in wanted.items()):
            return line
        return {key: line[key] for key in fields} | {"status": "diverged", "reason": "the loss is NaN"}

    return changed(records, change)


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


def directed(records: Records, higher: bool) -> Records:
    """The study, or the one of errors, of which lower is better."""
    return records if higher else mirrored(records, "error", 1.0)


def mirrored(records: Records, name: str, above: float) -> Records:
    """The study with each score taken from `above`, so that lower scores are better."""
    heads = {task: mirrored_line(head, name, above) for task, head in records.heads.items()}
    return replace(again(records, [mirrored_line(line, name, above) for line in records.lines]), heads=heads)


def mirrored_line(line: dict[str, Any], name: str, above: float) -> dict[str, Any]:
    made = copy.deepcopy(line)
    made["metrics"] = {key.replace("accuracy", name): above - score for key, score in line["metrics"].items()}
    made |= {"metric": name, "higher_is_better": False}
    if "functional" in line:
        made["functional"] = [[*place, above - score] for *place, score in line["functional"]]
    return made


def in_nats(records: Records) -> Records:
    """The study of a language model: 2 less each score in nats, and what each test example adds."""
    lines = mirrored(records, "nats", 2.0).lines
    for line in lines:
        line["config"]["task"]["kind"] = "language_modeling"
        if line.pop(CORRECT, None) is not None:
            draw = np.random.default_rng(zlib.crc32(line["run_id"].encode()))
            values = draw.gamma(4, 0.1, EXAMPLES["test"])
            line[PSEUDO_VALUES] = (values - values.mean() + line["metrics"]["test/nats"]).astype(np.float16)
    return again(records, lines)


def of_one_seed(records: Records) -> Records:
    return replace(records, lines=[x for x in records.lines if x["config"]["measure"] == "trial" or x["seed"] == 0])
