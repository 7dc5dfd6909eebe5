"""Figures of the directions that updates share with each other and with W, and of how much they amplify those of W
(Figures 3, 4 and 6 to 8 and Table 7 of the LoRA paper)."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorax_lab.record.statistics import t_interval

from ... import style
from ..paper import theirs
from ..records import Records, models_of, with_model
from ..words import listed

LAYERS_TITLE = "what runs share beyond chance, in every layer and type of matrix (Figures 6 and 7 of the LoRA paper)"
FACTORS_TITLE = "by how much updates amplify the directions of W that they use (Table 7 of the LoRA paper)"
MODULES = {"attention.self.query": "query", "attention.self.value": "value"}
"""The types of matrix that the paper shows."""
EVERY, QUERY_AND_VALUE = "all matrices", "query and value"
"""What the matrices of all types, and of those two, are called together."""
ADAPTED = "adapted"
"""Part of a row, and column."""
LORA = "LoRA"
BESIDE = {
    "gaussian_factor": ("Gaussian", "|", 7.0),
    "random_factor": ("random directions", "x", 4.0),
    "base_factor": ("W's own top directions", "<", 4.0),
}
"""What an update's factor stands beside, as a share of its own norm, with its mark and the size of that."""
NORMS = ("delta_norm", "base_in_delta", "base_in_random", "base_in_base")
"""The norm of an update, and those of W in the top directions of the update, in random ones and in its own."""
THEIRS = "GPT-3, query of layer 48: "
"""What the columns of the paper's own numbers begin with."""
IN_LAYERS = (
    ("r=8 and r=64", "A at the start", 8, 64),
    ("r=8 and r=64", "A", 1, 1),
    ("r=8 and r=64", "A", 8, 64),
    ("two seeds of r=64", "A", 1, 1),
    ("two seeds of r=64", "A", 8, 8),
    ("two seeds of r=64", "A", 64, 64),
    ("two seeds of r=64", "row", 8, 8),
    ("two seeds of r=64", "column", 64, 64),
    *(("two seeds of full", side, k, k) for side in ("row", "column") for k in (1, 8, 64)),
    *((pair, side, 40, 4) for pair in ("W and r=64", "W and full") for side in ("row", "column")),
)
"""Pairs and sides, and the (i, j) at which φ is shown. The rows of B A and of A span one space where all 64 of them are
taken, so these are shown at 8."""
DRAWN = (
    ("r=8 and r=64", "A", 1, 1),
    ("two seeds of r=64", "A", 1, 1),
    ("two seeds of r=64", "A", 8, 8),
    ("two seeds of r=64", "row", 8, 8),
    *(("two seeds of full", side, 8, 8) for side in ("row", "column")),
    *(("W and full", side, 40, 4) for side in ("row", "column")),
)
"""Those that the figure has room for; its table has all."""
KEYS = ["pair", "side", "i", "j"]
Row = dict[str, Any]
DARKEST, LIGHT = 0.5, 0.4
"""φ beyond chance from which on a cell is darkest, and the share of that above which a number is white."""
CELL, BETWEEN, LABEL = 0.12, 0.1, 0.4
"""Inches of a cell, between two heat maps, and of a row's label, which is higher than the cells of two types."""


def together(modules: Iterable[str]) -> str:
    """What the matrices of some types are called together.

    >>> together(["attention.self.value", "attention.self.query"])
    'query and value'
    """
    return QUERY_AND_VALUE if set(modules) == set(MODULES) else EVERY


def _place(row: Row) -> Row:
    keys = ("pair", "side", "module", "layer", *([ADAPTED] if row.get(ADAPTED) else []))
    return {"task": row["condition"]} | {key: row[key] for key in keys}


