"""Faults that a launcher is started with: each makes one thing of the lab, or of the system, go wrong."""

import ctypes
import errno
import inspect
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def kill_at_step(step: int) -> None:
    """End the process group right after a training step of any run."""
    from lorax_lab import console

    inner = console.Steps.__call__

    def on_step(self: Any, at: int, steps: int, metrics: dict[str, float]) -> None:
        inner(self, at, steps, metrics)
        if at == step:
            os.killpg(0, signal.SIGKILL)

    console.Steps.__call__ = on_step


def die_at_write(number: int) -> None:
    """End the process, as a power cut would, at its n-th fsync or rename, or when it removes a file or a folder."""
    _count_writes(number, lambda: os._exit(137), ("fsync", "replace", "unlink", "rmdir"))


def disk_full_at_write(number: int, ever_after: bool = False) -> None:
    """The n-th fsync or rename fails for want of space, or all from it on."""

    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    _count_writes(number, fail, ever_after=ever_after)


def _count_writes(
    number: int, act: Callable[[], None], names: tuple[str, ...] = ("fsync", "replace"), ever_after: bool = False
) -> None:
    seen = 0

    def counted(inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == number or (ever_after and seen > number):
                print(f"write {number} is the one", flush=True)
                act()
            return inner(*args, **kwargs)

        return call

    for name in names:
        setattr(os, name, counted(getattr(os, name)))


def at_print(number: int, act: str) -> None:
    """At the n-th write to standard output a signal of that name comes, or with `full` there is no room from it on."""
    from lorax_lab.record.redact import guard

    inner, count = sys.stdout.write, itertools.count(1)

    def write(text: str) -> int:
        at = next(count)
        if at == number:
            print(f"print {number} is the one", file=sys.stderr, flush=True)
            if act != "full":
                os.kill(os.getpid(), signal.Signals[act])
        if at >= number and act == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return inner(text)

    sys.stdout.write = write
    guard()  # as at the entry of every command


def folder_at_name(number: int) -> None:
    """A folder with something in it stands under the n-th name that a file is to get."""
    inner, count = os.replace, itertools.count(1)

    def replace(source: Any, target: Any) -> None:
        if next(count) == number:
            print(f"name {number} is the one", file=sys.stderr, flush=True)
            Path(target).unlink(missing_ok=True)
            Path(target, "in the way").mkdir(parents=True)
        inner(source, target)

    os.replace = replace


def by_seed(**ends: str) -> None:
    """The run of a method and a seed, such as `lora_s3`, ends in its own way, one of `ENDS`, when its training would
    begin."""
    from lorax_lab import train

    inner = train.train

    def wrapped(model: Any, *args: Any, **kwargs: Any) -> Any:
        seed = inspect.signature(inner).bind(model, *args, **kwargs).arguments["seed"]
        method = "full" if all(p.requires_grad for p in model.parameters()) else "lora"
        if end := ends.get(f"{method}_s{seed}"):
            ENDS[end](model)
        return inner(model, *args, **kwargs)

    train.train = wrapped


def no_locks() -> None:
    """The file system locks nothing."""
    import fcntl

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = fail


def impatient(seconds: float) -> None:
    """A step may take so many seconds, and the first one ten minutes."""
    from lorax_lab import pulse

    pulse.LEAST, pulse.FIRST = seconds, 600.0


def environment(**variables: str) -> None:
    """Set variables of the environment."""
    os.environ |= variables


def _raise(error: BaseException) -> None:
    raise error


def _ask_for(size: int) -> None:
    import torch

    torch.empty(size, dtype=torch.uint8)


def _not_finite(model: Any) -> None:
    import torch

    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).fill_(float("inf"))


def _within(mode: str, act: Callable[[], object]) -> Callable[[Any], None]:
    """Within the second `step` of a training, or the second `batch` that is scored after it."""

    def arm(model: Any) -> None:
        inner, calls = model.forward, [act, lambda: None]

        def forward(*args: Any, **kwargs: Any) -> Any:
            if model.training == (mode == "step") and calls:
                calls.pop()()
            return inner(*args, **kwargs)

        model.forward = forward

    return arm


ENDS: dict[str, Callable[[Any], None]] = {
    "exception": lambda _: _raise(RuntimeError("boom")), "sys.exit": lambda _: sys.exit(7),
    "os._exit": lambda _: os._exit(0), "segfault": lambda _: ctypes.string_at(0),
    "sigkill": lambda _: os.kill(os.getpid(), signal.SIGKILL), "memory": lambda _: _ask_for(2**45),
    "hang": lambda _: time.sleep(3600), "inf": _not_finite,
    "hang in a step": _within("step", lambda: time.sleep(3600)),
    "hang in a batch": _within("batch", lambda: time.sleep(3600)),
    "stop in a step": _within("step", lambda: os.kill(os.getpid(), signal.SIGSTOP)),
}  # fmt: skip


def apply(fault: dict[str, Any]) -> None:
    """Put the named faults in place: `{name: keyword arguments}`."""
    for name, arguments in fault.items():
        globals()[name](**arguments)
