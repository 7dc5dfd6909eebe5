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

EXCHANGES = ("load from disk", "load from page cache", "merge", "unmerge", "switch")
LABELS = {"load from disk": "a full model from disk", "load from page cache": "a full model from the page cache"}
DISK, EXCHANGE, REQUEST = "disk", "exchange", "request"
MEGABYTE = 1e6


def main(arguments: list[str] | None = None) -> int:
    """Draw the figure of one folder; returns the exit code."""
    description = "The figure of serving: bytes on disk, and seconds of exchanges and requests."
    return draw_folder(arguments, "serving", description, "python -m lorax_lab.serve", read, write)


def read(folder: Path) -> pd.DataFrame:
    """The table of a folder's `serving.json`.

    Raises:
        FileNotFoundError: there is none. ValueError, KeyError, TypeError: it is not what was written.
    """
    return table(json.loads((folder / "serving.json").read_text(encoding="utf-8")))


def write(table: pd.DataFrame, folder: Path) -> Drawn:
    """The figure and the table behind it: `serving.png`, `.pdf` and `.csv`."""
    style.save(table, draw(table), folder / "serving")
    return ["serving.{png,pdf,csv}"], []


def table(results: dict[str, Any]) -> pd.DataFrame:
    """One row per bar or mark. Columns: model, rank, tasks, rows (of the request), panel (`disk`, `exchange`,
    `request`), name, part (of a bar), value (bytes, or seconds)."""
    import pandas as pd

    facts = {"model": Path(results["model"]).name, "rank": results["rank"], "tasks": len(results["tasks"])}
    facts |= {"rows": results["request"]["rows"]}
    disk, seconds = results["bytes_on_disk"], results["seconds"]
    rows = [(DISK, "full", "full models", sum(disk["full"].values()))]
    rows += [(DISK, "exchanged", "base", disk["base"])]
    rows += [(DISK, "exchanged", "adapters", sum(disk["adapters"].values()))]
    rows += [(EXCHANGE, name, "", seconds[name]) for name in EXCHANGES if seconds[name] is not None]
    rows += [(REQUEST, name, "", value) for name, value in results["request"]["seconds"].items()]
    return pd.DataFrame([facts | dict(zip(("panel", "name", "part", "value"), row, strict=True)) for row in rows])


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Bytes on disk as bars; seconds as marks on a log axis, exchanges round and requests square."""
    figure = style.canvas(style.PAGE, 2.9)
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    _draw_disk(left, table[table["panel"] == DISK], int(table["tasks"].iloc[0]))
    _draw_seconds(right, table[table["panel"] != DISK], int(table["rows"].iloc[0]))
    first = table.iloc[0]
    style.title(figure, f"{first['model']}, {first['tasks']} tasks by LoRA of rank {first['rank']}")
    return figure


def _draw_disk(axes: Axes, rows: pd.DataFrame, tasks: int) -> None:
    names = {"full": f"{tasks} full\nmodels", "exchanged": f"1 base,\n{tasks} adapters"}
    looks = dict(zip(rows["part"], zip(style.distinct(3), style.HATCHES[::-1], strict=False), strict=True))
    for place, name in enumerate(names):
        bottom = 0.0
        for part, value in zip(rows[rows["name"] == name]["part"], rows[rows["name"] == name]["value"], strict=True):
            colour, hatch = looks[part]
            look: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
            axes.bar(place, value / MEGABYTE, 0.6, bottom, label=part, **look)
            bottom += value / MEGABYTE
        axes.annotate(f"{bottom:,.1f}", (place, bottom), (0, 2), textcoords="offset points", ha="center")
    axes.set_xticks(range(len(names)), list(names.values()))
    axes.margins(y=0.1)
    axes.legend(loc="upper right")
    axes.set(ylabel="on disk, MB")


def _draw_seconds(axes: Axes, rows: pd.DataFrame, size: int) -> None:
    marks = list(zip(rows["panel"], rows["name"], rows["value"], strict=True))
    for place, (panel, _, seconds) in enumerate(marks):
        marker, fill = ("s", "0.75") if panel == REQUEST else ("o", "black")
        axes.plot(seconds, place, marker, color="black", markerfacecolor=fill)
        beside: dict[str, Any] = {"textcoords": "offset points", "va": "center"} | style.halo()
        axes.annotate(_said(seconds), (seconds, place), (6, 0), **beside)
    labels = [f"{size} rows, {name}" if panel == REQUEST else LABELS.get(name, name) for panel, name, _ in marks]
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlim(rows["value"].min() / 3, rows["value"].max() * 30)
    axes.minorticks_off()
    axes.grid(axis="y", linewidth=0.4, color="0.85")
    axes.set(xlabel="seconds")


def _said(seconds: float) -> str:
    """
    >>> _said(0.0123), _said(2.5e-6), _said(1.5)
    ('12 ms', '2.5 µs', '1.5 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            break
    return f"{seconds / size:.2g} {unit}" if seconds / size < 100 else f"{seconds / size:.0f} {unit}"
