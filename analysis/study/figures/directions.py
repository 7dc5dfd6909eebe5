"""Figures of the directions that updates share with each other and with W, and of how much they amplify those of W
(Figures 3, 4 and 6 to 8 and Table 7 of the LoRA paper)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import style
from .. import similarities
from ..markdown import listed
from ..paper import theirs
from ..records import Records, models_of, with_model
from ..similarities import ADAPTED, lora_in, together
from ..statistics import t_interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LORA = "LoRA"
BESIDE = {"gaussian_factor": "Gaussian", "random_factor": "random directions", "base_factor": "W's own top directions"}
"""What an update's factor stands beside, as a share of its own norm."""
NORMS = {"delta_norm": "ΔW", "base_in_delta": "W in ΔW", "base_in_random": "W in random", "base_in_base": "W in own"}
"""The norm of an update, and those of W in the top directions of the update, in random ones and in its own."""
GREY = {"gaussian_factor": ("|", 7.0), "random_factor": ("x", 4.0), "base_factor": ("<", 4.0)}
"""The mark of each, and its size."""
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
KEYS = ["pair", "side", "i", "j"]
DARKEST = 0.5
"""φ beyond chance from which on a cell is darkest."""
LIGHT = 0.4
"""Share of the darkest above which a number is white."""
CELL, BETWEEN = 0.12, 0.1
"""Inches of a cell, and between two heat maps, downwards."""
LABEL = 0.4
"""Inches of a row's label, which is higher than the cells of two types of matrix."""


@dataclass(frozen=True)
class Maps:
    """A figure of heat maps of φ(i, j), one for each pair of updates and side.

    Attributes:
        words: what i and j are.
        gaussian: whether Gaussian matrices in the place of the updates have a heat map too.
        every_layer: whether each layer has one, not the middle layer alone.
    """

    title: str
    shown: tuple[tuple[str, str], ...]
    words: str
    gaussian: bool = False
    every_layer: bool = False

    def table(self, records: Records) -> pd.DataFrame | None:
        """`similarities.table` of what is shown."""
        return similarities.table(records, self.shown, self.gaussian, self.every_layer)

    def draw(self, table: pd.DataFrame) -> Figure:
        """`similarities.draw`."""
        return style.styled(lambda rows: similarities.draw(rows, self.words))(table)


def _sides(pair: str, *sides: str) -> tuple[tuple[str, str], ...]:
    return tuple((pair, side) for side in sides)


MAPS = {
    "ranks_share": Maps(
        "the directions that rank 8 and rank 64 share (Figures 3 and 6 of the LoRA paper)",
        _sides("r=8 and r=64", "A at the start", "A", "row", "column"),
        "directions of rank 8 (i) and of rank 64 (j)",
    ),
    "seeds_share": Maps(
        "the directions that two seeds share, of LoRA and of full fine-tuning (Figures 4 and 7 of the LoRA paper)",
        _sides("two seeds of r=64", "A at the start", "A", "row", "column")
        + _sides("two seeds of full", "row", "column"),
        "directions of two seeds, of LoRA of rank 64 and of full fine-tuning",
        gaussian=True,
    ),
    "ranks_by_layer": Maps(
        "the directions of A that rank 8 and rank 64 share, in each layer (Figure 6 of the LoRA paper)",
        _sides("r=8 and r=64", "A"),
        "directions of A of rank 8 (i) and of rank 64 (j)",
        every_layer=True,
    ),
    "seeds_by_layer": Maps(
        "the directions of A of rank 64 that two seeds share, in each layer (Figure 7 of the LoRA paper)",
        _sides("two seeds of r=64", "A"),
        "directions of A of two seeds, LoRA of rank 64",
        gaussian=True,
        every_layer=True,
    ),
    "base_shares": Maps(
        "the directions that W and its update share (Figure 8 of the LoRA paper)",
        tuple(place for r in ("r=4", "r=8", "r=64", "full") for place in _sides(f"W and {r}", "row", "column")),
        "directions of W (i) and of its update (j)",
        gaussian=True,
    ),
}


