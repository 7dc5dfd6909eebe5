"""By how much updates amplify the directions of W that they use (Table 7 of the LoRA paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import style
from ..latex import BOTH, INTERVAL, NONE, Column, document, escaped, number, of_interval
from ..paper import FACTORS, NORMS_OF_TABLE_7
from ..records import Records, models_of, with_model
from ..similarities import EVERY, QUERY_AND_VALUE, together
from ..statistics import t_interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "by how much updates amplify the directions of W that they use (Table 7 of the LoRA paper)"
NAME = "factors"
"""Of the rows that `lorax_lab.afterwards.amplification` makes."""
QUERY, LORA = "query", "LoRA"
BESIDE = {"gaussian_factor": "Gaussian", "random_factor": "random directions", "base_factor": "W's own top directions"}
"""What an update's factor stands beside, as a share of its own norm."""
NORMS = {"delta_norm": "ΔW", "base_in_delta": "W in ΔW", "base_in_random": "W in random", "base_in_base": "W in own"}
"""The norm of an update, and those of W in the top directions of the update, in random ones and in its own."""
THEIR_NUMBERS = {r: {**FACTORS[r], **NORMS_OF_TABLE_7[r]} for r in FACTORS}
"""The paper's factors and norms, by r."""
GREY = {"gaussian_factor": ("|", 7.0), "random_factor": ("x", 4.0), "base_factor": ("<", 4.0)}
"""The mark of each, and its size."""
THEIRS = "GPT-3, query of layer 48: "
"""What the columns of the paper's own numbers begin with."""


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


def table(records: Records) -> pd.DataFrame | None:
    """One row for each task, arm, r and type of matrix, after one of all; None where the factors were not measured.

    Columns: `model`; `factor` with `low` and `high`, the mean over seeds of the median over matrices, t interval;
    the means of the same of the `BESIDE` and of the `NORMS`; `matrices`, `seeds`; beside LoRA of the query matrices the
    paper's numbers.
    """
    import pandas as pd

    if not records.rows.get(NAME):
        return None
    rows = []
    for (task, arm, r), of in pd.DataFrame(records.rows[NAME]).groupby(["condition", "arm", "r"], sort=False):
        every = together(of["module"])
        for module in [every, *dict.fromkeys(of["module"])]:
            own = of if module == every else of[of["module"] == module]
            medians = own.groupby("seed")[["factor", *BESIDE, *NORMS]].median()
            factor = t_interval(medians["factor"].tolist())
            row = {"task": task, "arm": arm, "r": r, "module": module}
            row |= {"factor": factor.mean, "low": factor.low, "high": factor.high}
            row |= {name: float(medians[name].mean()) for name in (*BESIDE, *NORMS)}
            row |= {"matrices": own["matrix"].nunique(), "seeds": len(medians)}
            beside = str(module).endswith(QUERY) and is_lora(str(arm))
            theirs = THEIR_NUMBERS.get(int(str(r)), {}) if beside else {}
            rows.append(row | {f"{THEIRS}{name}": value for name, value in theirs.items()})
    return with_model(records, pd.DataFrame(rows))


@style.styled
def draw(table: pd.DataFrame) -> Figure:
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


def latex(table: pd.DataFrame) -> str:
    """The query matrices, of which the paper has one, and all matrices together, under the paper's numbers."""
    head = [Column("update"), Column("$r$", align="r"), Column("amplification", align=INTERVAL)]
    head += [Column(name, align="r") for name in ("Gaussian", "random", "own")]
    head += [Column(escaped(name), "norm", "r") for name in NORMS.values()]
    rows = [[f"{THEIRS.removesuffix(': ')} (Hu et al. 2021)"]]
    for r, of in THEIR_NUMBERS.items():
        beside = [f"${of[name]:g}$" if name in of else NONE for name in BESIDE]
        beside += [number(of[name], 2) for name in NORMS]
        rows.append([LORA, str(r), f"${of['factor']:g}${BOTH}", *beside])
    own = table[table["module"].map(lambda module: module in (EVERY, QUERY_AND_VALUE) or str(module).endswith(QUERY))]
    for (task, module), of_part in own.groupby(["task", "module"], sort=False):
        rows += [[], [escaped(f"{task}, {module if module in (EVERY, QUERY_AND_VALUE) else QUERY}")]]
        for row in of_part.to_dict("records"):
            factor = of_interval(row["factor"], row["low"], row["high"], scale=1.0, digits=2)
            update = escaped(update_of(row["arm"]))
            beside = [number(row[name], 2) for name in (*BESIDE, *NORMS)]
            rows.append([update, str(row["r"]), factor, *beside])
    notes = [
        f"{escaped(models_of(table))}.",
        f"Arithmetic mean over {int(table['seeds'].max())} seeds of the median over matrices, with its 95\\,\\% "
        "interval.",
        "Gaussian, random, own: the same norm over that of $W$ in the directions of a Gaussian update, in random ones",
        "by the closed form, and in its own. Last columns: Frobenius norms of the update, and of $W$ in",
        "the update's directions, in random ones and in its own. Full updates are cut to their top $r$.",
        "Each column is a median of its own, so that one is not the ratio of two others.",
    ]
    return document(head, rows, notes)


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
