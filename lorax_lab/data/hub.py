"""A data set by its hub id, or a folder that `datasets` reads, in its own splits where they have labels.

Paths of images and recordings start at the folder.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from lorax_lab.config import TaskConfig
from lorax_lab.data.assets import require_fetching
from lorax_lab.data.columns import FILES, INPUTS, LABELS, content_hashes, to_pools
from lorax_lab.data.source import Pools, Source, chosen_columns
from lorax_lab.data.table import Table
from lorax_lab.errors import ConfigError, in_short
from lorax_lab.record.files import HALF_PAIR

VALIDATION = ("validation", "validation_matched", "dev", "valid", "val")
TEST = ("test", "test_matched")
HIDDEN = (-1, None)
INSTEAD = "use task=movie_reviews, or a table: task=local task.path=/path/to/table.csv task.text=… task.label=…"


def read(config: TaskConfig) -> Pools:
    """Every row, in the data set's own splits. Where its test labels are hidden (-1, as in GLUE) or there is no
    test split, its validation split is our test, and our validation is carved out of its train split.

    Raises:
        ConfigError: nothing to load, no such column, a row at fault.
    """
    tables, names = _tables(str(config.path), config.subset, str(config.label))
    return to_pools(" ".join(filter(None, (config.path, config.subset))), tables, config, names)


def data_sha256(config: TaskConfig) -> str:
    """The SHA-256 of the content that is used: splits, chosen columns, the files that they name, class names."""
    tables, names = _tables(str(config.path), config.subset, str(config.label))
    digest = hashlib.sha256(json.dumps(names).encode())
    for role, table in sorted(tables.items()):
        for key, column in chosen_columns(config).items():
            is_file = config.inputs.get(key) in FILES
            values = content_hashes(table, key, column) if is_file else table.column(key, column)
            digest.update(json.dumps([role, key, values], default=str).encode())
    return digest.hexdigest()


@lru_cache(maxsize=2)
def _tables(path: str, subset: str | None, label: str) -> tuple[dict[str, Table], list[str] | None]:
    """The tables by role, and the class names where the data set declares them."""
    splits, place = _load(path, subset), Path(os.path.expanduser(path)).absolute()
    names: list[str] | None = None
    tables = {}
    for role, split in _roles(splits, label, path).items():
        columns: dict[str, Any] = {name: _column(splits[split], name, place) for name in splits[split].column_names}
        declared = getattr(splits[split].features.get(label), "names", None)
        if declared:
            names = list(declared)
            columns[label] = [_class_name(value, names) for value in columns[label][:]]
        where = " ".join(filter(None, (path, subset, f"({split})")))
        tables[role] = Table(where, columns, place)
    return tables, names


def _column(split: Any, name: str, place: Path) -> Any:
    """A column; of images and recordings their files, or what is in them, which `lorax_lab.data` reads itself."""
    import datasets

    form = split.features[name]
    if not isinstance(form, datasets.Image | datasets.Audio):
        return split[name]
    files = split.cast_column(name, type(form)(decode=False))[name]
    return [file and (file["bytes"] or file["path"].removeprefix(f"{place}/")) for file in files]


def _class_name(value: Any, names: list[str]) -> Any:
    """A class's name; -1 stands for no label where the classes are declared."""
    if value in HIDDEN:
        return None
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value


def _roles(splits: Mapping[str, Any], label: str, path: str) -> dict[str, str]:
    """Which split of the data set is our `train`, `validation` and `test`. A missing one is carved out of `train`
    later."""
    train = next(iter(splits)) if len(splits) == 1 else "train"
    if train not in splits:
        raise ConfigError(f"task.path={path} has no train split; it has {', '.join(splits)}; {INSTEAD}")
    validation = next((name for name in VALIDATION if name in splits), None)
    test = next((name for name in TEST if name in splits and not _hidden(splits[name], label)), None)
    if test is None:
        validation, test = None, validation
    roles = {"train": train, "validation": validation, "test": test}
    return {role: name for role, name in roles.items() if name and (role == "train" or name != train)}


def _hidden(split: Any, label: str) -> bool:
    return label not in split.column_names or all(value in HIDDEN for value in split[label][:])


def _load(path: str, subset: str | None) -> Mapping[str, Any]:
    """The splits by name; a ConfigError says why `datasets` cannot load them."""
    place = Path(os.path.expanduser(path))
    if place.is_file():
        raise ConfigError(f"task.path={path} is a file; type task=local task.path={path} task.text=… task.label=…")
    try:
        import datasets
    except ImportError:
        raise ConfigError("task=hub needs the package datasets: type pip install 'lorax_lab[hub]'") from None

    try:
        if any((place / name).is_file() for name in ("dataset_dict.json", "state.json")):
            loaded = datasets.load_from_disk(str(place))
        else:
            loaded = datasets.load_dataset(str(place) if place.is_dir() else path, subset)
    except Exception as error:  # datasets, the hub's client and its HTTP library have no common error
        if not place.is_dir():
            require_fetching(f"task.path={path}")
        if undecodable := next((path.name for path in place.rglob("*") if HALF_PAIR.search(path.name)), None):
            raise ConfigError(f"task.path={path}: the name {undecodable!r} is not UTF-8; rename it") from None
        keys = f"task.path={path}" + (f" task.subset={subset}" if subset else "")
        problem = f"cannot be loaded ({in_short(error, 300)}); change task.path or task.subset, or"
        raise ConfigError(f"{keys} {problem} {INSTEAD}") from error
    return loaded if isinstance(loaded, Mapping) else {"train": loaded}


SOURCE = Source(read, data_sha256, labels=tuple(LABELS), columns=tuple(INPUTS), keys=("path", "subset", "group"))
