"""The colours of every picture that the lab makes: one palette for what has no order, one for ranks and k.

They are plain hex codes, so that figures, W&B's pictures and the report share them without sharing a library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

CATEGORICAL = ("#2f8cf7", "#5e2114", "#c3b93d", "#333596", "#378562", "#723d6c", "#3eacd6", "#835c02")
"""For tasks, measures, methods. Any two differ in lightness by 5 of 100 or more, neighbours by 15, so that they survive
print in grey; by ΔE 27 or more (CIE 1976) for a reader without red or green cones. Black and greys are left for what
the others are compared with."""
SEQUENTIAL = (
    *("#b2e4c2", "#79d6ae", "#49c1ad", "#38aaac", "#3492a8", "#357aa2"),
    *("#38629d", "#40498e", "#3e3469", "#332345", "#211423"),
)
"""For ranks, k and heat maps: light is little, dark is much, in every one. Stops of seaborn's `mako_r`."""


def sequential_map() -> Colormap:
    """`SEQUENTIAL` as a colour map."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("sequential", SEQUENTIAL)
