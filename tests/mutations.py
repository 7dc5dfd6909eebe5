"""Mutations of a study's records: each changes what matters to a verdict, as a mistake or a tamperer may."""

from __future__ import annotations

import base64
import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from lorax_lab.study.continuity import KEY
from synthetic import NAMES, renamed
from tampered import ONE, TASKS, copied, of, packed, whole, with_declared, with_protocol

from analysis.study.records import Records
from lorax_lab.study.answers import correct_answers
from lorax_lab.study.declaration import own_content
from lorax_lab.study.protocol import CHOSEN_FROM

Line = dict[str, Any]
Change = Callable[[Line], Any]


@dataclass(frozen=True)
class Mutation:
    """A mutated study, and in words what was done to it."""

    name: str
    make: Callable[[], Records]


def into(path: str, value: Any) -> Change:
    """Put a value, or what a function makes of the earlier one, at a dotted path of a line."""
    *sections, key = path.split("/")

    def change(line: Line) -> None:
        place: Any = line
        for section in sections:
            place[section] = copy.copy(place[section])
            place = place[section]
        place[key] = value(place[key]) if callable(value) else value

    return change


def times(factor: float) -> Callable[[float], float]:
    return lambda value: float(f"{value * factor:.6g}")


def plus(step: float) -> Callable[[float], float]:
    return lambda value: round(value + step, 6)


