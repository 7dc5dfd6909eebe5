"""Singular values of ΔW in a few matrices, of full fine-tuning and of others, against noise of the same shape.

The noise is fitted to the bulk of the full update's spectrum. The values above its edge are the spikes. They are
counted only where the others are distributed as iid noise; where not, the panel says how far they are from it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorax_lab.record import load_spectra, variation
from lorax_lab.record.comparable import config_of

from .. import style
from ..groups import CannotDraw, Group, command, representative, spread
from ..variants import COLLAPSED, REFERENCE, choice, collapsed, of_collapsed, shared

TITLE = "singular values of the update in a few matrices, against noise of the same shape"
NOISE = "noise"
"""The method's name in the rows of noise."""
FITTED, EDGE = "noise fitted to the bulk of full's spectrum", "edge of that noise"
RANKS = 3
LEFT_OUT = "left_out"
MISFIT, TOLD = "bulk_misfit", "told"
DEPTH = 30
"""How far below the noise's edge the axis goes. The smallest values of any square matrix fall towards 0."""


def table(group: Group) -> pd.DataFrame:
    """One row per singular value: up to 3 module types × 3 layers, full, up to 3 other arms of one seed, and noise.

    Columns: model, task, settings, those of `group.columns`, matrix, module, layer, i (from 1), sigma, edge (of the
    noise), bulk_misfit (how far full's bulk is from iid noise), told (whether that is close enough for the values above
    the edge to be counted); and `left_out`, the number of other arms that are not here, if there are such.

    Raises:
        CannotDraw: no full fine-tune, one that changed nothing, or a `spectra.npz` that cannot be read.
    """
    from lorax_lab.spectra import gaussian_singular_values, tells_spikes

    if group.full.empty:
        raise CannotDraw(f"there is no completed full fine-tune; type {group.command(f'method={REFERENCE}')}")
    (full, *others), left_out = _runs(group)
    spectra = {run["arm"]: _spectra(run, group) for run in (full, *others)}
    parts = []
    matrices = representative(group.matrices[group.matrices["run_id"] == full["run_id"]])
    numbers = matrices.reindex(columns=["noise_edge", "noise_std", MISFIT]).astype(float)
    for (_, matrix), (edge, std, misfit) in zip(matrices.iterrows(), numbers.to_numpy(), strict=True):
        name = matrix["matrix"]
        place = group.title | {key: matrix[key] for key in ("matrix", "module", "layer")}
        place |= {MISFIT: misfit, TOLD: tells_spikes(misfit, std, matrix["shape"])}
        lines = [(run, spectra[run["arm"]][name]["sigma"]) for run in (full, *others) if name in spectra[run["arm"]]]
        noise = pd.Series({**full, "method": NOISE, "variant": FITTED, "arm": FITTED, COLLAPSED: False})
        lines.append((noise, gaussian_singular_values(matrix["shape"]).numpy() * std))
        for run, sigma in lines:
            columns = place | {key: run[key] for key in group.columns}
            parts.append(pd.DataFrame(columns | {"i": range(1, len(sigma) + 1), "sigma": sigma, "edge": edge}))
    rows = pd.concat(parts, ignore_index=True).astype({"layer": "Int64", "rank": "Int64"})
    if not (rows["sigma"] > 0).any():
        raise CannotDraw(f"every update of {full['run_id']} is zero; its training changed no matrix")
    return rows.assign(**{LEFT_OUT: left_out}) if left_out else rows


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel per matrix, layers down, module types across; both axes logarithmic."""
    figure, first_axes, panels = style.spectra_grid(table, 1.6)
    looks = _looks(table)
    for axes, rows in panels:
        _panel(axes, rows, looks)
    lowest = table.loc[table["edge"] > 0, "edge"].min()  # 0 where an update is the zero matrix
    if lowest > 0:
        first_axes.set_ylim(bottom=lowest / DEPTH)
    first, runs = table.iloc[0], table[table["method"] != NOISE]
    text = f"{first['model']} on {first['task']}, seed {first['seed']}: singular values of ΔW, and of noise"
    if LEFT_OUT in table:
        text += f"\n{first[LEFT_OUT]} of the {RANKS + first[LEFT_OUT]} other arms not shown"
    text += shared(table) + choice(table) + collapsed(runs) + _without_line(runs)
    return style.finish(figure, text, first_axes, columns=3 if table["module"].nunique() > 2 else 1)


def _panel(axes: Axes, rows: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    for arm, part in rows.groupby("arm", sort=False):
        name = f"{arm}{of_collapsed(part)}"
        axes.plot(part["i"], part["sigma"].where(part["sigma"] > 0), label=name, **looks[str(arm)])
    first, full = rows.iloc[0], rows.loc[rows["method"] == REFERENCE, "sigma"]
    axes.axhline(first["edge"], color="0.5", linewidth=0.7, linestyle=":", label=EDGE)
    counted = f"full: {(full > first['edge']).sum():,} of {len(full):,} above the edge"
    doubt = "" if math.isnan(first[MISFIT]) else f"full's bulk is no iid noise (KS {first[MISFIT]:.2f})"
    axes.set_title(f"layer {first['layer']}, {first['module']}\n{counted if first[TOLD] else doubt}".rstrip())


def _without_line(runs: pd.DataFrame) -> str:
    """Names the arms whose every update here is zero: no line is drawn of them."""
    largest = runs.groupby("arm", sort=False)["sigma"].max()
    zero = [str(arm) for arm in largest[largest == 0].index]
    return f"\nno line: every ΔW here is zero of {', '.join(zero)}" if zero else ""


def _looks(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Full and noise as lines without marks, the others with a mark per value."""
    methods = dict(zip(table["arm"], table["method"], strict=True))
    plain: dict[str, dict[str, Any]] = {REFERENCE: {"color": "black"}, NOISE: {"color": "0.5", "linestyle": "--"}}
    marked = [arm for arm, method in methods.items() if method not in plain]
    looks = {arm: plain[method] for arm, method in methods.items() if method in plain}
    for arm, colour, marker in zip(marked, style.colours(RANKS), style.MARKERS, strict=False):
        looks[arm] = {"color": colour, "marker": marker, "markersize": 3, "linewidth": 0.9}
    return looks


def _runs(group: Group) -> tuple[list[pd.Series[Any]], int]:
    """The full fine-tune of the seed that most arms have, and a spread of the others of that seed; how many others are
    left out."""
    best = group.best
    arms = best.groupby("seed")["arm_key"].nunique().reindex(sorted(set(group.full["seed"])))
    rows = best[best["seed"] == arms.idxmax()]
    full = rows[rows["method"] == REFERENCE].iloc[0]
    compared = rows[rows["method"] != REFERENCE]
    shown = [compared.iloc[place] for place in spread(range(len(compared)), RANKS)]
    return [full, *shown], max(0, len(compared) - RANKS)


def _spectra(run: pd.Series[Any], group: Group) -> dict[str, dict[str, np.ndarray]]:
    try:
        return load_spectra(Path(run["folder"]))
    except (OSError, ValueError) as error:
        overrides = variation.overrides(config_of(group.records[run["run_id"]]))
        typed = command([*overrides, "force=true"], group.runs_dir)
        raise CannotDraw(f"spectra.npz of {run['run_id']} cannot be read ({error}); type {typed}") from error
