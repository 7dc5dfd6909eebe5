"""The similarities φ(i, j) of pairs of updates, as heat maps beside what chance gives (Hu et al. 2021, section 7.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from lorax_lab.spectra import subspace_similarities
from lorax_lab.streams import generator

from .. import style
from .markdown import listed
from .records import Records

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "similarities"
"""Of the rows that `lorax_lab.afterwards.similarities` makes."""
MODULES = {"attention.self.query": "query", "attention.self.value": "value"}
"""The types of matrix that the paper shows."""
EVERY, QUERY_AND_VALUE = "all matrices", "query and value"
"""What the matrices of all types, and of those two, are called together."""
ADAPTED = "adapted"
"""Part of a row, and column."""
CHANCE = "chance"
GAUSSIAN, DRAWN = "two Gaussian", "matrices (drawn)"
"""The pair and side of matrices that were drawn for the figure. The top directions of a Gaussian matrix are any: what
two of them share is what one shares with W, by rows and by columns alike."""
ENLARGED, CORNER = ("A", "row", "column"), 8
"""The sides of which the first i and j are shown enlarged, of two updates, and up to which."""
BASE = "W"
"""What pairs of the base and an update begin with."""
HEIGHT = 0.55
"""Of a heat map in inches."""
Shown = Sequence[tuple[str, str]]
"""Pairs and sides, each a row of heat maps."""


def together(modules: Iterable[str]) -> str:
    """What the matrices of some types are called together.

    >>> together(["attention.self.value", "attention.self.query"])
    'query and value'
    """
    return QUERY_AND_VALUE if set(modules) == set(MODULES) else EVERY


def lora_in(table: pd.DataFrame) -> str:
    """Which matrices LoRA adapts, in words to stand behind the model's name; nothing where it adapts all."""
    return f", LoRA in {listed(dict.fromkeys(table[ADAPTED]))} alone" if ADAPTED in table else ""


