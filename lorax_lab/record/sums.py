"""Checksums of a published file, in `<file>.sums` beside it: of the whole file and of each of its lines.

A line that is not what was written is named and left out, and so is one that is gone; the rest is read. While a file
is replaced its sums are those of the old content and of the new, so that a crash leaves neither in doubt. A file
without sums, as one that a person made, is read and said to be unchecked.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from lorax_lab.errors import in_short
from lorax_lab.record.files import write_redacted

ENDING = ".sums"
LARGEST = 2**30
"""Largest published file that is read, in bytes."""
DIFFERS = "it is not what was written: its checksum does not match"
LETTERS = 16
"""Hexadecimal digits that are kept of a line's SHA-256."""


class NotAFile(OSError):
    """There is something at a path, and it is no file that can be read."""


@dataclass(frozen=True)
class Checked:
    """What of a file is as it was written.

    Attributes:
        lines: the intact lines by their number, from 1; without sums, every line that is text.
        damages: what is wrong with the others, a sentence each, which begins with the file's name.
        is_sealed: whether there were sums to check it by.
    """

    lines: dict[int, str] = field(default_factory=dict)
    damages: list[str] = field(default_factory=list)
    is_sealed: bool = True

    @property
    def text(self) -> str:
        """The whole file, if nothing is wrong with it."""
        return "".join(f"{line}\n" for line in self.lines.values())


@dataclass(frozen=True)
class _Sums:
    whole: str
    lines: list[str]


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """A file's content. Of a folder, a pipe or a device nothing is read, so that nothing is waited for.

    Raises:
        FileNotFoundError: there is nothing. NotAFile: there is something else than a file, a link that leads nowhere,
            or a file that is too large. OSError: it cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise NotAFile(f"{path} is a link to something that is not there") from None
        raise
    with open(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise NotAFile(f"{path} is no file")
        if status.st_size > largest:
            raise NotAFile(f"{path} has {status.st_size} bytes, more than {largest}; it is not read")
        return file.read(largest + 1)


def sums_path(path: Path) -> Path:
    """Where a file's checksums are."""
    return path.with_name(path.name + ENDING)


def write_summed(path: Path, text: str) -> None:
    """Write a text file whole, and its sums. The text is `redacted` already, since a checksum in it must not change."""
    new = _sums_of(text.encode())
    before = [_sums_of(read_bytes(path))] if is_sealed(path) and not read_checked(path).damages else []
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_sums(path, [*before, new])
    write_redacted(path, text)
    _write_sums(path, [new])


def seal(path: Path) -> None:
    """Write the sums of a file that has none, as it is now."""
    if path.is_file() and not is_sealed(path):
        _write_sums(path, [_sums_of(read_bytes(path))])


def is_sealed(path: Path) -> bool:
    """Whether there are sums of a file."""
    return os.path.lexists(sums_path(path))


def read_checked(path: Path) -> Checked:
    """What of a file is as it was written; nothing where there is neither the file nor sums of it."""
    sealed = is_sealed(path)
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return Checked({}, [f"{path.name}: it is gone, and its checksums are there"] if sealed else [], sealed)
    except OSError as error:
        return Checked({}, [f"{path.name}: it cannot be read: {error}"], sealed)
    pieces = _pieces(content)
    stated, damages = _read_sums(path) if sealed else ([], [])
    altered: list[str] = []
    intact = dict(enumerate(pieces, 1))
    if stated and hashlib.sha256(content).hexdigest() not in [sums.whole for sums in stated]:
        intact, altered = _compared(path, pieces, stated)
    lines, unread = _texts(path, intact)
    return Checked(lines, damages + altered + unread, sealed)


def _compared(path: Path, pieces: list[bytes], stated: list[_Sums]) -> tuple[dict[int, bytes], list[str]]:
    """The lines that are among those that were written, and what is wrong with the file."""
    own = [_of_line(piece) for piece in pieces]
    left = Counter(max(stated, key=lambda sums: sum((Counter(sums.lines) & Counter(own)).values())).lines)
    intact, damages = {}, []
    for number, (piece, sum_) in enumerate(zip(pieces, own, strict=True), 1):
        if left[sum_] > 0:
            left[sum_] -= 1
            intact[number] = piece
        else:
            damages.append(f"{path.name}, line {number}: {DIFFERS}")
    if (lacking := sum(left.values()) - len(damages)) > 0:
        damages.append(f"{path.name}: {lacking} of its lines {'is' if lacking == 1 else 'are'} missing")
    return intact, damages or [f"{path.name}: its lines are in another order, or its end is cut"]


def _texts(path: Path, pieces: dict[int, bytes]) -> tuple[dict[int, str], list[str]]:
    lines, damages = {}, []
    for number, piece in pieces.items():
        try:
            lines[number] = piece.decode("utf-8")
        except UnicodeDecodeError:
            damages.append(f"{path.name}, line {number}: it is no text")
    return lines, damages


def _pieces(content: bytes) -> list[bytes]:
    """The lines, without their ends."""
    pieces = content.split(b"\n")
    return pieces if pieces[-1] else pieces[:-1]


def _of_line(piece: bytes) -> str:
    return hashlib.sha256(piece).hexdigest()[:LETTERS]


def _sums_of(content: bytes) -> _Sums:
    return _Sums(hashlib.sha256(content).hexdigest(), [_of_line(piece) for piece in _pieces(content)])


def _sums_line(sums: _Sums) -> str:
    own = hashlib.sha256(json.dumps([sums.whole, sums.lines]).encode()).hexdigest()
    return json.dumps({"whole": sums.whole, "lines": sums.lines, "sha256": own})


def _write_sums(path: Path, sums: list[_Sums]) -> None:
    write_redacted(sums_path(path), "".join(_sums_line(one) + "\n" for one in sums))


def _read_sums(path: Path) -> tuple[list[_Sums], list[str]]:
    """A file's sums, and what is wrong with them."""
    beside = sums_path(path)
    try:
        texts = read_bytes(beside).decode("ascii").split("\n")
        found = [json.loads(text) for text in texts if text]
        sums = [_Sums(one["whole"], one["lines"]) for one in found]
        if not sums or "".join(_sums_line(one) + "\n" for one in sums) != "\n".join(texts):
            raise ValueError(DIFFERS)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return [], [f"{beside.name}: the checksums of {path.name} are damaged ({in_short(error)})"]
    return sums, []