ANY: dict[str, Change] = {
    "seed": into("seed", 7),
    "seed and configured seed": lambda line: line.update(seed=7, config=line["config"] | {"seed": 7}),
    "method": into("method", "dora"),
    "rank": into("rank", 3),
    "configured rank": into("config/rank", 3),
    "configured seed": into("config/seed", 9),
    "configured model": into("config/model", "n"),
    "stage": into("config/measure", lambda was: "standard" if was == "trial" else "trial"),
    "rate doubled": into("config/train/learning_rate", times(2.0)),
    "rate off by a hundredth": into("config/train/learning_rate", times(1.01)),
    "batch size": into("config/train/batch_size", 32),
    "epochs": into("config/train/epochs", 2),
    "warm-up": into("config/train/warmup", 0.2),
    "precision": into("config/train/precision", "bf16"),
    "head kept": into("config/train/head", False),
    "training examples": into("config/task/train_examples", 500),
    "another task": into("config/task/name", "tweets"),
    "a metric of its own": into("config/task/metric", "macro_f1"),
    "kind": into("config/task/kind", "regression"),
    "alpha": into("config/method/alpha", 512.0),
    "rsLoRA": into("config/method/rslora", True),
    "targets": into("config/method/target_modules", ["query"]),
    "code": into("code", "e" * 64),
    "dirty": into("git/dirty", True),
    "commit": into("git/commit", "b" * 40),
    "torch": into("versions/torch", "1"),
    "threads": into("hardware/threads", 8),
    "device": into("hardware/device", "cuda"),
    "older than the declaration": into("written", "2026-11-20T00:00:00Z"),
    "no time": into("written", "yesterday"),
    "failed": into("status", "failed"),
    "diverged": into("status", "diverged"),
    "another declaration": into(KEY, "0" * 64),
    "no declaration": lambda line: line.pop(KEY),
    "run id": into("run_id", lambda was: was[:-1] + ("0" if was[-1] != "0" else "1")),
    "model's hash": into("inputs/model_sha256", "n"),
    "data's hash": into("inputs/data_sha256", "e"),
    "test examples": into("inputs/examples/test", 900),
    "train examples": into("inputs/examples/train", 299),
    "head": into("inputs/head_sha256", "another"),
    "trained": into("parameters/trainable", plus(1)),
    "adapter": into("parameters/adapter", plus(7)),
    "adapter and trained": lambda line: [into(f"parameters/{k}", plus(64))(line) for k in ("adapter", "trainable")],
    "head's parameters": lambda line: [into(f"parameters/{k}", plus(64))(line) for k in ("head", "trainable")],
    "total": into("parameters/total", plus(-9)),
    "metric": into("metric", "macro_f1"),
    "direction": into("higher_is_better", False),
    "no score": into("metrics", {}),
    "validation between two shares": lambda line: _metric(line, "validation", 0.0004),
    "validation above one": lambda line: _metric(line, "validation", 1.0),
    "peak": into("memory/peak_bytes", times(0.5)),
    "weights": into("memory/by_category/weights", plus(-4000)),
    "steps": into("time/steps", 38),
    "examples seen": into("time/examples", 600),
    "tokens seen": into("time/tokens", 2999),
}  # fmt: skip
TRIAL: dict[str, Change] = {
    "a better trial": lambda line: _metric(line, "validation", 0.05),
    "a trial an example better": lambda line: _metric(line, "validation", 0.001),
    "a worse trial": lambda line: _metric(line, "validation", -0.1),
    "a trial after the final runs": into("written", "2026-11-25T09:00:00Z"),
    "a trial that read the test": lambda line: line.update(metrics=line["metrics"] | {"test/accuracy": 0.8}),
    "a trial with answers": into("correct", "00"),
}  # fmt: skip
FINAL: dict[str, Change] = {
    "a better score": lambda line: _metric(line, "test", 0.02),
    "an example better": lambda line: _metric(line, "test", 0.001),
    "digits swapped": lambda line: _metric(line, "test", 0.09),
    "before its trials": into("written", "2026-11-24T12:00:00Z"),
    "other trials": into(CHOSEN_FROM, "0" * 64),
    "no trials": lambda line: line.pop(CHOSEN_FROM),
    "an answer turned": into("correct", lambda was: f"{int(was[0], 16) ^ 8:x}{was[1:]}"),
    "answers cut": into("correct", lambda was: was[:-2]),
    "answers padded": into("correct", lambda was: was + "00"),
    "all right": into("correct", lambda was: "f" * len(was)),
    "a matrix gone": lambda line: line.update(matrices={k: line["matrices"][k] for k in NAMES[1:]}),
    "no matrices": into("matrices", {}),
    "losses gone": lambda line: line.pop("log_losses"),
    "losses near nothing": into("log_losses", packed(np.full(1000, 0.001))),
    "losses of a guess": into("log_losses", packed(np.full(1000, 0.7))),
    "losses halved": into("log_losses", lambda was: packed(unpacked(was) / 2)),
    "losses cut": into("log_losses", lambda was: packed(unpacked(was)[:-1])),
    "losses in another order": into("log_losses", lambda was: packed(unpacked(was)[::-1])),
    "a matrix's shape": into(f"matrices/{NAMES[0]}/shape", [64, 32]),
    "a matrix's type": into(f"matrices/{NAMES[2]}/module", "attention.self.query"),
    "stable rank": into(f"matrices/{NAMES[1]}/stable_rank", times(1.01)),
    "spectral norm": into(f"matrices/{NAMES[1]}/spectral_norm", times(0.9)),
    "effective rank above the side": into(f"matrices/{NAMES[3]}/effective_rank", 70.0),
    "noise's effective rank": into(f"matrices/{NAMES[3]}/null", lambda was: was | {"effective_rank": 99.0}),
}  # fmt: skip
FULL: dict[str, Change] = {
    **{
        f"{key} by a hundredth": into(f"matrices/{NAMES[place]}/{key}", times(1.01))
        for place, key in enumerate(("effective_rank", "participation_ratio", "energy_entropy_rank", "frobenius_norm"))
    },
    "energy rank 90": into(f"matrices/{NAMES[0]}/energy_rank_90", plus(3)),
    "energy rank 99": into(f"matrices/{NAMES[0]}/energy_rank_99", plus(-3)),
    "spikes": into(f"matrices/{NAMES[0]}/spikes", plus(4)),
    "above rounding": into(f"matrices/{NAMES[0]}/above_rounding", plus(-4)),
    "relative norm": into(f"matrices/{NAMES[0]}/relative_norm", times(0.5)),
    "a singular value": into(f"sigma/{NAMES[0]}", lambda was: [was[0] * 1.2, *was[1:]]),
    "singular values turned": into(f"sigma/{NAMES[0]}", lambda was: was[::-1]),
    "singular values cut": into(f"sigma/{NAMES[4]}", lambda was: was[:8]),
    "singular values of one gone": lambda line: line.update(sigma={k: line["sigma"][k] for k in NAMES[1:]}),
    "cuts gone": lambda line: line.pop("functional"),
    "a cut gone": into("functional", lambda was: was[:4] + was[5:]),
    "a control gone": into("functional", lambda was: [row for row in was if row[0] != "random"]),
    "a module gone": into("functional", lambda was: [row for row in was if row[2] != "intermediate.dense"]),
    "a cut twice": into("functional", lambda was: [*was, was[3]]),
    "the whole update's cut": into("functional", lambda was: moved(was, "cut", 64, 0.01)),
    "nothing cut off": into("functional", lambda was: moved(was, "remainder", 0, 0.01)),
    "all cut off": into("functional", lambda was: moved(was, "cut", 0, 0.1)),
    "all of the remainder": into("functional", lambda was: moved(was, "remainder", 64, 0.1)),
    "a cut between two shares": into("functional", lambda was: moved(was, "cut", 4, 0.0003)),
    "validation of a final run": lambda line: _metric(line, "validation", 0.01),
    "singular values gone": lambda line: line.pop("sigma"),
    "singular values gone, other measures": lambda line: [line.pop("sigma"), into(
        f"matrices/{NAMES[0]}/effective_rank", 5.0)(line)],
    "answers when cut gone": lambda line: line.update(functional_correct={}),
    "answers of one cut gone": lambda line: line["functional_correct"].pop("cut/2"),
    "a cut with the whole update's answers": lambda line: line["functional_correct"].update(
        {"cut/2": line["functional_correct"]["cut/64"]}),
    "a cut that is all right": lambda line: line["functional_correct"].update({"cut/1": "f" * 250}),
    "two cuts swapped": lambda line: line["functional_correct"].update(
        {"cut/1": line["functional_correct"]["cut/32"], "cut/32": line["functional_correct"]["cut/1"]}),
    "the whole update's answers": lambda line: line["functional_correct"].update(
        {"cut/64": line["functional_correct"]["cut/0"]}),
    "noise gone": lambda line: line.pop("gaussian"),
    "noise of another kind": into(f"gaussian/{NAMES[0]}/effective_rank", times(0.4)),
    "noise's stable rank": into(f"gaussian/{NAMES[0]}/stable_rank", times(1.1)),
}  # fmt: skip
LORA: dict[str, Change] = {
    "a rank above its own": into(f"matrices/{NAMES[0]}/energy_rank_99", plus(1)),
    "an adapter of more": lambda line: [
        into(f"parameters/{key}", plus(768))(line) for key in ("adapter", "trainable", "total")
    ],
}  # fmt: skip
RENAMED = ("config", "model's hash", "data's hash", "rate", "batch", "epochs", "alpha", "rsLoRA", "targets", "stage",
           "seed and", "warm", "precision", "head kept", "training", "another task", "metric of", "kind")  # fmt: skip
