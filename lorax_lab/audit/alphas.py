"""The alpha that a file of factors states for a module."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from lorax_lab.audit.checkpoints import MEASURED, Stored
from lorax_lab.errors import ConfigError

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
"""sd-scripts saves alpha as it was typed, so 16 is an integer."""


def stated_alpha(path: Path, key: str, stored: Stored, typed: float | None) -> float:
    """The alpha under a key of a file.

    Args:
        typed: on the command line, if it was.

    Raises:
        ConfigError: it is no single number, not above 0, not finite, or not the one that was typed.
    """
    if stored.nbytes != stored.dtype.itemsize:
        raise ConfigError(f"{path}: {key} has the shape {stored.shape}; expected one number")
    if stored.dtype not in (*MEASURED, *INTEGERS):
        raise ConfigError(f"{path}: {key} is {str(stored.dtype).removeprefix('torch.')}; expected a number")
    alpha = float(replace(stored, shape=(1, 1), strides=(1, 1)).block(0, 0, 1))
    if not 0 < alpha < float("inf"):
        raise ConfigError(f"{path}: {key} is {alpha:g}; expected a number > 0: a bad file")
    if typed is not None and typed != alpha:
        raise ConfigError(f"--alpha {typed:g}: {path} states alpha {alpha:g} as {key}; leave --alpha out")
    return alpha
