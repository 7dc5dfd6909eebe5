"""Images as arrays: 8 bits of red, green and blue for each pixel, whatever the file has."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.data.content import is_file
from lorax_lab.errors import in_short

if TYPE_CHECKING:
    import numpy as np

EIGHT_OF_SIXTEEN_BITS = 257
"""65,535 / 255: what a value of 16 bits is divided by."""


def read_image(content: Path | bytes) -> np.ndarray:
    """The image, turned as its camera says, (height, width, 3), uint8.

    Grey becomes three equal colours. What is transparent lies on white. 16 bits of grey become 8.

    Raises:
        ValueError: no file, or none that can be read as an image; the message says why.
    """
    import numpy as np
    from PIL import Image, ImageOps

    if isinstance(content, Path) and not is_file(content):
        raise ValueError("there is no such file")
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
            upright = ImageOps.exif_transpose(image)
            pixels = np.array(_coloured(upright), np.uint8)
    except Exception as error:  # Pillow's readers of damaged files have no common error
        raise ValueError(_reason(error)) from error
    if not pixels.size:
        raise ValueError("it has no pixels")
    return pixels


def _coloured(image: Any) -> Any:
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) // EIGHT_OF_SIXTEEN_BITS).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are numbers of 32 bits; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    """Why it cannot be read; Pillow names objects in memory where it means that it knows no such format."""
    unknown = "cannot identify" in str(error)
    return "it is no image of a known format, or is damaged" if unknown else in_short(error)
