"""The colours of every picture that the lab makes: one palette for what has no order, one for ranks and k.

They are plain hex codes, so that figures, W&B's pictures and the report share them without sharing a library.
"""

CATEGORICAL = ("#46209d", "#eeaf20", "#823f73", "#1db7ec", "#696f00", "#fa6879", "#68001d", "#8473ff")
"""For tasks, measures, methods. Any two differ in lightness by 5 of 100 or more, neighbours by 15, so that they survive
print in grey; by ΔE 30 or more (CIE 1976) for any reader, also without red, green or blue cones. Black and greys are
left for what the others are compared with."""
SEQUENTIAL = (
    *("#b2e4c2", "#79d6ae", "#49c1ad", "#38aaac", "#3492a8", "#357aa2"),
    *("#38629d", "#40498e", "#3e3469", "#332345", "#211423"),
)
"""For ranks, k and heat maps: light is little, dark is much, in every one. Stops of seaborn's `mako_r`."""
