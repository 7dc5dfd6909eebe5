"""One file or one folder out of a zip or tar archive, written whole. This module knows no index and no cache."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError)
"""What reading a broken archive raises, beside the OSErrors of the disk."""


def extract(archive: Path, member: str, folder: Path) -> None:
    """Write the file `member`, or every file below the folder `member/`, under `folder`.

    If the archive has no such member, `folder` does not exist afterwards. Only regular files are written, and only
    below `folder`.

    Raises:
        One of BROKEN: not an archive, a damaged one, or a path that points out of it. OSError: the disk.
    """
    below = member if member.endswith("/") else member.removesuffix(PurePosixPath(member).name)
    for path, stream in _files(archive):
        if path != member and not (member.endswith("/") and path.startswith(member)):
            continue
        relative = PurePosixPath(path.removeprefix(below))
        if relative.is_absolute() or ".." in relative.parts or "\\" in path or ":" in path:
            raise tarfile.TarError(f"{path} points out of it")
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        with synced(folder / relative) as file:
            shutil.copyfileobj(stream, file)


@contextmanager
def synced(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that is on the disk, not only in the system's memory, when the block ends."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _files(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Path and content of each regular file; links and devices are passed over."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in (i for i in zipped.infolist() if not i.is_dir()):
                with zipped.open(info) as stream:
                    yield info.filename, stream
        return
    with tarfile.open(archive) as tarred:
        for item in tarred:
            if item.isfile() and (content := tarred.extractfile(item)):
                yield item.name, content
