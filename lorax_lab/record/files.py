"""Files that are written whole: any reader, also after a crash, sees either the old file or the new one."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lorax_lab.record.redact import redact

HALF_PAIR = re.compile("[\ud800-\udfff]")
"""Half a surrogate pair, by which Python holds what it cannot decode; JSON of it alone is refused where it is read."""
SCRATCH = re.compile(r"\..+\.[a-z0-9_]{8}")
"""Names of the temporary files that `write_whole` makes, such as `.record.json.k3x_81qa`."""


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it to the disk, rename it to `path`, and sync the folder.

    Raises:
        OSError: nothing was changed; a temporary file may be left where the process was killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    scratch = Path(name)
    try:
        write(scratch)
        sync(scratch)
        scratch.chmod(0o644)
        os.replace(scratch, path)
        sync(path.parent)
    finally:
        scratch.unlink(missing_ok=True)


def remove_scratch(folder: Path) -> None:
    """Remove the temporary files that a killed process left in a folder; call it where nobody else writes there."""
    for path in folder.glob(".*"):
        if SCRATCH.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Sync a file's content, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole; keys and passwords in it are hidden, and half a surrogate pair is its code."""
    write_bytes(path, redact(text).encode(errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a binary file whole, such as a picture."""
    write_whole(path, lambda scratch: scratch.write_bytes(content))


def plain_values(content: Any) -> Any:
    """Nested values as JSON has them: a number of numpy or torch is Python's, and None where it is not finite. Half a
    surrogate pair becomes its code in letters.

    >>> plain_values({"score": float("nan"), "ends": (0.5, float("inf")), "path": "\\udcff"})
    {'score': None, 'ends': [0.5, None], 'path': '\\\\udcff'}
    """
    text = json.dumps(content, ensure_ascii=False, default=lambda number: number.item())
    text = HALF_PAIR.sub(lambda sign: f"\\\\u{ord(sign[0]):04x}", text)
    return json.loads(text, parse_constant=lambda _: None)


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write plain values as JSON, as `write_text`."""
    write_text(path, json.dumps(content, indent=indent) + "\n")


def write_csv(path: Path, table: Any) -> None:
    """Write a table (pandas) as CSV, as `write_text`."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def save_tensors(path: Path, tensors: dict[str, Any], header: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, whole; tensors that share memory are written once each. `header` is what the file
    says beside them."""
    from safetensors.torch import save_file

    contiguous_copies = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    metadata = {"format": "pt"} | {key: redact(text) for key, text in (header or {}).items()}

    def write(scratch: Path) -> None:
        save_file(contiguous_copies, scratch, metadata=metadata)
        _sort_metadata(scratch)

    write_whole(path, write)


def _sort_metadata(path: Path) -> None:
    """Put what a safetensors file says of itself in order: the library writes it in another one each time, and the same
    tensors are the same bytes."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        content = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(size)
        assert len(content) == size, (len(content), size)
        file.seek(8)
        file.write(content)


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays of numpy as one NPZ file, whole."""
    import numpy as np

    def write(scratch: Path) -> None:
        with scratch.open("wb") as file:
            np.savez(file, **arrays)

    write_whole(path, write)


def sha256_of(path: Path) -> str:
    """The hash of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