def layers_table(records: Records) -> pd.DataFrame | None:
    """One row for each task, pair, side, i and j of `IN_LAYERS`, module and layer; None where none was measured.

    Columns: model, phi (mean over the pairs of runs), chance (max(i, j) / d), pairs, seeds (which); adapted, where LoRA
    does not adapt every type.
    """
    import pandas as pd

    rows = []
    for row, (pair, side, i, j) in product(records.rows.get("similarities", ()), IN_LAYERS):
        each = row["each"].get(f"{i},{j}") if (row["pair"], row["side"]) == (pair, side) else None
        if each:
            place = {"task": row["condition"], "model": records.model(row["condition"])}
            keys = ("pair", "side", "module", "layer", *([ADAPTED] if row.get(ADAPTED) else []))
            place |= {key: row[key] for key in keys}
            numbers = {"phi": sum(each) / len(each), "chance": max(i, j) / row["d"], "pairs": len(each)}
            rows.append(place | {"i": i, "j": j} | numbers)
    order = {name: place for place, name in enumerate(records.modules)}
    rows.sort(key=lambda row: order.get(row["module"], len(order)))
    return pd.DataFrame(rows).assign(seeds=listed(records.protocol.final_seeds)) if rows else None


@style.styled
def layers_draw(table: pd.DataFrame) -> Figure:
    """A row of heat maps for each pair and side, a column for each task; layers across, types of matrix downwards."""
    tasks, modules = list(dict.fromkeys(table["task"])), list(dict.fromkeys(table["module"]))
    there = set(table[KEYS].itertuples(index=False, name=None))
    shown = [key for key in IN_LAYERS if key in there]
    figure = style.canvas(style.PAGE, 1.1 + (max(CELL * len(modules), LABEL) + BETWEEN) * len(shown))
    grid = figure.subplots(len(shown), len(tasks), squeeze=False, sharex=True, sharey=True)
    for down, (pair, side, i, j) in enumerate(shown):
        for across, task in enumerate(tasks):
            chosen = (table[["task", *KEYS]] == [task, pair, side, i, j]).all(axis=1)
            mesh = _cells(grid[down][across], table[chosen], modules)
        grid[down][0].set_ylabel(f"{pair}\n{side}\nφ({i}, {j})", rotation=0, ha="right", va="center", labelpad=9)
        grid[down][0].set_yticks(
            np.arange(len(modules)) + 0.5, [name.removeprefix("attention.self.") for name in modules]
        )
    for across, task in enumerate(tasks):
        grid[0][across].set_title(task)
        grid[-1][across].set_xlabel("layer")
    grid[0][0].invert_yaxis()
    bar = figure.colorbar(mesh, ax=grid, shrink=0.4, aspect=30, pad=0.01, extend=_extends(table))
    bar.set_label("φ − chance")
    text = "directions that two runs share beyond chance, max(i, j) / d, by layer and type of matrix; numbers in"
    pairs = f"{table['pairs'].min()} to {table['pairs'].max()} pairs of runs"
    over = f"hundredths, {models_of(table)}{lora_in(table)}, mean over {pairs} of seeds {table['seeds'].iloc[0]}"
    style.title(figure, f"{text} {over}")
    return figure


def _extends(table: pd.DataFrame) -> str:
    """At which ends of the colours some cell lies outside."""
    beyond = table["phi"] - table["chance"]
    ends = {(True, True): "both", (True, False): "min", (False, True): "max", (False, False): "neither"}
    return ends[bool((beyond < 0).any()), bool((beyond > DARKEST).any())]


