"""The proof that serving changes nothing: every test example, answered by the adapter alone and in every other way; and
what serving costs: bytes on disk and in memory, seconds of a switch and of a request."""

import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.config import OWN, RunConfig
from lorax_lab.console import bar
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import typed
from lorax_lab.methods import lora
from lorax_lab.methods.adapters import SETTINGS, WEIGHTS
from lorax_lab.models import Base, load_base, resolve
from lorax_lab.models.files import weight_files
from lorax_lab.record.record import read_record
from lorax_lab.serve.exchange import Exchange
from lorax_lab.tasks import load_task
from lorax_lab.tasks.kind import Kind
from lorax_lab.tasks.split import Split
from lorax_lab.train import device_of

ROUNDING = 1e-4
"""Largest difference, relative to the largest output, that fp32 and another order of sums can make."""


@dataclass(frozen=True, eq=False)
class Served:
    """The exchange with the adapter of every run; each run's folder, configuration and test split, by its id."""

    exchange: Exchange
    folders: dict[str, Path]
    configs: dict[str, RunConfig]
    tests: dict[str, Split]


def open_served(folders: list[Path]) -> Served:
    """Load the base of the runs once, and add every run's adapter to it. A ConfigError names a folder without a
    completed run, or whose task is not served, and an adapter that does not fit."""
    configs = {folder.name: _config(folder) for folder in folders}
    first = next(iter(configs.values()))
    base = _bare(first)
    model: nn.Module = base.model
    model.to(device_of(first.train))
    exchange, tests = Exchange(base), {}
    for folder, config in zip(folders, configs.values(), strict=True):
        exchange.add(folder.name, folder)
        task = load_task(config.task)
        tests[folder.name] = Split.encoded(task, task.test, base.processor)
    return Served(exchange, {folder.name: folder for folder in folders}, configs, tests)


def prove(served: Served) -> dict[str, Any]:
    """Compare all ways on all test splits: each adapter exchanged for the one before, then merged.

    Returns:
        `runs`: for each run how many answers are the same in each way, and the largest relative difference of outputs.
        `base_unchanged`: the base's bits. `equal`: only rounding differs.
    """
    exchange, before, runs = served.exchange, served.exchange.fingerprint(), {}
    with bar("proving") as on_done:
        for number, (name, test) in enumerate(served.tests.items()):
            on_done(number, len(served.tests))
            model: nn.Module = _bare(served.configs[name]).model
            lora.load(model.to(exchange.model.device), served.folders[name])
            alone = test.outputs(model.eval())
            exchange.switch(name)  # from another task's adapter, merged
            ways = {"exchanged": test.outputs(exchange.model)}
            exchange.merge()
            ways["merged"] = test.outputs(exchange.model)
            runs[name] = _compared(test, alone, ways)
    unchanged = exchange.fingerprint() == before
    same = all(row[f"same.{way}"] == row["examples"] for row in runs.values() for way in ("exchanged", "merged"))
    small = max(row["difference"] for row in runs.values()) <= ROUNDING
    return {"runs": runs, "base_unchanged": unchanged, "equal": same and small and unchanged}


def _compared(test: Split, alone: Tensor, ways: dict[str, Tensor]) -> dict[str, Any]:
    kind = test.task.kind
    expected = torch.from_numpy(kind.answers(alone.numpy()))
    row: dict[str, Any] = {"task": test.task.config.name, "metric": test.task.metric, "examples": len(alone)}
    row["score"] = test.task.score(alone.numpy(), test.labels)[test.task.metric]
    for way, outputs in ways.items():
        answers = torch.from_numpy(kind.answers(outputs.numpy()))
        close = torch.isclose(answers, expected, ROUNDING, ROUNDING) if answers.is_floating_point() else None
        row[f"same.{way}"] = int((answers == expected if close is None else close).sum())
    largest = max(float((outputs - alone).abs().max()) for outputs in ways.values())
    return row | {"difference": largest / float(alone.abs().max())}


def _config(folder: Path) -> RunConfig:
    """The configuration of the run in `folder`, whose task has a head with one row of outputs for each example."""
    try:
        config = typed(read_record(folder).config)
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


# ---- what serving costs

ROUNDS, SWITCHES, ROWS = 9, 1000, 16
"""Of timing; switches timed together, since one is too short; rows of the request that is timed, at most."""


def costs(served: Served) -> dict[str, Any]:
    """Every cost; seconds are medians. A full model on disk is the base's files, without the task's head."""
    exchange, first = served.exchange, next(iter(served.folders))
    names, model = itertools.cycle(exchange.adapters), served.configs[first].model
    base = sum(file.stat().st_size for file in weight_files(model, resolve(model)))
    adapters = sum((folder / part).stat().st_size for folder in served.folders.values() for part in (WEIGHTS, SETTINGS))
    rows, times = min(ROWS, len(served.tests[first].rows)), defaultdict[str, list[float]](list)
    batch = served.tests[first].batch(list(range(rows))).inputs

    def switch() -> None:
        for name in itertools.islice(names, SWITCHES):
            exchange.switch(name)

    request = partial(exchange.serve, batch)
    turn: dict[str, Callable[[], object]] = {"switch": switch, "request": request, "merge": exchange.merge}
    turn |= {"merged request": request, "unmerge": exchange.unmerge}
    for _ in range(ROUNDS):
        for name, call in turn.items():
            start = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    return {
        "bytes_on_disk": {"base": base, "adapters": adapters, "full": base * len(served.folders)},
        "bytes_held": held_bytes(exchange),
        "seconds": seconds | {"switch": seconds["switch"] / SWITCHES},
        "rows_of_a_request": rows,
    }


def held_bytes(exchange: Exchange) -> dict[str, int]:
    """Bytes in memory of the base, of all adapters with their heads, and of one merged adapter."""
    exchange.merge()
    held = {name: sum(tensor.nbytes for tensor in tensors) for name, tensors in exchange.held().items()}
    exchange.unmerge()
    return held