"""Beginnings of mutations that are tried with the run id that follows from them as well."""


def unpacked(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f2").astype(float)


def _metric(line: Line, split: str, step: float) -> None:
    key = f"{split}/{line['metric']}"
    line["metrics"] = line["metrics"] | {key: round(line["metrics"][key] + step, 6)}


def moved(rows: list[Any], part: str, k: int, step: float) -> list[Any]:
    """The scores of cuts, one of them moved."""
    return [[*row[:3], round(row[3] + step, 6)] if row[:3] == [part, k, None] else row for row in rows]


def _of_one(change: Change, place: int, rename: bool) -> Callable[[], Records]:
    def make() -> Records:
        lines = list(whole().lines)
        line = copy.deepcopy(lines[place])
        change(line)
        lines[place] = renamed(line, whole().declared) if rename else line
        return replace(whole(), lines=lines)

    return make


def of_lines(draw: random.Random) -> Iterator[Mutation]:
    """Every change of a single line, on lines that are drawn."""
    lines = whole().lines
    every = list(range(len(lines)))
    trials = [i for i in every if lines[i]["config"]["measure"] == "trial"]
    finals = [i for i in every if i not in trials]
    full = [i for i in finals if lines[i]["method"] == "full"]
    lora = [i for i in finals if lines[i]["method"] == "lora"]
    for changes, places in ((ANY, every), (TRIAL, trials), (FINAL, finals), (FULL, full), (LORA, lora)):
        for name, change in changes.items():
            for place in draw.sample(places, 2 if places is every else 3):
                run = lines[place]["run_id"]
                yield Mutation(f"{name} of {run}", _of_one(change, place, rename=False))
                if name.startswith(RENAMED):
                    yield Mutation(f"{name} of {run}, renamed", _of_one(change, place, rename=True))


def _of_lines(name: str, change: Callable[[list[Line]], Any], tasks: tuple[str, ...] = ONE) -> Mutation:
    def make() -> Records:
        lines = copied(tasks)
        change(lines)
        return replace(whole(tasks), lines=lines)

    return Mutation(name, make)


def _swap(lines: list[Line], key: str, stage: str) -> None:
    one, other = of(lines, stage, rank=8)[:2]
    one[key], other[key] = other[key], one[key]


def _copy(lines: list[Line], keys: tuple[str, ...], source: int | None, target: int | None) -> None:
    one, other = of(lines, "final", rank=source, seed=1)[0], of(lines, "final", rank=target, seed=3)[0]
    other |= {key: copy.deepcopy(one[key]) for key in keys}


def _collapsed(lines: list[Line], rank: int | None) -> None:
    """The answers of a seed in all, which are said to be one class."""
    runs = of(lines, "final", rank=rank)
    for line in runs:
        line |= {key: copy.deepcopy(runs[1][key]) for key in ("correct", "metrics")}
        line["collapsed"] = ["accuracy 0.5 is that of one class, which is what the model does"]


def _all_but_copied(lines: list[Line]) -> None:
    """The answers and losses of a seed in all others, where two examples are exchanged."""
    first, *others = of(lines, "final", rank=8)
    right, lost = correct_answers(first), unpacked(first["log_losses"])
    for place, line in enumerate(others):
        pair = [np.flatnonzero(right)[place], np.flatnonzero(~right)[place]]
        for key, numbers in (("correct", right.copy()), ("log_losses", lost.copy())):
            numbers[pair] = numbers[pair[::-1]]
            line[key] = np.packbits(numbers).tobytes().hex() if key == "correct" else packed(numbers)
        line["metrics"] = line["metrics"] | {"test/accuracy": first["metrics"]["test/accuracy"]}


def _another_base(line: Line) -> None:
    """Every matrix of another norm before training."""
    for row in line["matrices"].values():
        row |= {"base_norm": row["base_norm"] * 100, "relative_norm": float(f"{row['relative_norm'] / 100:.6g}")}


def _updates_of_a_task(lines: list[Line], keys: tuple[str, ...]) -> None:
    """The updates of one task in the other."""
    finals = {(x["config"]["task"]["name"], x["seed"]): x for x in of(lines, "final", method="full")}
    for (task, seed), line in finals.items():
        line |= {key: finals[TASKS[0], seed][key] for key in keys} if task == TASKS[1] else {}


def _repeat(lines: list[Line], seed: int) -> None:
    """A run copied under another seed, with the name that follows."""
    of_run = copy.deepcopy(of(lines, "final", rank=8, seed=0)[0])
    gone = of(lines, "final", rank=8, seed=seed)[0]
    of_run |= {"seed": seed, "config": of_run["config"] | {"seed": seed}, "inputs": gone["inputs"]}
    lines[lines.index(gone)] = renamed(of_run, whole().declared)


def _relabel(lines: list[Line]) -> None:
    """Two arms' labels mistaken for each other."""
    for line in lines:
        if line["rank"] in (1, 8):
            line["rank"] = 9 - line["rank"]
            line["config"]["rank"] = line["rank"]
            line |= renamed(line, whole().declared)


def of_sets() -> Iterator[Mutation]:
    """Lines that are gone, copied, mistaken for others or changed together."""
    for place in range(0, len(whole().lines), 2):
        yield _of_lines(f"line {place} gone", lambda lines, place=place: lines.pop(place))
    for key in ("run_id", "seed", "config", "inputs", "metrics"):
        yield _of_lines(f"{key} of two final runs swapped", lambda lines, key=key: _swap(lines, key, "final"))
    for key in ("run_id", "seed", "config", "metrics"):
        yield _of_lines(f"{key} of two trials swapped", lambda lines, key=key: _swap(lines, key, "trial"))
    answers = ("correct", "metrics")
    for source, target in ((8, 8), (1, 1), (None, None), (None, 8), (None, 1), (8, 1)):
        yield _of_lines(f"answers of {source} in {target}", lambda x, s=source, t=target: _copy(x, answers, s, t))
    yield _of_lines(
        "updates of one seed in another", lambda lines: _copy(lines, ("matrices", "sigma", "gaussian"), None, None)
    )
    for source, target in ((8, 8), (1, 1), (None, None), (None, 8), (8, 1)):
        yield _of_lines(
            f"log losses of {source} in {target}", lambda x, s=source, t=target: _copy(x, ("log_losses",), s, t)
        )
    yield _of_lines("log losses of no run", lambda lines: [x.pop("log_losses", 0) for x in of(lines, "final", rank=8)])
    yield _of_lines("a seed's answers when cut in another", lambda x: _copy(x, ("functional_correct",), None, None))
    for rank in (None, 1, 8):
        yield _of_lines(f"answers of {rank} copied, and said to have collapsed", lambda x, r=rank: _collapsed(x, r))
    yield _of_lines("a seed's answers and losses in all, two exchanged", _all_but_copied)
    yield _of_lines("another norm of the base", lambda lines: _another_base(of(lines, "final", method="full")[2]))
    yield _of_lines(
        "classes of an arm", lambda x: [into("inputs/classes", list("abc"))(y) for y in x if y["rank"] == 1]
    )
    for stage in ("trial", "final"):
        yield _of_lines(
            f"one head in each {stage} run", lambda x, s=stage: [into("inputs/head_sha256", s)(y) for y in of(x, s)]
        )
    for keys in (("matrices", "sigma", "gaussian"), ("matrices", "gaussian"), ("sigma",)):
        yield _of_lines(f"{keys} of a task in another", lambda x, k=keys: _updates_of_a_task(x, k), TASKS)
    for seed in (1, 2, 3, 4):
        yield _of_lines(f"seed 0 again as {seed}", lambda lines, seed=seed: _repeat(lines, seed))
    yield _of_lines("two arms mistaken for each other", _relabel)
    for rank in (None, 1, 8):
        for seed in (0, 4):
            yield _of_lines(
                f"seed {seed} of {rank} gone",
                lambda lines, r=rank, s=seed: [lines.remove(x) for x in of(lines, "final", rank=r, seed=s)],
            )
        yield _of_lines(
            f"trials of {rank} gone", lambda lines, r=rank: [lines.remove(x) for x in of(lines, "trial", rank=r)]
        )
    for key, change in ANY.items():
        if key in ("alpha", "epochs", "precision", "metric", "direction", "another declaration", "head kept", "commit"):
            yield _of_lines(
                f"{key} of every final run of rank 8", lambda x, c=change: [c(y) for y in of(x, "final", rank=8)]
            )
            yield _of_lines(f"{key} of every run", lambda x, c=change: [c(y) for y in x])


def of_declarations() -> Iterator[Mutation]:
    """What was declared, edited afterwards."""
    declared, protocol = whole().declared, whole().protocol
    edits: dict[str, dict[str, Any]] = {
        "margin": {"margin": 0.05},
        "a tighter margin": {"margin": 0.001},
        "rates": {"rates": 4},
        "factor": {"factor": 3.0},
        "extensions": {"extensions": 3},
        "reference": {"reference": "LoRA r=8"},
        "a final seed gone": {"final_seeds": (0, 1, 2, 3)},
        "a final seed more": {"final_seeds": (0, 1, 2, 3, 4, 5)},
        "a selection seed gone": {"selection_seeds": (100,)},
        "an arm gone": {"arms": protocol.arms[:2]},
        "an arm's grid": {"arms": (*protocol.arms[:2], replace(protocol.arms[2], lowest=2e-3))},
        "an arm's name": {"arms": (*protocol.arms[:2], replace(protocol.arms[2], name="LoRA"))},
        "an arm's overrides": {
            "arms": (*protocol.arms[:2], replace(protocol.arms[2], overrides=("method=lora", "rank=4")))
        },
    }
    for name, changes in edits.items():
        yield Mutation(f"declared {name}", lambda c=changes: with_protocol(**c))
    one = next(iter(declared.settings))
    wider: dict[str, dict[str, Any]] = {
        "share that is low": {"low_share": 0.5},
        "prediction": {"texts": declared.texts | {"prediction": "As it came."}},
        "question": {"texts": declared.texts | {"question": "Another?"}},
        "overrides of all": {"common": ("train.epochs=2",)},
        "final runs": {"final": {}},
        "another task": {"factors": {"task": {"reviews": ("task=tweets",)}}},
        "a setting": {"settings": declared.settings | {one: declared.settings[one] | {"train.epochs": 2}}},
        "a setting that decides nothing": {"apart": ("method.alpha",)},
        "a neutral value": {"neutral": {"train.head": False}},
        "a metric": {"scores": {"reviews": ("macro_f1", True)}},
        "a direction": {"scores": {"reviews": ("accuracy", False)}},
        "a lower score": {"scores": {}},
        "nulls": {"nulls": {"lora": ("method.x",)}},
        "an earlier time": {"written": "2026-11-01T00:00:00Z"},
        "a later time": {"written": "2026-11-26T00:00:00Z"},
        "a study it is a control of": {"control_of": "rank_sweep"},
    }
    for name, changes in wider.items():
        yield Mutation(f"declared {name}", lambda c=changes: with_declared(**c))
    grown: dict[str, dict[str, Any]] = {
        "no answer": {"figures": ("trials",)},
        "a study it is a control of": {"control_of": "rank_sweep"},
        "no metrics": {"scores": {}},
        "no settings": {"settings": {}},
        "a seed more": {"protocol": replace(protocol, final_seeds=(0, 1, 2, 3, 4, 5))},
        "another margin": {"protocol": replace(protocol, margin=0.05)},
    }
    before = (own_content(declared),)
    for name, changes in grown.items():
        more = {"written": "2026-11-27T00:00:00Z", "earlier": before} | changes
        yield Mutation(f"declared anew with {name}", lambda c=more: with_declared(**c))


def mutations() -> list[Mutation]:
    """All of them, the same at every call."""
    return [*of_lines(random.Random(0)), *of_sets(), *of_declarations()]
