"""What a source of examples declares about itself, and what it returns: examples in pools, before they are split."""

import hashlib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorax_lab.config import TaskConfig
from lorax_lab.data.media import Sound
from lorax_lab.errors import ConfigError


@dataclass(frozen=True)
class Example:
    """Named inputs (texts, arrays such as images, or a `Sound`) and their label (the index of a class, a number or a
    text). Examples of one `group` (a document, a question) never straddle two splits. `file` names an image's file or
    its row, for messages."""

    inputs: Mapping[str, Any]
    label: float | int | str
    group: str | None = None
    file: str = ""


@dataclass(frozen=True)
class Pools:
    """What a source read: every row it has, in the source's own splits where there are any; the others are None, to be
    carved out of `train`.

    `where` names the source in messages; `blank` and `unlabeled` count rows that were left out, without text or label.
    `classes` are in the order of the labels, empty where the labels are no classes.
    """

    where: str
    classes: tuple[str, ...]
    train: list[Example]
    validation: list[Example] | None = None
    test: list[Example] | None = None
    blank: int = 0
    unlabeled: int = 0


def content_key(example: Example) -> tuple[str, ...]:
    """The key that two equal examples share: their texts, where case, spacing and Unicode's forms do not count, and the
    content of their images and recordings; without inputs the label's.

    >>> content_key(Example({"text": "Ａ  good\\tFilm "}, 1)) == content_key(Example({"text": "a good film"}, 0))
    True
    """
    values = example.inputs.values() or [str(example.label)]
    return tuple(map(_content, values))


def _content(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(unicodedata.normalize("NFKC", value).casefold().split())
    if isinstance(value, Sound):
        return hashlib.sha256(f"{value.rate}:".encode() + value.samples.tobytes()).hexdigest()
    assert value.dtype != object, f"an input is a text or an array of numbers, not {type(value)}"
    return hashlib.sha256(f"{value.dtype}{value.shape}".encode() + value.tobytes()).hexdigest()


def chosen_columns(config: TaskConfig) -> dict[str, str]:
    """The column that each key names, of those keys that are set: the inputs, `label` and `group`.

    Raises:
        ConfigError: two of them name one column, other than the group, which may be what is read.
    """
    columns = {key: getattr(config, key) for key in (*config.inputs, "label", "group")}
    columns = {key: column for key, column in columns.items() if column}
    key_of: dict[str, str] = {}
    for key, column in columns.items():
        first = key_of.setdefault(column, key)
        if key not in (first, "group"):
            raise ConfigError(f"task.{key}={column} is the column of task.{first}; name another one")
    return columns


@dataclass(frozen=True)
class Source:
    """Where examples come from.

    Args:
        read: every usable row, in pools.
        sha256: the hash of the data's content, the same on every machine.
        labels: the forms that the labels can have: `classes`, `numbers`, `texts`.
        inputs: the inputs of every example by name, with their forms. Empty where the configuration names columns.
        columns: the forms that a column can be read in. Empty where the source has inputs of its own.
        keys: the settings that it reads beside the columns: `path`, `subset`, `group`.
    """

    read: Callable[[TaskConfig], Pools]
    sha256: Callable[[TaskConfig], str]
    labels: tuple[str, ...]
    inputs: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    @property
    def is_built_in(self) -> bool:
        """Whether it brings its data, and reads none of a person's own."""
        return "path" not in self.keys

    def fits(self, config: TaskConfig) -> bool:
        """Whether the configured kind of task knows every input of the source and finds the one that it needs, and can
        learn these labels."""
        if config.labels not in self.labels:
            return False
        if self.columns:
            return set(config.inputs.values()) <= set(self.columns)
        return next(iter(config.inputs)) in self.inputs and self.inputs.items() <= config.inputs.items()

    def chosen(self, config: TaskConfig) -> tuple[str, ...]:
        """The keys of the configuration that choose what is read."""
        of_labels = ("label", "drop_unlabeled", *(("classes",) if config.labels == "classes" else ()))
        return (*self.keys, *config.inputs, *of_labels) if self.columns else self.keys

    def needed(self, config: TaskConfig) -> tuple[str, ...]:
        """Those of the `chosen` keys that cannot be null."""
        place = ("path",) if "path" in self.keys else ()
        inputs = () if config.labels_suffice else (next(iter(config.inputs)),)
        return (*place, *inputs, "label") if self.columns else place
