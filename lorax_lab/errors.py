"""What can go wrong that is the user's fault, and what to type instead; how every entry ends."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TextIO


class ConfigError(ValueError):
    """The user's fault: names the key, the value it got, what is allowed and what to type."""


class Diverged(RuntimeError):
    """A run's numbers stopped being finite; it ends before its weights take them."""


@contextmanager
def named(place: object) -> Iterator[None]:
    """Put a name before what is wrong inside: of a file, a module, or a key with its value."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from error


def suggest(value: str, allowed: list[str] | tuple[str, ...]) -> str:
    """`did you mean 'x'? allowed: x, y`, for the end of an error message."""
    close = get_close_matches(value, allowed, n=3, cutoff=0.51)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"{hint}allowed: {', '.join(allowed)}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, CUDA's, or that of torch's allocator on the CPU."""
    is_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return is_of_memory or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


LONGEST, LONGEST_TRACE = 2_000, 20_000
"""Letters that are shown at most of an error's message, and of a traceback."""


def printable(text: str, most: int) -> str:
    """A text of at most so many letters, cut in the middle. A sign that does not print is shown by its code, but for
    the end of a line; so is half a surrogate pair, as an undecodable file name has it, which no file can hold.

    >>> printable("a\\x1b[31m\\n\\udcff", 99), printable("abcdefghij", 4)
    ('a\\\\x1b[31m\\n\\\\udcff', 'ab … 6 letters … ij')
    """
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]} … {len(text) - 2 * half} letters … {text[-half:]}"
    return "".join(sign if sign.isprintable() or sign == "\n" else ascii(sign)[1:-1] for sign in text)


def in_one_line(error: BaseException | str) -> str:
    """An error's message in one line, `printable`.

    >>> in_one_line(ValueError("a\\tb is\\n not \\x1b[31m"))
    'a b is not \\\\x1b[31m'
    """
    return printable(" ".join(str(error).split()), LONGEST)


def in_short(error: BaseException, letters: int = 200) -> str:
    """An error's message in one line, cut; its type where it says nothing.

    >>> in_short(ValueError("a\\tb is\\n not"), 6), in_short(KeyError())
    ('a b is', 'KeyError')
    """
    return in_one_line(error)[:letters] or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


OF_A_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.ELOOP)
"""Errors that another file or folder helps against, also where the system names none: a full disk, a bad name."""


def answer(work: Callable[[], int], after_stop: str = "", stream: TextIO | None = None) -> int:
    """The exit code of `work`, or 2 for a wrong input, 130 for Ctrl-C; both are said.

    Args:
        after_stop: what to say after "stopped": what is kept, and how to go on.
        stream: where it is said; by default the error stream.
    """
    cure = ""
    try:
        if not os.stat(os.curdir).st_nlink:
            raise ConfigError("the folder that this was typed in is gone; cd to one that is there")
        return work()
    except KeyboardInterrupt:
        print(f"\nstopped{after_stop}", file=stream or sys.stderr)
        return 130
    except ConfigError as error:
        wrong: Exception = error
    except OSError as error:
        if error.filename is None and error.errno not in OF_A_PLACE:
            raise
        wrong, cure = error, "; name another file or folder"
    print(f"error: {in_one_line(wrong)}{cure}", file=stream or sys.stderr)
    return 2
