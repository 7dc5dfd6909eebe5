"""Data of one's own on this machine: a table in a CSV, JSON-lines or Parquet file, or a folder of images, in which each
sub-folder is a class."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorax_lab.config import TaskConfig
from lorax_lab.data.assets import sha256_of_file
from lorax_lab.data.columns import FILES, INPUTS, LABELS, content_hashes, labeled, to_pools
from lorax_lab.data.source import Pools, Source, chosen_columns
from lorax_lab.data.table import READERS, Table, printable, read_table
from lorax_lab.errors import ConfigError

SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid", "dev"), "test": ("test",)}
"""Names of the sub-folders of a folder that has splits of its own."""
ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""How the names of images end, for those that lie where no class is; any file of a class is read."""


def read_file(config: TaskConfig) -> Pools:
    """Every row of the file `task.path`, as one pool. Text is UTF-8; in CSV an empty field is a missing value and every
    other is taken as it stands, `NA` too. Paths of images and recordings start at the file's folder."""
    path = _file(config)
    return to_pools(printable(path.name), {"train": read_table(path, chosen_columns(config).values())}, config)


def file_sha256(config: TaskConfig) -> str:
    """The SHA-256 of the file; where its rows name images or recordings, of the file and all of those."""
    path = _file(config)
    columns = {key: column for key, column in chosen_columns(config).items() if config.inputs.get(key) in FILES}
    if not columns:
        return sha256_of_file(path)
    table = labeled({"train": read_table(path, chosen_columns(config).values())}, config)["train"]
    hashes = [sha256 for key, column in columns.items() for sha256 in content_hashes(table, key, column)]
    return hashlib.sha256(" ".join([sha256_of_file(path), *hashes]).encode()).hexdigest()


def _file(config: TaskConfig) -> Path:
    path = _path(config)
    if os.path.isdir(path):
        instead = f"type task=hub task.path={config.path} for a folder of train, validation and test files"
        raise _fault(config, f"is a folder, and task=local reads one file; {instead}")
    if path.suffix.lower() not in READERS:
        raise _fault(config, f"is no table that can be read: its name ends in {' or '.join(READERS)}")
    if not os.path.isfile(path):
        raise _fault(config, f"is not there: {path.name} is no file in {path.parent.absolute()}")
    return path


# ---- a folder of images


def read_images(config: TaskConfig) -> Pools:
    """Every image of `task.path`, whose layout is `CLASS/image.png`, or `train/CLASS/image.png` with `test` and
    `validation` beside it where the folder has splits of its own. Hidden files do not count.

    Raises:
        ConfigError: no folder, no class, a class without images, a file that is no image, or folders and images that
            would not be read.
    """
    folder, tables = _path(config), {}
    for role, images in _files(config).items():
        names = [str(path.relative_to(folder)) for _, path in images]
        tables[role] = Table(str(config.path), {"image": names, "label": [name for name, _ in images]}, folder)
    columns: Any = {"image": "image", "label": "label"}
    return to_pools(str(config.path), tables, replace(config, **columns))


def images_sha256(config: TaskConfig) -> str:
    """The SHA-256 over the splits, the classes and the content of the files, whatever the files are called."""
    digest = hashlib.sha256()
    for role, images in _files(config).items():
        for name, path in images:
            digest.update(f"{role}/{name}:{sha256_of_file(path)}\n".encode())
    return digest.hexdigest()


def _files(config: TaskConfig) -> dict[str, list[tuple[str, Path]]]:
    """Class and path of every image, in the order of their paths, by split."""
    folder = _path(config)
    if not os.path.isdir(folder):
        raise _fault(config, "is no folder; name one that has a sub-folder for each class")
    places = {
        role: next((folder / n for n in names if _has_folders(folder / n)), None) for role, names in SPLITS.items()
    }
    splits = {role: place for role, place in places.items() if place}
    if splits and "train" not in splits:
        named = " and ".join(place.name for place in splits.values())
        raise _fault(config, f"has classes inside {named}, and no folder train beside it; name the training images' so")
    unused = [place.name for place in _folders(folder) if splits and place not in splits.values()]
    if unused:
        unread = ", ".join(map(printable, unused))
        raise _fault(
            config, f"has train, validation or test, and {unread} beside, which would not be read; take it out"
        )
    return {role: _images(config, place) for role, place in (splits or {"train": folder}).items()}


def _images(config: TaskConfig, folder: Path) -> list[tuple[str, Path]]:
    loose = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
    if loose:
        outside = f"{len(loose)} images outside its classes, such as {printable(loose[0])}"
        raise _fault(config, f"has {outside}, in {folder}; put each into the folder of its class")
    images: list[tuple[str, Path]] = []
    for place in _folders(folder):
        inside = sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))
        if not inside:
            raise _fault(config, f"has no images in {place}, and a sub-folder is a class; take it out")
        images += [(place.name, path) for path in inside]
    if not images:
        raise _fault(config, f"has no sub-folders with images in {folder}; each class is a sub-folder")
    return images


def _path(config: TaskConfig) -> Path:
    return Path(os.path.expanduser(str(config.path)))


def _has_folders(place: Path) -> bool:
    """Whether a folder is there, with others in it; a class such as `train` or `test` has images only."""
    return place.is_dir() and bool(_folders(place))


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def _fault(config: TaskConfig, reason: str) -> ConfigError:
    return ConfigError(f"task.path={config.path} {reason}")


SOURCES: dict[str, Source] = {
    "local": Source(read_file, file_sha256, labels=tuple(LABELS), columns=tuple(INPUTS), keys=("path", "group")),
    "image_folder": Source(read_images, images_sha256, labels=("classes",), inputs={"image": "image"}, keys=("path",)),
}
