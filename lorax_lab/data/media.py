"""Images as pixels and recordings as samples, whatever their files have."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from lorax_lab.errors import ConfigError, in_short


def read_image(content: Path | bytes) -> np.ndarray:
    """The image, turned as its camera says, (height, width, 3), uint8; what is transparent lies on white. A ValueError
    says why it cannot be read."""
    file = _opened(content)
    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image)
            pixels = np.array(_coloured(upright), np.uint8)
    except Exception as error:  # Pillow's readers of damaged files have no common error
        unknown = "cannot identify" in str(error)  # Pillow names objects in memory where it knows no such format
        reason = "it is no image of a known format, or is damaged" if unknown else in_short(error)
        raise ValueError(reason) from error
    if not pixels.size:
        raise ValueError("it has no pixels")
    return pixels


def _coloured(image: Any) -> Any:
    if image.mode[0] in "IF":
        raise ValueError("its pixels are numbers of 16 or 32 bits; save it with 8 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


@dataclass(frozen=True, eq=False)
class Sound:
    """A recording: samples (n,), float32, from -1 to 1; samples in a second; where it comes from, for messages."""

    samples: np.ndarray
    rate: int
    name: str = ""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate


def read_sound(content: Path | bytes) -> Sound:
    """The recording of a WAV, FLAC, OGG or MP3 file; the mean of its channels. A ValueError says why it cannot be read,
    a ConfigError that the package for audio is not installed."""
    try:
        import soundfile
    except ImportError:
        raise ConfigError("audio needs soundfile and jiwer: type pip install 'lorax_lab[audio]'") from None
    file = _opened(content)
    try:
        channels, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (OSError, TypeError, ValueError, soundfile.SoundFileError) as error:
        reason = str(error).rpartition(": ")[2].strip(" .")[:120] or type(error).__name__
        raise ValueError(f"it is no audio of a known format, or is damaged ({reason})") from error
    if not len(channels) or not np.isfinite(channels).all():
        raise ValueError("it has no samples, or some that are not finite")
    return Sound(np.ascontiguousarray(channels.mean(axis=1)), int(rate))


def _opened(content: Path | bytes) -> io.BytesIO | Path:
    """What a library reads: bytes as a file, or a path at which a file is."""
    if isinstance(content, bytes):
        return io.BytesIO(content)
    if not os.path.isfile(content):
        raise ValueError("there is no such file")
    return content
