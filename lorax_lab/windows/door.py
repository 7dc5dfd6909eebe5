"""What a window is to the lab: a door opens a run's window, and the run's follower (`follower.py`) shows it the rest.

Each door is a module that imports one foreign library and has three functions: `prepare`, `resolve`, `open_window`. A
new one is that module and a line in `DOORS`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import numpy as np

    from lorax_lab.windows.progress import Row

WANDB = "lorax_lab.windows.wandb_door"
TRACKIO = "trackio"
DOORS = {"auto": WANDB, "offline": WANDB, "online": WANDB, TRACKIO: "lorax_lab.windows.trackio_door"}
"""The module that opens the window, by `tracking.mode`; a mode that is not here shows nothing."""


@dataclass(frozen=True)
class Axis:
    """Keys that begin with `prefix/` are drawn against `key`, not against the training step."""

    prefix: str
    key: str


@dataclass(frozen=True)
class Start:
    """What a window is told of a run when it is opened. Nothing in it names a place on this machine but `runs_dir`,
    where the window's own files go.

    Attributes:
        began: seconds since 1970.
        mode: what the door's `resolve` gave.
    """

    run_id: str
    group: str
    method: str
    tags: list[str]
    config: dict[str, Any]
    began: float
    mode: str
    project: str
    entity: str | None
    runs_dir: Path


class Window(Protocol):
    """A run's open window. Any of its functions may raise whatever the foreign library raises, or hang: the follower
    has a process of its own.

    Attributes:
        url: where a person sees it; None where that is nowhere.
        next_step: the first step that it lacks: 0 for a new run, more for one that goes on.
    """

    url: str | None
    next_step: int

    def row(self, row: Row) -> None:
        """Show the metrics of a step, at its own time."""

    def picture(self, name: str, picture: np.ndarray, row: Row) -> None:
        """Show a picture, (height, width, 4) uint8, at the row's step and time."""

    def summary(self, values: dict[str, Any]) -> None:
        """Show values of the whole run."""

    def tags(self, tags: list[str]) -> None:
        """Add tags."""

    def artifact(self, name: str, kind: str, files: list[Path]) -> None:
        """Keep files of the run."""

    def close(self, exit_code: int) -> None:
        """Show that it ended, and wait until all was taken."""


class Door(Protocol):
    """A module that opens windows."""

    def prepare(self, runs_dir: Path) -> None:
        """Import the foreign library; nothing else is done by it, so that the process may fork afterwards.

        Args:
            runs_dir: where the windows' own files will go.
        """

    def resolve(self, mode: str) -> str:
        """What a mode is on this machine; `disabled` shows nothing. It never asks a person."""

    def open_window(self, start: Start, axes: tuple[Axis, ...], resume: bool) -> Window:
        """Open a run's window.

        Args:
            resume: go on with what the window has of the run; otherwise the run begins anew.
        """


def name_of(mode: str) -> str:
    """What a person calls the windows of a mode."""
    return "Trackio" if mode == TRACKIO else "W&B"


def door_of(mode: str) -> Door | None:
    """The door of a mode; None where there is none."""
    name = DOORS.get(mode)
    return cast(Door, importlib.import_module(name)) if name else None
