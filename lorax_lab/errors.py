"""What can go wrong that is the user's fault, and what to type instead; how every entry ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from difflib import get_close_matches


class ConfigError(ValueError):
    """The user's fault: names the key, the value it got, what is allowed and what to type."""


class Diverged(RuntimeError):
    """A run's numbers stopped being finite; it ends before its weights take them."""


def suggest(value: str, allowed: list[str] | tuple[str, ...]) -> str:
    """`did you mean 'x'? allowed: x, y`, for the end of an error message."""
    close = get_close_matches(value, allowed, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"{hint}allowed: {', '.join(allowed)}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, CUDA's, or that of torch's allocator on the CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def answer(work: Callable[[], int], after_stop: str = "") -> int:
    """The exit code of `work`, or 2 for a wrong input, 130 for Ctrl-C; both are said on the error stream.

    Args:
        after_stop: what to say after "stopped": what is kept, and how to go on.
    """
    try:
        return work()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped{after_stop}", file=sys.stderr)
        return 130