def _cells(axes: Axes, rows: pd.DataFrame, modules: list[str]) -> Any:
    cells = rows.assign(beyond=rows["phi"] - rows["chance"]).pivot_table(
        index="module", columns="layer", values="beyond"
    )
    values = cells.reindex(modules).to_numpy()
    mesh = axes.pcolormesh(values, vmin=0, vmax=DARKEST, cmap=style.PALETTE, rasterized=True)
    for (down, across), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if value > LIGHT * DARKEST else "black"
            axes.text(
                across + 0.5, down + 0.5, f"{round(100 * value)}", ha="center", va="center", fontsize=5, color=colour
            )
    axes.set_xticks(np.arange(values.shape[1]) + 0.5, [str(layer) for layer in cells.columns])
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
    import pandas as pd

    if not records.rows.get("factors"):
        return None
    rows = []
    for (task, arm, r), subset in pd.DataFrame(records.rows["factors"]).groupby(["condition", "arm", "r"], sort=False):
        every = together(subset["module"])
        for module in [every, *dict.fromkeys(subset["module"])]:
            own = subset if module == every else subset[subset["module"] == module]
            medians = own.groupby("seed")[["factor", *BESIDE, *NORMS]].median()
            factor = t_interval(medians["factor"].tolist())
            row = {"task": task, "arm": arm, "r": r, "module": module}
            row |= {"factor": factor.mean, "low": factor.low, "high": factor.high}
            row |= {name: float(medians[name].mean()) for name in (*BESIDE, *NORMS)}
            row |= {"matrices": own["matrix"].nunique(), "seeds": len(medians)}
            beside = str(module).endswith("query") and is_lora(str(arm))
            paper = theirs("paper_amplification") if beside else {}
            rows.append(row | {f"{THEIRS}{name}": of_r[str(r)] for name, of_r in paper.items() if str(r) in of_r})
    return with_model(records, pd.DataFrame(rows))


@style.styled
def amplification_draw(table: pd.DataFrame) -> Figure:
    """A row of panels for each task, a column for each r; types of matrix downwards, on a common logarithmic axis."""
    tasks, ranks = list(dict.fromkeys(table["task"])), sorted(set(table["r"]))
    arms, modules = list(dict.fromkeys(table["arm"])), list(dict.fromkeys(table["module"]))
    figure = style.canvas(style.PAGE, 1.2 + (0.5 + 0.3 * len(modules)) * len(tasks))
    grid = figure.subplots(len(tasks), len(ranks), squeeze=False, sharex=True, sharey=True)
    for down, task in enumerate(tasks):
        for across, r in enumerate(ranks):
            axes, of_panel = grid[down][across], table[(table["task"] == task) & (table["r"] == r)]
            kinds = [arm for arm in arms if arm in set(of_panel["arm"])]
            for place, (arm, look) in enumerate(zip(kinds, style.looks(len(kinds)), strict=True)):
                _rows(axes, of_panel[of_panel["arm"] == arm], modules, update_of(arm), look, place)
            axes.set_title(f"{task}, r = {r}")
            axes.set_xscale("log")
            if down == len(tasks) - 1:
                axes.set_xlabel("‖ΔW‖ / ‖Uᵀ W V‖")
        grid[down][0].set_yticks(range(len(modules)), [style.folded(name, 24) for name in modules])
    grid[0][0].invert_yaxis()
    seeds = int(table["seeds"].max())
    text = "amplification: the norm of an update's top r over that of W in their directions; median over matrices, 95 %"
    over = f"intervals over {seeds} seeds, {models_of(table)}. Grey: the same norm in other directions"
    style.title(figure, f"{text} {over}")
    style.legend(figure, grid[0][0], columns=3)
    return figure


def _rows(axes: Axes, rows: pd.DataFrame, modules: list[str], name: str, look: dict[str, Any], place: int) -> None:
    """The points of an arm, one for each type of matrix, and in grey above them what the same norm would have
    elsewhere: at r = 64 a Gaussian's is hidden by LoRA's else."""
    shift = 0.3 * place
    places = [modules.index(module) + shift for module in rows["module"]]
    ends = [rows["factor"] - rows["low"], rows["high"] - rows["factor"]]
    settings = look | {"linestyle": "", "markersize": 4, "label": name}
    axes.errorbar(rows["factor"], places, xerr=ends, elinewidth=0.8, **settings)
    for column, words in BESIDE.items():
        mark, size = GREY[column]
        fine: dict[str, Any] = {"linestyle": "", "marker": mark, "markersize": size, "color": "0.55", "zorder": 5}
        axes.plot(rows[column], places, label=words if place == 0 else None, **fine)
