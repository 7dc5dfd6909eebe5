"""`python -m analysis serving FOLDER`: what one base with many adapters costs, against full models.

Reads the `serving.json` that `python -m lorax_lab.serve` wrote; needs no model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import style
from .folders import Drawn, draw_folder

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DISK, EXCHANGE, REQUEST = "disk", "exchange", "request"


def main(arguments: list[str] | None = None) -> int:
    """Draw the figure of one folder; returns the exit code."""
    description = "The figure of serving: bytes on disk, and seconds of exchanges and requests."
    return draw_folder(arguments, "serving", description, "python -m lorax_lab.serve", read, write)


def read(folder: Path) -> pd.DataFrame:
    """The table of a folder's `serving.json`."""
    return table(json.loads((folder / "serving.json").read_text(encoding="utf-8")))


def write(table: pd.DataFrame, folder: Path) -> Drawn:
    """The figure and the table behind it: `serving.png`, `.pdf` and `.csv`."""
    style.save(table, draw(table), folder / "serving")
    return ["serving.{png,pdf,csv}"], []


def table(results: dict[str, Any]) -> pd.DataFrame:
    """One row per bar or mark. Columns: model, rank, tasks, rows (of the request), panel (`disk`, `exchange`,
    `request`), name, value (bytes, or seconds)."""
    import pandas as pd

    request = results["request"]
    facts = {"model": Path(results["model"]).name, "rank": results["rank"], "tasks": len(results["runs"])}
    facts |= {"rows": request["rows"]}
    panels = {DISK: results["bytes_on_disk"], EXCHANGE: results["seconds"], REQUEST: request["seconds"]}
    rows = [
        {"panel": panel, "name": name, "value": v} for panel, values in panels.items() for name, v in values.items()
    ]
    return pd.DataFrame([facts | row for row in rows])


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Bytes on disk as bars; seconds as marks on a log axis, exchanges round and requests square."""
    figure = style.canvas(style.PAGE, 2.9)
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    first = table.iloc[0]
    _draw_disk(left, table[table["panel"] == DISK].set_index("name")["value"] / 1e6, int(first["tasks"]))
    _draw_seconds(right, table[table["panel"] != DISK], int(first["rows"]))
    style.title(figure, f"{first['model']}, {first['tasks']} tasks by LoRA of rank {first['rank']}")
    return figure


def _draw_disk(axes: Axes, megabytes: pd.Series, tasks: int) -> None:
    colours = style.distinct(3)
    axes.bar(0, megabytes["full"], 0.6, color=colours[0], label="full models")
    axes.bar(1, megabytes["base"], 0.6, color=colours[1], label="base")
    axes.bar(1, megabytes["adapters"], 0.6, megabytes["base"], color=colours[2], hatch="///", label="adapters")
    for place, top in enumerate((megabytes["full"], megabytes["base"] + megabytes["adapters"])):
        axes.annotate(f"{top:,.1f}", (place, top), (0, 2), textcoords="offset points", ha="center")
    axes.set_xticks((0, 1), (f"{tasks} full\nmodels", f"1 base,\n{tasks} adapters"))
    axes.margins(y=0.1)
    axes.legend(loc="upper right")
    axes.set(ylabel="on disk, MB")


def _draw_seconds(axes: Axes, rows: pd.DataFrame, size: int) -> None:
    labels = []
    for place, (panel, name, seconds) in enumerate(zip(rows["panel"], rows["name"], rows["value"], strict=True)):
        marker, fill = ("s", "0.75") if panel == REQUEST else ("o", "black")
        axes.plot(seconds, place, marker, color="black", markerfacecolor=fill)
        beside: dict[str, Any] = {"textcoords": "offset points", "va": "center"} | style.halo()
        axes.annotate(f"{seconds * 1e3:.2g} ms", (seconds, place), (6, 0), **beside)
        labels.append(f"{size} rows, {name}" if panel == REQUEST else name)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(rows["value"].min() / 3, rows["value"].max() * 30)
    axes.grid(axis="y", linewidth=0.4, color="0.85")
    axes.set(xlabel="seconds")
