"""Singular values of ΔW in a few matrices, full and LoRA, against noise of the same shape and size.

The noise has the full update's Frobenius norm spread evenly over its entries. What rises above its edge is
structure; where the full update's tail follows the noise, its directions cannot be told from chance.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis import style
from analysis.groups import CannotDraw, Group, spread
from analysis.matrices import representative
from lorax_lab.store import load_spectra

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "singular values of the update in a few matrices, against noise of the same size"
FULL, NOISE = "full fine-tuning", "noise of full's shape and norm"
RANKS = 3
DEPTH = 30
"""How far below the noise's edge the axis goes: the smallest values of a square matrix fall towards 0 for any."""


def table(group: Group) -> pd.DataFrame:
    """One row per singular value: up to 3 module types × 3 layers, full, up to 3 LoRA ranks, and noise.

    Columns: model, task, seed, matrix, module, layer, arm, i (from 1), sigma, edge (of the noise).

    Raises:
        CannotDraw: no full fine-tune, one that changed nothing, or a `spectra.npz` that cannot be read.
    """
    import pandas as pd

    if group.full.empty:
        raise CannotDraw(f"there is no completed full fine-tune; type {group.command('method=full')}")
    full = group.full.iloc[0]
    ranked = group.best[(group.best["method"] != "full") & (group.best["seed"] == full["seed"])]
    arms = {FULL: _spectra(full, group)}
    arms |= {run["arm"]: _spectra(run, group) for run in spread([run for _, run in ranked.iterrows()], RANKS)}
    parts = []
    matrices = group.matrices[group.matrices["run_id"] == full["run_id"]]
    for matrix in representative(matrices).to_dict("records"):
        name = matrix["matrix"]
        about = group.title | {"seed": full["seed"]} | {key: matrix[key] for key in ("matrix", "module", "layer")}
        sigma = {arm: spectra[name]["sigma"] for arm, spectra in arms.items() if name in spectra}
        sigma[NOISE], edge = noise(sigma[FULL], matrix["shape"])
        parts += [
            pd.DataFrame(about | {"arm": arm, "i": range(1, len(s) + 1), "sigma": s, "edge": edge})
            for arm, s in sigma.items()
        ]
    rows = pd.concat(parts, ignore_index=True).astype({"layer": "Int64"})
    if not (rows["sigma"] > 0).any():
        raise CannotDraw(f"every update of {full['run_id']} is zero; its training changed no matrix")
    return rows


def noise(sigma: np.ndarray, shape: list[int]) -> tuple[np.ndarray, float]:
    """Singular values of Gaussian noise with the Frobenius norm of `sigma`, and the noise's edge."""
    import numpy as np

    from lorax_lab.spectra import gaussian_singular_values, noise_edge

    null, norm = gaussian_singular_values(shape).numpy(), float(np.linalg.norm(sigma))
    return null * norm / np.linalg.norm(null), noise_edge(shape, norm / (shape[0] * shape[1]) ** 0.5)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel per matrix, layers down, module types across; both axes logarithmic."""
    layers, modules = list(dict.fromkeys(table["layer"])), list(dict.fromkeys(table["module"]))
    figure = style.canvas(max(style.COLUMN, 0.4 + 2.2 * len(modules)), 1.1 + 1.6 * len(layers))
    grid = figure.subplots(len(layers), len(modules), sharex=True, sharey=True, squeeze=False)
    looks = _looks(list(dict.fromkeys(table["arm"])))
    for row, layer in zip(grid, layers, strict=True):
        for axes, module in zip(row, modules, strict=True):
            rows = table[(table["module"] == module) & (table["layer"] == layer)]
            _panel(axes, rows, looks)
            axes.set_title(_heading(rows), fontsize=7.5)
    style.index_axis(grid[0][0], table["i"].max())
    lowest = table[table["edge"] > 0]["edge"].min()  # 0 where an update is the zero matrix
    if lowest > 0:
        grid[0][0].set_ylim(bottom=lowest / DEPTH)
    grid[-1][len(modules) // 2].set_xlabel("index i")
    grid[len(layers) // 2][0].set_ylabel("singular value σᵢ")
    first = table.iloc[0]
    about = "singular values of ΔW, and of noise of the same shape and norm"
    style.title(figure, f"{first['model']} on {first['task']}, seed {first['seed']}: {about}")
    style.legend(figure, grid[0][0], columns=3)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    if rows.empty:
        axes.set_axis_off()
        return
    for arm, part in rows.groupby("arm", sort=False):
        axes.plot(part["i"], part["sigma"].where(part["sigma"] > 0), label=arm, **looks[str(arm)])
    axes.axhline(rows["edge"].iloc[0], color="0.5", linewidth=0.7, linestyle=":", label="edge of the noise")


def _heading(rows: pd.DataFrame) -> str:
    if rows.empty:
        return ""
    first, full = rows.iloc[0], rows[rows["arm"] == FULL]["sigma"]
    above = f"full: {(full > first['edge']).sum():,} of {len(full):,} above the edge"
    return f"layer {first['layer']}, {first['module']}\n{above}"


def _looks(arms: list[str]) -> dict[str, dict[str, Any]]:
    """Full and noise as lines without marks, LoRA with a mark per value."""
    ranked = [arm for arm in arms if arm not in (FULL, NOISE)]
    looks: dict[str, dict[str, Any]] = {FULL: {"color": "black"}, NOISE: {"color": "0.5", "linestyle": "--"}}
    for arm, colour, marker in zip(ranked, style.colours(RANKS), style.MARKERS, strict=False):
        looks[arm] = {"color": colour, "marker": marker, "markersize": 3, "linewidth": 0.9}
    return looks


def _spectra(run: pd.Series[Any], group: Group) -> dict[str, dict[str, np.ndarray]]:
    """The saved spectra of a run."""
    try:
        return load_spectra(Path(run["folder"]))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        words = [f"method={run['method']}", f"seed={run['seed']}", "force=true"]
        words += [] if run["rank"] != run["rank"] else [f"rank={run['rank']:.0f}"]
        reason = f"spectra.npz of {run['run_id']} cannot be read ({error})"
        raise CannotDraw(f"{reason}; type {group.command(*words)}") from error
