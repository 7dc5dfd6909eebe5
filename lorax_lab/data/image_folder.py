"""A folder of images: each sub-folder is a class, named by it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lorax_lab.config import TaskConfig
from lorax_lab.data.columns import in_order
from lorax_lab.data.media import read_image
from lorax_lab.data.source import Example, Pools, Source
from lorax_lab.data.table import is_unseen, printable
from lorax_lab.errors import ConfigError

OWN = {"train": ("train",), "validation": ("validation", "val", "valid", "dev"), "test": ("test",)}
"""Names of the sub-folders of a folder that has splits of its own."""
ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""How the names of images end, for those that lie where no class is; any file of a class is read."""


def read(config: TaskConfig) -> Pools:
    """Every image of `task.path`, whose layout is `CLASS/image.png`, or `train/CLASS/image.png` with `test` and
    `validation` beside it where the folder has splits of its own. Hidden files do not count.

    Raises:
        ConfigError: no folder, no class, one class only, a class without images, a file that is no image, or folders
            and images that would not be read.
    """
    files = _files(config)
    known = in_order({name for found in files.values() for name, _ in found})
    if len(known) < 2:
        raise ConfigError(f"{_fault(config)} has one class only ({known[0]}); a class is a folder, give it another one")
    pools = {
        role: [Example({"image": _image(path)}, known.index(name)) for name, path in found]
        for role, found in files.items()
    }
    return Pools(str(config.path), known, pools["train"], pools.get("validation"), pools.get("test"))


def data_sha256(config: TaskConfig) -> str:
    """The SHA-256 over the splits, the classes and the content of the files, whatever the files are called."""
    digest = hashlib.sha256()
    for role, found in _files(config).items():
        for name, path in found:
            try:
                with path.open("rb") as file:
                    digest.update(f"{role}/{name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
            except OSError as error:
                raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _files(config: TaskConfig) -> dict[str, list[tuple[str, Path]]]:
    """Class and path of every image, in the order of their paths, by split."""
    try:
        folder = Path(str(config.path)).expanduser()
        is_folder, kind = folder.is_dir(), "a file" if folder.exists() else "not there"
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{_fault(config)} cannot be read: {error}; name another folder") from error
    if not is_folder:
        raise ConfigError(f"{_fault(config)} is {kind}; name a folder that has a sub-folder for each class")
    own = {role: next((folder / n for n in names if _has_folders(folder / n)), None) for role, names in OWN.items()}
    splits = {role: place for role, place in own.items() if place}
    if splits and "train" not in splits:
        found = " and ".join(place.name for place in splits.values())
        raise ConfigError(
            f"{_fault(config)} has classes inside {found}, and no folder train beside it; call that of the training "
            "images train, or name a folder whose sub-folders are the classes"
        )
    files = {role: _of_split(config, place) for role, place in (splits or {"train": folder}).items()}
    _require_all_used(config, folder, set(splits.values()))
    return files


def _require_all_used(config: TaskConfig, folder: Path, splits: set[Path]) -> None:
    """Refuse what would be passed over in silence: folders beside the splits, and images that lie outside a class."""
    beside = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if unused := [name for name in beside if splits and folder / name not in splits]:
        roles = "train, validation and test, with the classes inside"
        raise ConfigError(
            f"{_fault(config)} has classes inside {' and '.join(sorted(place.name for place in splits))}, and "
            f"{', '.join(map(printable, unused))} beside, which would not be read: the splits are {roles}; take it out"
        )
    for place in splits or {folder}:
        loose = sorted(path.name for path in place.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
        if loose:
            outside = f"{len(loose)} images outside its classes, such as {printable(loose[0])}"
            raise ConfigError(f"{_fault(config)}: {place} has {outside}; put each into the folder of its class")


def _has_folders(place: Path) -> bool:
    """Whether a folder is there, with others in it; a class such as `train` or `test` has images only."""
    return place.is_dir() and any(path.is_dir() and not path.name.startswith(".") for path in place.iterdir())


def _of_split(config: TaskConfig, folder: Path) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if is_unseen(place.name):
            unseen = f"the name of the sub-folder {place.name!a} has no sign that is seen"
            raise ConfigError(f"{_fault(config)}: {unseen}; give the class a name, or take it out")
        inside = sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))
        if not inside:
            raise ConfigError(f"{_fault(config)}: {place} has no images; a sub-folder is a class, take it out")
        found += [(place.name, path) for path in inside]
    if not found:
        raise ConfigError(f"{_fault(config)}: {folder} has no sub-folders with images; each class is a sub-folder")
    return found


def _image(path: Path) -> object:
    try:
        return read_image(path)
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: {error}; mend it or take it out") from error


def _fault(config: TaskConfig) -> str:
    return f"task.path={config.path}"


SOURCE = Source(read, data_sha256, labels=("classes",), inputs={"image": "image"}, keys=("path",))
