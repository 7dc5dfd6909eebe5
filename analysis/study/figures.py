"""The study's figures: each a table, and a picture of it, titled by what it shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis import style
from analysis.study import comparison, update
from analysis.study.records import Records
from analysis.study.statistics import t_interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "cut": ("top k directions", {"marker": "o"}),
    "remainder": ("all but the top k", {"marker": "s", "linestyle": "--"}),
    "random": ("k random directions", {"marker": "^", "linestyle": ":"}),
    "scaled": ("whole update at the cut's norm", {"marker": "D", "linestyle": "-."}),
}
SEEDS: dict[str, Any] = {"linestyle": "", "marker": "o", "color": "0.6", "mec": "white", "mew": 0.4, "zorder": 3}


@dataclass(frozen=True)
class StudyFigure:
    """A table of a study and how it is drawn; `table` is None where the study has nothing of it."""

    table: Callable[[Records], pd.DataFrame | None]
    draw: Callable[[pd.DataFrame], Figure]


def answer_table(records: Records) -> pd.DataFrame:
    """One row per task, side (`rank` of LoRA, `k` of the cut), size, and seed: the difference from full fine-tuning on
    test, or from the whole update on validation; with the mean, its interval, margin, and r* or k*."""
    import pandas as pd

    margin, rows, finals = records.rules.margin, [], comparison.every_seed(records)
    for task in records.tasks:
        seeds = finals[(finals["task"] == task) & finals["rank"].notna()].rename(columns={"rank": "size"})
        cuts = update.functional(records, task)
        cut = cuts[(cuts["part"] == "cut") & (cuts["module"] == update.ALL)].rename(columns={"k": "size"})
        found = {"rank": str(comparison.enough(records, task)), "k": str(update.functional_rank(cuts, margin))}
        for side, frame in (("rank", seeds), ("k", cut)):
            for size, of_size in frame.groupby("size"):
                interval = t_interval(of_size["difference"].dropna().tolist())
                about = {"task": task, "side": side, "size": size, "margin": margin, "enough": found[side]}
                about |= {"mean": interval.mean, "low": interval.low, "high": interval.high}
                pairs = zip(of_size["seed"], of_size["difference"], strict=True)
                rows += [about | {"seed": seed, "difference": d} for seed, d in pairs]
    return pd.DataFrame(rows).astype({"size": int})


@style.styled
def draw_answer(table: pd.DataFrame) -> Figure:
    """Left, LoRA against full fine-tuning over the rank; right, the full update cut to k directions beside it."""
    tasks = list(dict.fromkeys(table["task"]))
    figure = style.canvas(style.PAGE, 1.0 + 1.9 * len(tasks))
    grid = figure.subplots(len(tasks), 2, squeeze=False, width_ratios=(2, 3))
    names = {"rank": ("rank of LoRA", "r*"), "k": ("directions kept of the full update, k", "k*")}
    for row, task in zip(grid, tasks, strict=True):
        for axes, (side, (label, star)) in zip(row, names.items(), strict=True):
            rows = table[(table["task"] == task) & (table["side"] == side)]
            _differences(axes, rows, float(rows["margin"].iloc[0]))
            axes.set_xlabel(label)
            axes.set_title(f"{task}: {star} = {rows['enough'].iloc[0]}", fontsize=7.5)
        row[0].set_ylabel("difference in score")
    margin, count = table["margin"].iloc[0], table["seed"].nunique()
    text = "rank at which LoRA matches full fine-tuning (test), directions that the full update needs (validation)"
    text += f"\n{count} seeds (dots), 95 % intervals over them; dashed: the margin, {margin:g}"
    style.title(figure, text)
    return figure


def _differences(axes: Axes, rows: pd.DataFrame, margin: float) -> None:
    sizes = rows.drop_duplicates("size").sort_values("size")
    bars = [sizes["mean"] - sizes["low"], sizes["high"] - sizes["mean"]]
    axes.plot(rows["size"], rows["difference"], markersize=3, **SEEDS)
    axes.errorbar(sizes["size"], sizes["mean"], bars, color="black", marker="o", capsize=2, linewidth=1)
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.axhline(-margin, color="0.4", linewidth=0.8, linestyle="--")
    style.rank_axis(axes, [int(size) for size in sizes["size"]])


def cost_table(records: Records) -> pd.DataFrame:
    """`comparison.table` of every task."""
    return _every(records, comparison.table)


COSTS = {
    "test": "score on test",
    "trained_body": "trained parameters",
    "peak_mib": "peak memory of a step, MiB",
    "train_seconds": "seconds of training",
}


@style.styled
def draw_cost(table: pd.DataFrame) -> Figure:
    """Four panels over the rank, a line per task and full fine-tuning as a horizontal one."""
    figure = style.canvas(style.PAGE, 4.6)
    tasks = list(dict.fromkeys(table["task"]))
    for axes, (key, label) in zip(figure.subplots(2, 2).flat, COSTS.items(), strict=True):
        for task, look in zip(tasks, style.looks(len(tasks)), strict=True):
            rows = table[table["task"] == task]
            lora, full = rows[rows["rank"].notna()], rows[rows["rank"].isna()]
            ranks = lora["rank"].astype(int)
            if key == "test":
                bars = [lora[key] - lora["test_low"], lora["test_high"] - lora[key]]
                axes.errorbar(ranks, lora[key], bars, capsize=2, label=f"{task}, LoRA", **look)
                axes.axhspan(*full[["test_low", "test_high"]].iloc[0], color=look["color"], alpha=0.12, linewidth=0)
            else:
                axes.plot(ranks, lora[key], label=f"{task}, LoRA", **look)
            line = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 0.8}
            axes.axhline(full[key].iloc[0], label=f"{task}, full", **line)
        if key == "trained_body":
            axes.set_yscale("log")
        elif key != "test":
            axes.set_ylim(0, 1.08 * table[key].max())
        style.rank_axis(axes, sorted({int(rank) for rank in table["rank"].dropna()}))
        axes.set(xlabel="rank of LoRA", ylabel=label)
    style.title(figure, "what a rank costs, the head not counted, and what it scores: 95 % intervals over the seeds")
    style.legend(figure, figure.axes[0], columns=2)
    return figure


def spectral_table(records: Records) -> pd.DataFrame:
    """`update.spectral` of every task, by module and by layer (column `by`)."""
    import pandas as pd

    parts = [_every(records, update.spectral, by).assign(by=by) for by in ("module", "layer")]
    return pd.concat(parts, ignore_index=True).astype({"group": str})


SHOWN = ("effective_rank", "stable_rank", "participation_ratio", "energy_rank_90")


@style.styled
def draw_spectral(table: pd.DataFrame) -> Figure:
    """Each measure as a share of what noise of the same shape has, by module type (left) and by layer (right)."""
    tasks = list(dict.fromkeys(table["task"]))
    figure = style.canvas(style.PAGE, 1.0 + 2.1 * len(tasks))
    grid = figure.subplots(len(tasks), 2, squeeze=False, sharey=True)
    for row, task in zip(grid, tasks, strict=True):
        for axes, by in zip(row, ("module", "layer"), strict=True):
            rows = table[(table["task"] == task) & (table["by"] == by)]
            groups = list(dict.fromkeys(rows["group"]))
            for number, (measure, look) in enumerate(zip(SHOWN, style.looks(len(SHOWN)), strict=True)):
                of = rows[rows["measure"] == measure]
                share, low, high = (of[key] / of["null"] for key in ("mean", "low", "high"))
                places = [place + 0.12 * (number - 1.5) for place in range(len(of))]
                settings = look | {"linestyle": ""}
                axes.errorbar(places, share, [share - low, high - share], label=measure.replace("_", " "), **settings)
            axes.axhline(1, color="0.4", linewidth=0.8)
            labels = [style.folded(g, 16) if by == "module" else g for g in groups]
            axes.set_xticks(range(len(groups)), labels, rotation=45 if by == "module" else 0, fontsize=6.5)
            axes.set_title(task, fontsize=7.5)
            axes.set_xlabel("type of matrix" if by == "module" else "layer")
        row[0].set_ylabel("share of what noise has")
    count = int(table["seeds"].max())
    text = "the full update's spectral ranks, noise of its shape = 1"
    style.title(figure, f"{text}; mean over matrices, 95 % intervals over {count} seeds")
    style.legend(figure, figure.axes[0], columns=4)
    return figure


def functional_table(records: Records) -> pd.DataFrame:
    """`update.functional` of every task, all matrices changed at once."""
    table = _every(records, update.functional)
    return table[table["module"] == update.ALL].drop(columns="module")


def modules_table(records: Records) -> pd.DataFrame | None:
    """`update.functional` of every task, one type of matrix cut alone; None where that was not measured."""
    table = _every(records, update.functional)
    table = table[table["module"] != update.ALL]
    return table if len(table) else None


def _every(records: Records, of_task: Callable[..., pd.DataFrame], *more: str) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([of_task(records, task, *more) for task in records.tasks], ignore_index=True)


@style.styled
def draw_functional(table: pd.DataFrame) -> Figure:
    """Scores over k of the cut and its controls, mean and range of the seeds."""
    tasks = list(dict.fromkeys(table["task"]))
    figure, panels = style.panels(len(tasks), 2.3, "k", "score on validation")
    for axes, task in zip(panels, tasks, strict=True):
        rows = table[table["task"] == task]
        for (part, (label, look)), colour in zip(PARTS.items(), style.colours(len(PARTS))[::-1], strict=True):
            scores = rows[rows["part"] == part].groupby("k")["score"]
            if len(scores):
                axes.plot(scores.mean(), label=label, color=colour, **look)
                axes.fill_between(scores.min().index, scores.min(), scores.max(), color=colour, alpha=0.15, linewidth=0)
        noise = rows[rows["part"] == "gaussian"]["score"]
        if len(noise):
            name = "Gaussian noise of its norm"
            axes.axhline(noise.mean(), color="0.4", linewidth=0.9, linestyle=(0, (1, 3)), label=name)
        style.rank_axis(axes, sorted({int(k) for k in rows[rows["part"] == "cut"]["k"]}))
        axes.set_title(task)
    count = table["seed"].nunique()
    style.title(figure, f"what is left of the full update's score when it is changed; mean and range of {count} seeds")
    style.legend(figure, figure.axes[0], columns=3)
    return figure


@style.styled
def draw_modules(table: pd.DataFrame) -> Figure:
    """The difference from the whole update when one type of matrix is cut to k directions, a panel per type."""
    names, tasks = update.modules(table), list(dict.fromkeys(table["task"]))
    figure, panels = style.panels(len(names), 1.7, "k", "difference in score")
    for axes, name in zip(panels, names, strict=True):
        for task, look in zip(tasks, style.looks(len(tasks)), strict=True):
            cut = update.cut_intervals(table[table["task"] == task], "cut", name)
            means = [found.mean for found in cut.values()]
            bars = [[f.mean - f.low for f in cut.values()], [f.high - f.mean for f in cut.values()]]
            axes.errorbar(list(cut), means, bars, capsize=2, label=task, **look)
        style.rank_axis(axes, list(cut))
        axes.axhline(0, color="0.4", linewidth=0.8)
        axes.set_title(name, fontsize=7.5)
    text = "one type of matrix cut to k directions, the others whole; validation, 95 % intervals over the seeds"
    style.title(figure, text)
    style.legend(figure, figure.axes[0], columns=min(len(tasks), 4))
    return figure


def shared_table(records: Records) -> pd.DataFrame | None:
    """`update.shared`; None where the directions were not measured."""
    return None if records.shared is None else update.shared(records.shared)


@style.styled
def draw_shared(table: pd.DataFrame) -> Figure:
    """φ(k, k) of pairs of full updates over k, beside what random subspaces have."""
    figure = style.canvas(style.PAGE, 3.0)
    kinds = list(dict.fromkeys(table["pair"]))
    for axes, side in zip(figure.subplots(1, 2, sharey=True), ("column", "row"), strict=True):
        rows = table[table["side"] == side]
        for kind, look in zip(kinds, style.looks(len(kinds)), strict=True):
            of = rows[rows["pair"] == kind]
            bars = [of["similarity"] - of["low"], of["high"] - of["similarity"]]
            axes.errorbar(of["k"], of["similarity"], bars, capsize=2, label=kind, **look)
        chance = rows[rows["pair"] == kinds[0]]
        axes.plot(chance["k"], chance["random"], color="0.4", linestyle="--", label="random subspaces")
        style.rank_axis(axes, [int(k) for k in chance["k"]])
        axes.set(xlabel="k", title=f"{side} space")
    figure.axes[0].set_ylabel("φ(k, k)")
    figure.axes[0].set_ylim(0, None)
    text = "directions that full updates have in common: similarity of their top k, mean over matrices"
    style.title(figure, f"{text}; 95 % intervals over the pairs")
    style.legend(figure, figure.axes[0], columns=2)
    return figure


@style.styled
def draw_trials(table: pd.DataFrame) -> Figure:
    """Validation score over the learning rate, a line per arm, the chosen rate ringed."""
    tasks = list(dict.fromkeys(table["task"]))
    figure, panels = style.panels(len(tasks), 2.3, "learning rate", "score on validation")
    for axes, task in zip(panels, tasks, strict=True):
        rows = table[table["task"] == task]
        arms = list(dict.fromkeys(rows["arm"]))
        for arm, look in zip(arms, style.looks(len(arms)), strict=True):
            of = rows[rows["arm"] == arm]
            means = of.groupby("learning_rate")["validation"].mean()
            axes.plot(means.index, means, label=arm, **(look | {"markersize": 3}))
            best = of[of["chosen"]]["learning_rate"].unique()
            ring: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 9, "markerfacecolor": "none"}
            axes.plot(best, means[best], color=look["color"], **ring)
        axes.set_xscale("log")
        axes.set_title(task)
    count = table["seed"].nunique()
    style.title(figure, f"the choice of each arm's learning rate (ringed), mean of {count} seed{'s' * (count > 1)}")
    style.legend(figure, figure.axes[0], columns=4)
    return figure


FIGURES = {
    "answer": StudyFigure(answer_table, draw_answer),
    "cost": StudyFigure(cost_table, draw_cost),
    "spectral": StudyFigure(spectral_table, draw_spectral),
    "functional": StudyFigure(functional_table, draw_functional),
    "modules": StudyFigure(modules_table, draw_modules),
    "shared": StudyFigure(shared_table, draw_shared),
    "trials": StudyFigure(comparison.trials, draw_trials),
}