def layers_table(records: Records) -> pd.DataFrame | None:
    """One row for each task, pair, side, i and j of `IN_LAYERS`, module and layer; None where none was measured.

    Columns: model, phi (mean over the pairs of runs), chance (max(i, j) / d), pairs, seeds (which); adapted, where LoRA
    does not adapt every type.
    """
    rows = []
    for row, (pair, side, i, j) in product(records.rows.get("similarities", ()), IN_LAYERS):
        pairs = row["each"].get(f"{i},{j}") if (row["pair"], row["side"]) == (pair, side) else None
        if pairs:
            numbers = {"i": i, "j": j, "phi": sum(pairs) / len(pairs), "chance": max(i, j) / row["d"]}
            rows.append(_place(row) | numbers | {"pairs": len(pairs)})
    if not rows:
        return None
    order = {name: place for place, name in enumerate(records.modules)}
    rows.sort(key=lambda row: order.get(row["module"], len(order)))
    table = pd.DataFrame(rows).assign(seeds=listed(records.protocol.final_seeds))
    table.insert(1, "model", table["task"].map(records.model))
    return table


@style.styled
def layers_draw(table: pd.DataFrame) -> Figure:
    """A row of heat maps for each pair and side, a column for each task; layers across, types of matrix downwards."""
    tasks, modules = list(dict.fromkeys(table["task"])), list(dict.fromkeys(table["module"]))
    cells = dict(iter(table.groupby(["task", *KEYS])))
    shown = [key for key in DRAWN if any((task, *key) in cells for task in tasks)]
    figure = style.canvas(style.PAGE, 1.1 + (max(CELL * len(modules), LABEL) + BETWEEN) * len(shown))
    grid = figure.subplots(len(shown), len(tasks), squeeze=False, sharex=True, sharey=True)
    names = [name.removeprefix("attention.self.") for name in modules]
    for panels, (pair, side, i, j) in zip(grid, shown, strict=True):
        for axes, task in zip(panels, tasks, strict=True):
            mesh = _cells(axes, cells.get((task, pair, side, i, j), table[:0]), modules)
        panels[0].set_ylabel(f"{pair}\n{side}\nφ({i}, {j})", rotation=0, ha="right", va="center", labelpad=9)
        panels[0].set_yticks(np.arange(len(modules)) + 0.5, names)
    for top, bottom, task in zip(grid[0], grid[-1], tasks, strict=True):
        top.set_title(task)
        bottom.set_xlabel("layer")
    grid[0][0].invert_yaxis()
    beyond = table["phi"] - table["chance"]
    ends = {(True, True): "both", (True, False): "min", (False, True): "max", (False, False): "neither"}
    extend = ends[bool((beyond < 0).any()), bool((beyond > DARKEST).any())]
    figure.colorbar(mesh, ax=grid, shrink=0.4, aspect=30, pad=0.01, extend=extend).set_label("φ − chance")
    text = "directions that two runs share beyond chance, max(i, j) / d, by layer and type of matrix; numbers in"
    pairs = f"{table['pairs'].min()} to {table['pairs'].max()} pairs of runs"
    adapted = f", LoRA in {listed(dict.fromkeys(table[ADAPTED]))} alone" if ADAPTED in table else ""
    over = f"hundredths, {models_of(table)}{adapted}, mean over {pairs} of seeds {table['seeds'].iloc[0]}"
    style.title(figure, f"{text} {over}")
    return figure


def _cells(axes: Axes, rows: pd.DataFrame, modules: list[str]) -> Any:
    cells = rows.assign(beyond=rows["phi"] - rows["chance"])
    cells = cells.pivot_table(index="module", columns="layer", values="beyond").reindex(modules)
    mesh = axes.pcolormesh(cells.to_numpy(), vmin=0, vmax=DARKEST, cmap=style.PALETTE, rasterized=True)
    for (down, across), value in np.ndenumerate(cells.to_numpy()):
        if not np.isnan(value):
            ink: dict[str, Any] = {"color": "white" if value > LIGHT * DARKEST else "black", "fontsize": 5}
            axes.text(across + 0.5, down + 0.5, f"{round(100 * value)}", ha="center", va="center", **ink)
    axes.set_xticks(np.arange(cells.shape[1]) + 0.5, [str(layer) for layer in cells.columns])
    return mesh


def is_lora(arm: str) -> bool:
    """Whether an arm is of LoRA: its name has a rank.

    >>> [is_lora(name) for name in ("LoRA r=4", "query and value r=4", "full")]
    [True, True, False]
    """
    return " r=" in arm


def update_of(arm: str) -> str:
    """What the update of an arm is called beside its r.

    >>> [update_of(name) for name in ("LoRA r=4", "query and value r=4", "full")]
    ['LoRA', 'LoRA in query and value', 'full']
    """
    name = arm.split(" r=")[0]
    return f"{LORA} in {name}" if is_lora(arm) and name != LORA else name


