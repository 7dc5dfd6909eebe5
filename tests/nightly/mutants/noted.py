"""The switches that mutmut puts before each function that it mutates note who passes, also in processes of a test."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

PASSED: set[str] = set()
"""Functions that were called since the set was emptied, as mutmut names them."""
FOLDER = "LORAX_REACHED"
"""Variable that names the folder where processes that a test starts leave what they called."""


def note_calls() -> None:
    """From here on, the switches of modules that are imported note each call in `PASSED`."""
    from mutmut.mutation import trampoline

    inner = trampoline.wrap_in_trampoline

    def noting(mutants: dict[str, Callable[..., Any]], is_classmethod: bool = False) -> Callable[..., Any]:
        def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
            switch = inner(mutants, is_classmethod)(function)

            @wraps(switch)
            def call(*args: Any, **kwargs: Any) -> Any:
                original = mutants["_mutmut_orig"].__name__.removesuffix("__mutmut_orig")
                PASSED.add(f"{function.__module__}.{original}")
                return switch(*args, **kwargs)

            return call

        return wrap

    trampoline.wrap_in_trampoline = noting  # type: ignore[assignment]


def note_in_a_process_of_a_test() -> None:
    """What sitecustomize.py calls in every Python that a test starts: note, and leave the notes when it ends."""
    note_calls()
    path = Path(os.environ[FOLDER]) / f"{os.getpid()}-{time.time_ns()}"
    atexit.register(lambda: path.write_text("\n".join(PASSED)))


def of_processes() -> set[str]:
    """What processes that have ended since the last time called."""
    found: set[str] = set()
    for path in Path(os.environ[FOLDER]).iterdir() if FOLDER in os.environ else ():
        found.update(path.read_text().split("\n"))
        path.unlink(missing_ok=True)
    return found - {""}
