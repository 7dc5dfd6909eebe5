"""The matrices of a model that represent all of them where a figure has room for a few."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .groups import spread

if TYPE_CHECKING:
    import pandas as pd

WANTED = (r"query|q_|c_attn|qkv", r"value|v_", r"intermediate|up_|c_fc|fc1|lin1")
"""Module types taken first where a model has them: query, value, and the way into the feed-forward block."""
MOST = 3
"""Module types, and layers, at most."""


def representative(matrices: pd.DataFrame) -> pd.DataFrame:
    """First, middle and last layer of the wanted module types, else of the first ones; layers in order, and within
    them the module types as the model has them. A model without layers has one, 0."""
    layered = matrices[matrices["layer"].notna()]
    layered = layered if len(layered) else matrices.assign(layer=0)
    known = list(dict.fromkeys(layered["module"]))
    wanted = [next((m for m in known if re.search(pattern, m)), None) for pattern in WANTED]
    modules = list(dict.fromkeys([m for m in wanted if m] + known))[:MOST]
    rows = layered[layered["module"].isin(modules)]
    rows = rows[rows["layer"].isin(spread(sorted(set(rows["layer"])), MOST))]
    place = rows["module"].map(known.index)
    return rows.assign(place=place).sort_values(["layer", "place"])
