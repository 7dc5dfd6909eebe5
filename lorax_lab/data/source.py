"""What a source of examples declares about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lorax_lab.config import TaskConfig
from lorax_lab.data.cards import Card
from lorax_lab.data.examples import Pools


@dataclass(frozen=True)
class Source:
    """Where examples come from.

    Args:
        read: every usable row, in pools.
        sha256: the hash of the data's content, the same on every machine, computed as cheaply as possible.
        labels: the forms that the labels can have: `classes`, `numbers`, `texts`.
        inputs: the inputs of every example by name, with their forms. Empty where the configuration names columns.
        columns: the forms that a column can be read in. Empty where the source has inputs of its own.
        keys: the settings that it reads beside the columns: `path`, `subset`, `group`.
        card: the description of a built-in task.
    """

    read: Callable[[TaskConfig], Pools]
    sha256: Callable[[TaskConfig], str]
    labels: tuple[str, ...]
    inputs: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    card: Card | None = None

    def fits(self, config: TaskConfig) -> bool:
        """Whether the configured kind of task can read all of these inputs, and these labels."""
        return self.gives_inputs(config) and config.labels in self.labels

    def gives_inputs(self, config: TaskConfig) -> bool:
        """Whether the kind knows every input of the source, and the source has the one that the kind needs."""
        if self.columns:
            return set(config.inputs.values()) <= set(self.columns)
        return next(iter(config.inputs)) in self.inputs and self.inputs.items() <= config.inputs.items()

    def chosen(self, config: TaskConfig) -> tuple[str, ...]:
        """The keys of the configuration that choose what is read."""
        return (*self.keys, *config.inputs, "label") if self.columns else self.keys

    def needed(self, config: TaskConfig) -> tuple[str, ...]:
        """Those of the `chosen` keys that cannot be null."""
        place = ("path",) if "path" in self.keys else ()
        inputs = () if config.labels_suffice else (next(iter(config.inputs)),)
        return (*place, *inputs, "label") if self.columns else place
