"""What serving costs: bytes on disk and in memory; seconds of a switch and of a request."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lorax_lab.methods.adapters import SETTINGS, WEIGHTS
from lorax_lab.models import resolve
from lorax_lab.models.weights import weight_files
from lorax_lab.serve.exchange import Batch, Exchange
from lorax_lab.serve.prove import Served

ROUNDS = 9
SWITCHES = 1000
ROWS = 16
"""Rows of the request that is timed."""
Contender = tuple[Callable[[], object], Callable[[], object]]
"""A preparation, which is not timed, and the call that is."""


def costs(served: Served) -> dict[str, Any]:
    """Every cost; seconds are medians. A full model on disk is the base's files and its task's head."""
    exchange, first = served.exchange, next(iter(served.folders))
    model = served.configs[first].model
    base = sum(file.stat().st_size for file in weight_files(model, resolve(model)))
    adapters = sum((folder / part).stat().st_size for folder in served.folders.values() for part in (WEIGHTS, SETTINGS))
    full = sum(base + exchange.head_bytes(name) for name in served.folders)
    with tempfile.TemporaryDirectory() as scratch:
        path, bare = Path(scratch) / WEIGHTS, served.bare(first)
        save_file({name: tensor.contiguous() for name, tensor in bare.state_dict().items()}, path)
        load = lambda: bare.load_state_dict(load_file(path))  # noqa: E731
        seconds = _medians(switches(exchange) | {"load a full model": (load, load)})
    ways = requests(exchange, served.batch(first, ROWS), first)
    return {
        "bytes_on_disk": {"base": base, "adapters": adapters, "full": full},
        "bytes_held": held_bytes(exchange),
        "seconds": seconds | {"switch": seconds["switch"] / SWITCHES},
        "request": {"rows": ROWS, "seconds": _medians(ways)},
    }


def requests(exchange: Exchange, batch: Batch, name: str) -> dict[str, Contender]:
    """The ways to serve one batch by one adapter: unmerged and merged."""

    def merge() -> None:
        exchange.switch(name)
        exchange.merge()

    serve = lambda: exchange.serve(batch)  # noqa: E731
    return {"unmerged": (lambda: exchange.switch(name), serve), "merged": (merge, serve)}


def switches(exchange: Exchange) -> dict[str, Contender]:
    """Many switches in a row, since one is too short to be timed; a merge, an unmerge."""
    names = itertools.cycle(exchange.adapters)

    def many() -> None:
        for name in itertools.islice(names, SWITCHES):
            exchange.switch(name)

    merge, unmerge = (exchange.unmerge, exchange.merge), (exchange.merge, exchange.unmerge)
    return {"switch": (lambda: None, many), "merge": merge, "unmerge": unmerge}


def _medians(contenders: dict[str, Contender]) -> dict[str, float]:
    return {name: statistics.median(seconds) for name, seconds in in_turn(contenders, ROUNDS).items()}


def in_turn(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round. Each round begins with another one; a first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            prepare, call = contenders[name]
            prepare()
            _wait()
            start = time.perf_counter()
            call()
            _wait()
            if turn:
                times[name].append(time.perf_counter() - start)
    return times


def held_bytes(exchange: Exchange) -> dict[str, int]:
    """Bytes in memory of the base, of all adapters with their heads, and of one merged adapter."""
    exchange.merge()
    held = {name: sum(tensor.nbytes for tensor in tensors) for name, tensors in exchange.held().items()}
    exchange.unmerge()
    return held


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
