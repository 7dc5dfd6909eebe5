"""What serving costs: bytes on disk, in memory and for a request; seconds of a switch and of a request."""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lorax_lab.console import bar
from lorax_lab.errors import ConfigError
from lorax_lab.memory import peak_of
from lorax_lab.methods.peft_files import SETTINGS, WEIGHTS
from lorax_lab.models import resolve
from lorax_lab.record.files import save_tensors
from lorax_lab.serve.exchange import Batch, Exchange
from lorax_lab.serve.served import Served

ROUNDS = 9
SWITCHES = 1000
EACH = 4
"""Rows of each task in the request that is timed."""
CHECKPOINTS = ("*.safetensors", "*.bin")
Contender = tuple[Callable[[], object], Callable[[], object]]
"""A preparation, which is not timed, and the call that is."""


def measure(served: Served, folder: Path) -> dict[str, Any]:
    """Every cost. A full checkpoint is written into `folder`, timed and removed again."""
    rows = served.few(EACH)
    batch, names = served.batch(rows), [name for name, _ in rows]
    ways = requests(served.exchange, batch, names)
    with bar("measuring requests") as on_done:
        seconds = {name: statistics.median(times) for name, times in in_turn(ways, ROUNDS, on_done).items()}
    return {
        "bytes_on_disk": on_disk(served),
        "bytes_held": held_bytes(served.exchange),
        "seconds": exchange_seconds(served.exchange) | checkpoint_seconds(served.bare(names[0]), folder),
        "request": {
            "rows": len(rows),
            "tokens": max(served.tests[name].sizes[i] for name, i in rows),
            "seconds": seconds,
            "peak_bytes": request_bytes(served.exchange, ways),
        },
    }


def requests(exchange: Exchange, batch: Batch, names: list[str]) -> dict[str, Contender]:
    """The ways to serve one batch: all rows by the first adapter, unmerged and merged; each row by its own, in one
    batch and in one batch per task."""
    first, parts = names[0], {name: [i for i, other in enumerate(names) if other == name] for name in names}
    own = {name: {key: tensor[rows] for key, tensor in batch.items()} for name, rows in parts.items()}

    def merge() -> None:
        exchange.switch(first)
        exchange.merge()

    def one_by_one() -> None:
        for name, part in own.items():
            exchange.switch(name)
            exchange.serve(part)

    return {
        "unmerged": (lambda: exchange.switch(first), lambda: exchange.serve(batch)),
        "merged": (merge, lambda: exchange.serve(batch)),
        "mixed": (lambda: exchange.switch(first), lambda: exchange.mixed(batch, names)),
        "one task after another": (lambda: exchange.switch(first), one_by_one),
    }


def in_turn(
    contenders: dict[str, Contender], rounds: int, on_done: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, list[float]]:
    """Seconds of each contender in each round. Each round begins with another one; a first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            prepare, call = contenders[name]
            prepare()
            seconds = seconds_of(call)
            if turn:
                times[name].append(seconds)
        on_done(turn, rounds)
    return times


def seconds_of(call: Callable[[], object]) -> float:
    """Seconds of one call, the device's work included."""
    _wait()
    start = time.perf_counter()
    call()
    _wait()
    return time.perf_counter() - start


def request_bytes(exchange: Exchange, ways: dict[str, Contender]) -> dict[str, int]:
    """The most bytes that one request has alive beside the base, the adapters and what is merged."""
    peaks = {}
    for name, (prepare, call) in ways.items():
        prepare()
        peaks[name] = peak_of(call, [tensor for tensors in exchange.held().values() for tensor in tensors])
    return peaks


def held_bytes(exchange: Exchange) -> dict[str, int]:
    """Bytes in memory of the base, of all adapters with their heads, and of one merged adapter."""
    exchange.merge()
    held = {name: sum(tensor.nbytes for tensor in tensors) for name, tensors in exchange.held().items()}
    exchange.unmerge()
    return held


def exchange_seconds(exchange: Exchange) -> dict[str, float]:
    """Medians: a switch (of many in a row), a merge, an unmerge."""
    names = itertools.cycle(exchange.adapters)

    def switches() -> None:
        for name in itertools.islice(names, SWITCHES):
            exchange.switch(name)

    calls: dict[str, Contender] = {
        "switch": (lambda: None, switches),
        "merge": (exchange.unmerge, exchange.merge),
        "unmerge": (exchange.merge, exchange.unmerge),
    }
    medians = {name: statistics.median(times) for name, times in in_turn(calls, ROUNDS).items()}
    return medians | {"switch": medians["switch"] / SWITCHES}


def checkpoint_seconds(model: nn.Module, folder: Path) -> dict[str, float | None]:
    """Medians of loading a full checkpoint into an existing model: from the page cache and, where the system can be
    told to drop a file's pages (Linux), from the disk."""
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory(dir=folder, prefix=".checkpoint-") as scratch:
        path = Path(scratch) / "model.safetensors"
        save_tensors(path, dict(model.state_dict()))
        load = lambda: model.load_state_dict(load_file(path))  # noqa: E731
        ways: dict[str, Contender] = {"load from page cache": (load, load)}
        if hasattr(os, "posix_fadvise"):
            ways["load from disk"] = (lambda: forget(path), load)
        seconds = in_turn(ways, ROUNDS)
    return {"load from disk": None} | {name: statistics.median(times) for name, times in seconds.items()}


def forget(path: Path) -> None:
    """Make the system drop a file's pages from its cache; they are on the disk already."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def on_disk(served: Served) -> dict[str, Any]:
    """Bytes of the files of the base and of each adapter; a full model is the base's files and its task's head."""
    model = next(iter(served.runs.values())).config.model
    folder = resolve(model)
    files = next((matches for pattern in CHECKPOINTS if (matches := list(folder.glob(pattern)))), [])
    if not files:
        raise ConfigError(f"model={model}: {folder} has no weights; allowed are files {' and '.join(CHECKPOINTS)}")
    base = sum(file.stat().st_size for file in files)
    adapters = {
        name: sum((run.folder / file).stat().st_size for file in (WEIGHTS, SETTINGS))
        for name, run in served.runs.items()
    }
    full = {name: base + served.exchange.head_bytes(name) for name in served.runs}
    return {"base": base, "adapters": adapters, "full": full}


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
