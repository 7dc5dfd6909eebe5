"""Commands that draw what another entry wrote into a folder: `python -m analysis audit FOLDER` and the like."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from lorax_lab.errors import ConfigError, answer

Content = TypeVar("Content")
Drawn = tuple[list[str], list[str]]
"""The figures that were drawn, and for each other figure the reason why it was not."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)
"""What reading a folder raises that is a fault of the folder."""


def draw_folder(
    arguments: list[str] | None,
    command: str,
    description: str,
    writer: str,
    read: Callable[[Path], Content],
    draw: Callable[[Content, Path], Drawn],
) -> int:
    """Read a folder, draw its figures beside what was read or into `--out`, and list them.

    Args:
        arguments: the command line after the command's name.
        command, description: for `--help`.
        writer: the command that writes such a folder.
        read: gives the content of the folder; what is not there or cannot be read is one of `UNREADABLE`.
        draw: takes the content and the folder of the figures; gives the figures that were drawn and those that were
            not.

    Returns:
        The exit code: 0 drawn, 1 nothing could be drawn, 2 there is no such folder or it cannot be read.
    """
    parser = argparse.ArgumentParser(prog=f"python -m analysis {command}", description=description)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help=f"what `{writer}` wrote")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the figures go (the same folder)")
    options = parser.parse_args(arguments)

    def work() -> int:
        out = options.out or options.folder
        check_out(out)
        try:
            content = read(options.folder)
        except FileNotFoundError as error:
            raise ConfigError(f"{options.folder}: {error.filename} is not there; type {writer} to write it") from None
        except ConfigError:
            raise
        except UNREADABLE as error:
            raise ConfigError(f"{options.folder} cannot be read: {error!r}; type {writer} to write it") from None
        drawn, not_drawn = draw(content, out)
        for heading, lines in ((f"drawn, in {out}", drawn), ("not drawn", not_drawn)):
            if lines:
                print(f"{heading}:", *lines, sep="\n  ")
        return 0 if drawn else 1

    return answer(work)


def check_out(out: Path) -> None:
    """Refuse a place for the figures at which, or on the way to which, a file stands.

    Raises:
        ConfigError: it names the file.
    """
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigError(f"--out {out}: {nearest} is a file; name a folder, --out FOLDER")
