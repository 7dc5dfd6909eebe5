"""Recordings as samples: one channel of 32-bit floats, at the rate that the file has."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorax_lab.data.content import is_file
from lorax_lab.errors import cut

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class Sound:
    """A recording.

    Args:
        samples: (n,), float32, from -1 to 1.
        rate: samples in a second.
        name: its file, for messages.
    """

    samples: np.ndarray
    rate: int
    name: str = ""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate

    def sha256(self) -> str:
        """The hash of what is heard: the rate and the samples."""
        return hashlib.sha256(f"{self.rate}:".encode() + self.samples.tobytes()).hexdigest()


def read_sound(content: Path | bytes) -> Sound:
    """The recording of a WAV, FLAC, OGG or MP3 file; the mean of its channels.

    Raises:
        ValueError: no file, none that can be read as audio, or no sound in it; the message says why.
    """
    import numpy as np
    import soundfile

    if isinstance(content, Path) and not is_file(content):
        raise ValueError("there is no such file")
    try:
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        channels, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (OSError, TypeError, ValueError, soundfile.SoundFileError) as error:
        raise ValueError(f"it is no audio of a known format, or is damaged ({_reason(error)})") from error
    if not len(channels):
        raise ValueError("it has no samples")
    if not np.isfinite(channels).all():
        raise ValueError("it has samples that are not finite")
    name = content.name if isinstance(content, Path) else ""
    return Sound(np.ascontiguousarray(channels.mean(axis=1)), int(rate), name)


def _reason(error: Exception) -> str:
    return cut(str(error).rpartition(": ")[2].strip(" ."), 120) or type(error).__name__
