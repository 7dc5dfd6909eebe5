"""The colours of the dark page: each of the light one's, made lighter until it is legible."""

from __future__ import annotations

import colorsys
import re
from typing import Any

BACKGROUND, CONTRAST = "#15171a", 4.5
"""Of the dark page, and what WCAG asks of a line or a letter before it."""
HEX = re.compile(r"#[0-9a-f]{6}")


def lightened(colour: str) -> str:
    """The colour itself where it is legible on `BACKGROUND`, else a lighter one of the same hue.

    >>> lightened("#ffffff"), contrast(lightened("#000000"), BACKGROUND) >= CONTRAST
    ('#ffffff', True)
    """
    hue, lightness, saturation = colorsys.rgb_to_hls(*_rgb(colour))
    while contrast(colour, BACKGROUND) < CONTRAST:
        lightness = min(1.0, lightness + 0.02)
        rgb = colorsys.hls_to_rgb(hue, lightness, saturation)
        colour = "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
    return colour


def colours_of(value: Any) -> dict[str, str]:
    """Each colour among the settings of lines and marks that is another one on the dark page, and that one. A colour
    scale stays: its cells stand beside each other, not before the background."""
    if isinstance(value, dict):
        parts = [colours_of(item) for key, item in value.items() if key not in ("colorscale", "x", "y", "z", "text")]
        return {light: dark for part in parts for light, dark in part.items()}
    if isinstance(value, list):
        return {light: dark for item in value for light, dark in colours_of(item).items()}
    if isinstance(value, str) and HEX.fullmatch(value) and (dark := lightened(value)) != value:
        return {value: dark}
    return {}


def contrast(one: str, other: str) -> float:
    """The contrast of two colours by WCAG, from 1 to 21.

    >>> contrast("#000000", "#ffffff")
    21.0
    """
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in _rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue
