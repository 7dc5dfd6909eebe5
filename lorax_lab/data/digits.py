"""Handwritten digits of 43 people, 8 × 8 pixels each, which come with scikit-learn (Alpaydin & Kaynak, 1998)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from lorax_lab.config import TaskConfig
from lorax_lab.data.source import Example, Pools, Source
from lorax_lab.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

SHA256 = "a19cb3d96bba7deace8ee5a513a6eb7bad0403d528f00bf4d351b6a7a55baa91"
"""Of the images, 8 bits for each pixel, and then of the labels."""
DARKEST = 16
"""The largest value of a pixel as scikit-learn has them."""


def read(config: TaskConfig) -> Pools:
    """Every image (8, 8, 3), the ink white on black; with `task.subset=5-9` only those digits.

    Who wrote which digit is not known, so one person's digits can be in two splits.

    Raises:
        ConfigError: a subset that is none; a scikit-learn with other images than those whose hash is pinned.
    """
    import numpy as np

    images, labels = _content()
    if hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() != SHA256:
        raise ConfigError("task=digits: this scikit-learn has other digits than scikit-learn 1.5 to 1.9; install one")
    first, last = _range(config.subset)
    coloured = np.repeat(images[..., None], 3, axis=3)
    chosen = [i for i, label in enumerate(labels) if first <= label <= last]
    examples = [Example({"image": coloured[i]}, int(labels[i]) - first) for i in chosen]
    return Pools(_where(config.subset), tuple(str(digit) for digit in range(first, last + 1)), examples)


def _content() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8) and labels (1797,), uint8 both."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.rint(digits.images * (255 / DARKEST)).astype(np.uint8), digits.target.astype(np.uint8)


def _range(subset: str | None) -> tuple[int, int]:
    """
    >>> _range("5-9"), _range(None)
    ((5, 9), (0, 9))
    """
    first, _, last = (subset or "0-9").partition("-")
    if len(first) != 1 or len(last) != 1 or not (first + last).isdecimal() or first >= last:
        two = f"task.subset={subset} is not possible: the first and the last of the digits"
        raise ConfigError(f"{two}; type task=digits task.subset=5-9")
    return int(first), int(last)


def _where(subset: str | None) -> str:
    return "digits" if subset is None else f"digits {subset}"


def data_sha256(config: TaskConfig) -> str:
    """The pinned hash of all digits; which of them are used is a setting."""
    return SHA256


SOURCE = Source(
    read,
    data_sha256,
    labels=("classes",),
    inputs={"image": "image"},
    keys=("subset",),
)
