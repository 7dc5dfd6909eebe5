"""How every entry ends: a wrong input and Ctrl-C each become a line and an exit code, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from lorax_lab.config import ConfigError


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