def table(records: Records, shown: Shown, gaussian: bool = False, every_layer: bool = False) -> pd.DataFrame | None:
    """One row for each heat map and (i, j); None where the similarities were not measured.

    Args:
        gaussian: whether Gaussian matrices in the place of the updates have a heat map too, as in the paper.
        every_layer: whether each layer has one, not the middle layer alone.

    Columns: task, model, pair, side, module, layer, i, j, phi (mean over the pairs of runs), chance (max(i, j) / d),
    pairs, seeds; adapted, where LoRA does not adapt every type.
    """
    import pandas as pd

    rows = [row for row in records.rows.get(NAME, ()) if (row["pair"], row["side"]) in set(shown)]
    layers = sorted({row["layer"] for row in rows if row["module"] in MODULES})
    if not layers:
        return None
    middle = layers[(len(layers) - 1) // 2]
    chosen = [row for row in rows if (every_layer or row["layer"] == middle) and row["module"] in MODULES]
    chosen.sort(key=lambda row: (shown.index((row["pair"], row["side"])), row["layer"]))
    if gaussian:
        widest = {(row["condition"], row["module"]): row for row in chosen if len(row["i"]) == len(row["j"])}
        chosen = [*(_gaussian(row, len(records.protocol.final_seeds)) for row in widest.values()), *chosen]
    table = pd.concat([_long(row) for row in chosen], ignore_index=True)
    table.insert(1, "model", table["task"].map(records.model))
    return table.assign(seeds=len(records.protocol.final_seeds))


def _gaussian(row: dict[str, Any], seeds: int) -> dict[str, Any]:
    """The row of as many Gaussian matrices as there are seeds, every two of them compared; each column of heat maps has
    a stream of its own."""
    import torch

    stream = generator(0, f"gaussian directions/{row['condition']}/{row['module']}")
    shape = (row["d"], max(*row["i"], *row["j"]))
    drawn = [torch.linalg.qr(torch.randn(shape, generator=stream, dtype=torch.float64)).Q for _ in range(seeds)]
    maps = torch.stack([subspace_similarities(one, other) for one, other in combinations(drawn, 2)])
    mean = maps.mean(0)[[i - 1 for i in row["i"]]][:, [j - 1 for j in row["j"]]]
    phi = (mean * 1000).round().int().tolist()
    return row | {"pair": GAUSSIAN, "side": DRAWN, "phi": phi, "each": {"": [0.0] * len(maps)}}


def _long(row: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    i, j = np.meshgrid(row["i"], row["j"], indexing="ij")
    keys = ("pair", "side", "module", "layer", *([ADAPTED] if row.get(ADAPTED) else []))
    place = {"task": row["condition"]} | {key: row[key] for key in keys}
    phi, chance = np.array(row["phi"]) / 1000, np.maximum(i, j) / row["d"]
    pairs = len(next(iter(row["each"].values()), []))
    numbers = {"i": i.ravel(), "j": j.ravel(), "phi": phi.ravel(), "chance": chance.ravel()}
    return pd.DataFrame(place | numbers | {"pairs": pairs})


def draw(table: pd.DataFrame, text: str) -> Figure:
    """A row of heat maps for each pair and side, and each layer if there are several, under one that shows chance for
    as many i and j, and a column for each task and type. Of one layer the corner of what two trained updates share is
    enlarged, as in the paper's Figure 3."""
    tasks = list(dict.fromkeys(table["task"]))
    columns = [(task, module) for task in tasks for module in MODULES if module in set(table["module"])]
    rows: list[tuple[str, str, str, int, bool]] = []
    shapes, layers = set[tuple[int, int]](), sorted({int(layer) for layer in table["layer"]})
    for pair, side, layer in dict.fromkeys(zip(table["pair"], table["side"], table["layer"], strict=True)):
        of = table[(table["pair"] == pair) & (table["side"] == side)]
        shape = (int(of["i"].max()), int(of["j"].max()))
        if shape not in shapes:
            rows.append((f"{CHANCE}, j to {shape[1]}" if shapes else CHANCE, pair, side, layer, False))
            shapes.add(shape)
        is_one = len(layers) == 1 or pair == GAUSSIAN
        rows.append((f"{pair}\n{side}" if is_one else f"{side}, layer {layer}", pair, side, layer, False))
        if len(layers) == 1 and side in ENLARGED and not pair.startswith(f"{BASE} "):
            rows.append((f"{side}, top {CORNER}", pair, side, layer, True))
    figure = style.canvas(style.PAGE, 1.3 + (HEIGHT + 0.16) * len(rows))
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharey="row")
    mesh: Any = None
    for across, (task, module) in enumerate(columns):
        of_column = table[(table["task"] == task) & (table["module"] == module)]
        for down, (words, pair, side, layer, enlarged) in enumerate(rows):
            of = of_column[(of_column[["pair", "side", "layer"]] == [pair, side, layer]).all(axis=1)]
            of = of[of[["i", "j"]].max(axis=1) <= CORNER] if enlarged else of
            mesh = _map(grid[down][across], of, "chance" if words.startswith(CHANCE) else "phi") or mesh
            if across == 0:
                grid[down][0].set_ylabel(words, rotation=0, ha="right", va="center")
        grid[0][across].set_title(f"{style.wrapped(task, 16)}\n{MODULES[module]}")
        grid[-1][across].set_xlabel("j")
    bar = figure.colorbar(mesh, ax=grid, shrink=0.6, aspect=30, pad=0.01)
    bar.set_label("φ(i, j); i downwards")
    pairs = sorted({int(count) for count in table.loc[table["pair"] != GAUSSIAN, "pairs"]})
    counted = " to ".join(dict.fromkeys(str(count) for count in (pairs[0], pairs[-1])))
    model, seeds = (table[key].iloc[0] for key in ("model", "seeds"))
    of_layers = f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]} to {layers[-1]}"
    of_base = all(name.startswith(f"{BASE} ") for name in table["pair"] if name != GAUSSIAN)
    over = f"mean over {counted} {'runs' if of_base else 'pairs of runs'} of {seeds} seeds; chance is max(i, j) / d"
    style.title(figure, f"{text}; {model}{lora_in(table)}, {of_layers}, {over}")
    return figure


def _map(axes: Axes, rows: pd.DataFrame, values: str) -> Any:
    if rows.empty:
        axes.set_axis_off()
        return None
    cells = rows.pivot_table(index="i", columns="j", values=values)
    edges = [np.array([0, *numbers]) for numbers in (cells.columns, cells.index)]
    mesh = axes.pcolormesh(edges[0], edges[1], cells.to_numpy(), vmin=0, vmax=1, cmap=style.PALETTE, rasterized=True)
    axes.set_ylim(edges[1][-1], 0)
    axes.set_xticks([1, int(edges[0][-1])])
    axes.set_yticks([1, int(edges[1][-1])])
    return mesh
