"""The proof that serving changes nothing: every test example, answered by the adapter alone and in every other way."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.config import OWN, RunConfig
from lorax_lab.console import bar
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import typed
from lorax_lab.methods import lora
from lorax_lab.models import Base, load_base
from lorax_lab.record.record import DamagedRecord, read_record
from lorax_lab.serve.exchange import Batch, Exchange
from lorax_lab.tasks import load_task
from lorax_lab.tasks.kind import Kind
from lorax_lab.tasks.split import Split
from lorax_lab.train import make_accelerator

WAYS = ("exchanged", "merged")
EXCHANGES = 1000
ROUNDING = 1e-4
"""Largest difference, relative to the largest output, that fp32 and another order of sums can make."""


@dataclass(frozen=True, eq=False)
class Served:
    """The exchange with the adapter of every run; each run's folder, configuration and test split, by its id."""

    exchange: Exchange
    folders: dict[str, Path]
    configs: dict[str, RunConfig]
    tests: dict[str, Split]

    def batch(self, name: str, count: int) -> Batch:
        """The first examples of a run's test split."""
        return self.tests[name].batch(list(range(count))).inputs

    def bare(self, name: str) -> nn.Module:
        """A fresh base with a head for the run's task, untrained."""
        model: nn.Module = _bare(self.configs[name]).model
        return model.to(self.exchange.model.device)


def open_served(folders: list[Path]) -> Served:
    """Load the base of the runs once, and add every run's adapter to it.

    Raises:
        ConfigError: a folder has no completed run, or one whose task is not served; an adapter is refused.
    """
    configs = {folder.name: _config(folder) for folder in folders}
    first = next(iter(configs.values()))
    base = _bare(first)
    base.model.to(make_accelerator(first.train).device)
    exchange, tests = Exchange(base, base.sha256), {}
    for folder, config in zip(folders, configs.values(), strict=True):
        exchange.add(folder.name, folder)
        task = load_task(config.task)
        tests[folder.name] = Split.encoded(task, task.test, base.processor)
    return Served(exchange, {folder.name: folder for folder in folders}, configs, tests)


def prove(served: Served) -> dict[str, Any]:
    """Compare all ways on all test splits, and one text of each task after each of 1,000 random exchanges.

    Returns:
        `runs`: for each run its examples, how many answers are the same in each way, and the largest relative
        difference of outputs. `exchanges`: how many random ones, and the largest difference after any.
        `base_unchanged`: whether the base has the same bits as before. `equal`: whether only rounding differs.
    """
    exchange, before, alone, runs = served.exchange, served.exchange.fingerprint(), {}, {}
    with bar("proving") as on_done:
        for number, (name, test) in enumerate(served.tests.items()):
            on_done(number, len(served.tests))
            model = served.bare(name)
            lora.load(model, served.folders[name])
            alone[name] = test.outputs(model.eval())
            exchange.switch(name)
            ways = {"exchanged": test.outputs(exchange.model)}
            exchange.merge()
            ways["merged"] = test.outputs(exchange.model)
            runs[name] = _compared(test, alone[name], ways)
    worst = _exchanged_at_random(served, {name: outputs[0] for name, outputs in alone.items()})
    unchanged = exchange.fingerprint() == before
    same = all(row[f"same.{way}"] == row["examples"] for row in runs.values() for way in WAYS)
    small = max(worst, *(row["difference"] for row in runs.values())) <= ROUNDING
    exchanges = {"count": EXCHANGES, "difference": worst}
    return {"runs": runs, "exchanges": exchanges, "base_unchanged": unchanged, "equal": same and small and unchanged}


def _exchanged_at_random(served: Served, expected: dict[str, Tensor]) -> float:
    """The largest difference from `expected`, each adapter's outputs for the first example of its test split."""
    exchange, draw, worst = served.exchange, random.Random(0), 0.0
    batches = {name: served.batch(name, 1) for name in served.tests}
    exchange.switch(name := next(iter(batches)))
    for _ in range(EXCHANGES):
        call = draw.choice(("switch", "merge", "unmerge"))
        if call == "switch":
            exchange.switch(name := draw.choice(list(batches)))
        else:
            getattr(exchange, call)()
        worst = max(worst, _difference(exchange.serve(batches[name])[0].cpu(), expected[name]))
    return worst


def _compared(test: Split, alone: Tensor, ways: dict[str, Tensor]) -> dict[str, Any]:
    kind = test.task.kind
    expected = torch.from_numpy(kind.answers(alone.numpy()))
    row: dict[str, Any] = {"task": test.task.config.name, "metric": test.task.metric, "examples": len(alone)}
    row["score"] = test.task.score(alone.numpy(), test.labels)[test.task.metric]
    for way, outputs in ways.items():
        answers = torch.from_numpy(kind.answers(outputs.numpy()))
        close = torch.isclose(answers, expected, ROUNDING, ROUNDING) if answers.is_floating_point() else None
        row[f"same.{way}"] = int((answers == expected if close is None else close).sum())
    return row | {"difference": max(_difference(outputs, alone) for outputs in ways.values())}


def _difference(outputs: Tensor, expected: Tensor) -> float:
    return float((outputs - expected).abs().max() / expected.abs().max())


def _config(folder: Path) -> RunConfig:
    """The configuration of the run in `folder`, whose task has a head with one row of outputs for each example."""
    try:
        config = typed(read_record(folder).config)
    except DamagedRecord as error:
        raise ConfigError(f"{folder}: {error}") from error
    except FileNotFoundError:
        raise ConfigError(f"{folder} has no record; name folders of runs, as in runs/minilm-*-lora-r8-*") from None
    task = load_task(config.task)
    if type(task.kind).outputs is not Kind.outputs:
        raise ConfigError(f"{folder}: task.kind={config.task.kind} is not served, since one answer takes many passes")
    if (pooling := getattr(config.task, "pooling", OWN)) != OWN:
        raise ConfigError(f"{folder}: task.pooling={pooling} is not served; serve runs of task.pooling={OWN}")
    return config


def _bare(config: RunConfig) -> Base:
    task = load_task(config.task)
    return load_base(config.model, task.head, config.seed, task.kind.model_class, task.kind.processor_class)
