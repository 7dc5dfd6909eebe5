"""When Python looks for garbage: not while many records are read, and not among those that were read."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage is looked for meanwhile; also a decorator, `@uncollected()`, for the time of a call. What is read from
    records has no cycles, so there is none, but each search would look at all of it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def set_aside() -> Iterator[None]:
    """What there is by now is not looked at meanwhile, where garbage is looked for."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