def amplification_table(records: Records) -> pd.DataFrame | None:
    """One row for each task, arm, r and type of matrix, after one of all; None where the factors were not measured.

    Columns: `model`; `factor` with `low` and `high`, the mean over seeds of the median over matrices, t interval;
    the means of the same of the `BESIDE` and of the `NORMS`; `matrices`, `seeds`; beside LoRA of the query matrices the
    paper's numbers.
    """
    if not records.rows.get("factors"):
        return None
    rows = []
    for (task, arm, r), factors in pd.DataFrame(records.rows["factors"]).groupby(["condition", "arm", "r"], sort=False):
        by_module = {together(factors["module"]): factors} | dict(iter(factors.groupby("module", sort=False)))
        for module, matrices in by_module.items():
            medians = matrices.groupby("seed")[["factor", *BESIDE, *NORMS]].median()
            factor = t_interval(medians["factor"].tolist())
            row = {"task": task, "arm": arm, "r": r, "module": module}
            row |= {"factor": factor.mean, "low": factor.low, "high": factor.high}
            row |= {name: float(medians[name].mean()) for name in (*BESIDE, *NORMS)}
            row |= {"matrices": matrices["matrix"].nunique(), "seeds": len(medians)}
            has_paper = str(module).endswith("query") and is_lora(str(arm))
            paper = theirs("paper_amplification") if has_paper else {}
            rows.append(row | {f"{THEIRS}{name}": by_r[str(r)] for name, by_r in paper.items() if str(r) in by_r})
    return with_model(records, pd.DataFrame(rows))


@style.styled
def amplification_draw(table: pd.DataFrame) -> Figure:
    """A row of panels for each task, a column for each r; types of matrix downwards, on a common logarithmic axis."""
    tasks, ranks = list(dict.fromkeys(table["task"])), sorted(set(table["r"]))
    modules = list(dict.fromkeys(table["module"]))
    figure = style.canvas(style.PAGE, 1.2 + (0.5 + 0.3 * len(modules)) * len(tasks))
    grid = figure.subplots(len(tasks), len(ranks), squeeze=False, sharex=True, sharey=True)
    for axes, (task, r) in zip(grid.flat, product(tasks, ranks), strict=True):
        by_arm = table[(table["task"] == task) & (table["r"] == r)].groupby("arm", sort=False)
        for place, ((arm, rows), look) in enumerate(zip(by_arm, style.looks(len(by_arm)), strict=True)):
            _factors(axes, rows, modules, update_of(str(arm)), look, place)
        axes.set_title(f"{task}, r = {r}")
        axes.set_xscale("log")
    for axes in grid[-1]:
        axes.set_xlabel("‖ΔW‖ / ‖Uᵀ W V‖")
    for axes in grid[:, 0]:
        axes.set_yticks(range(len(modules)), [style.folded(name, 24) for name in modules])
    grid[0][0].invert_yaxis()
    text = "amplification: the norm of an update's top r over that of W in their directions; median over matrices, 95 %"
    over = f"intervals over {table['seeds'].max()} seeds, {models_of(table)}. Grey: the same norm in other directions"
    return style.finish(figure, f"{text} {over}", grid[0][0], columns=3)


def _factors(axes: Axes, rows: pd.DataFrame, modules: list[str], name: str, look: dict[str, Any], place: int) -> None:
    """The points of an arm, one for each type of matrix, and in grey above them what the same norm would have
    elsewhere: at r = 64 a Gaussian's is hidden by LoRA's else."""
    places = [modules.index(module) + 0.3 * place for module in rows["module"]]
    ends = [rows["factor"] - rows["low"], rows["high"] - rows["factor"]]
    look |= {"linestyle": "", "markersize": 4, "label": name}
    axes.errorbar(rows["factor"], places, xerr=ends, elinewidth=0.8, **look)
    for column, (words, mark, size) in BESIDE.items():
        grey: dict[str, Any] = {"linestyle": "", "marker": mark, "markersize": size, "color": "0.55", "zorder": 5}
        axes.plot(rows[column], places, label=words if place == 0 else None, **grey)
