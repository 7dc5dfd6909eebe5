"""What a window is shown of a run's update as pictures, (height, width, 4) uint8. One scale of colours for all runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lorax_lab.record.record import Record
from lorax_lab.record.spectrum import mean_spectra, share_of_noise
from lorax_lab.windows.palette import CATEGORICAL, sequential_map

OUTSIDE = "outside"
"""The row of the map for matrices that are in no layer."""


def pictures(record: Record, spectra: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The pictures of a completed run by key; none for a trial, which has no matrices."""
    if not record.completed.matrices:
        return {}
    return {
        "spectrum/singular_values": spectrum_chart(record, spectra),
        "spectrum/effective_rank_map": heat_map(record),
    }


def prepare() -> None:
    """Draw once: a process that is forked afterwards has fonts and the parser of numbers such as 10⁻³ loaded."""
    _picture(lambda axes: axes.set_yscale("log"), (1.0, 1.0))


def spectrum_chart(record: Record, spectra: dict[str, dict[str, np.ndarray]]) -> np.ndarray:
    """Singular values averaged over the layers of each module type, σ_i against i, and those of noise dashed."""

    def draw(axes: Any) -> None:
        for number, (module, line) in enumerate(mean_spectra(record, spectra).items()):
            index, colour = range(1, len(line.sigma) + 1), CATEGORICAL[number % len(CATEGORICAL)]
            axes.plot(index, line.sigma, marker="." if len(index) < 33 else "", label=module, color=colour)
            axes.plot(index, line.null, linestyle="--", linewidth=1, color=colour, label=f"_{module}, noise")
        axes.set(xlabel="index", ylabel="singular value", title="singular values of ΔW (dashed: noise)")
        axes.set_yscale("log" if all((line > 0).all() for line in _sigmas(record, spectra)) else "linear")
        axes.xaxis.get_major_locator().set_params(integer=True)
        for text in axes.legend(fontsize="small", bbox_to_anchor=(1.02, 1.0), loc="upper left").get_texts():
            text.set_parse_math(False)

    return _picture(draw, (7.2, 3.6))


def _sigmas(record: Record, spectra: dict[str, dict[str, np.ndarray]]) -> list[np.ndarray]:
    return [line.sigma for line in mean_spectra(record, spectra).values()]


def heat_map(record: Record) -> np.ndarray:
    """Effective rank of ΔW, layers down, module types across. The colour is its share of the effective rank of noise of
    the same shape (and, for LoRA, rank), from 0 to 1 in every run, and white where noise tells nothing;
    the number is the effective rank itself. A matrix outside all layers, such as a pooler's, is in a row of its own,
    the last. Several matrices of one cell are shown by their mean, and ×2 says how many they are."""
    rows = record.completed.matrices.values()
    modules = list(dict.fromkeys(row["module"] for row in rows))
    layers = sorted({row["layer"] for row in rows}, key=lambda layer: (layer is None, layer))
    shares = np.full((len(layers), len(modules)), np.nan)
    ranks, counts = np.full_like(shares, np.nan), np.zeros(shares.shape, int)
    for place in np.ndindex(shares.shape):
        cell = [row for row in rows if (row["layer"], row["module"]) == (layers[place[0]], modules[place[1]])]
        shares[place] = _mean(share_of_noise(row, record.method) for row in cell)
        known = [row["effective_rank"] for row in cell if row["effective_rank"] is not None]
        ranks[place], counts[place] = _mean(known), len(known)

    def draw(axes: Any) -> None:
        image = axes.imshow(shares, cmap=sequential_map(), aspect="auto", vmin=0.0, vmax=1.0)
        for (i, j), value in np.ndenumerate(ranks):
            if np.isfinite(value):
                dark = np.isfinite(shares[i, j]) and shares[i, j] > 0.4
                shown = f"{value:.3g}" + (f" ×{counts[i, j]}" if counts[i, j] > 1 else "")
                axes.text(j, i, shown, ha="center", va="center", fontsize=8, color="w" if dark else "k")
        axes.set_xticks(range(len(modules)), modules, rotation=30, ha="right", parse_math=False)
        axes.set_yticks(range(len(layers)), [OUTSIDE if layer is None else str(layer) for layer in layers])
        axes.set(xlabel="module", ylabel="layer", title="effective rank of ΔW")
        axes.figure.colorbar(image, label="share of noise's effective rank")

    return _picture(draw, (2.0 + 1.1 * len(modules), 1.6 + 0.45 * len(layers)))


def _mean(values: Iterable[float | None]) -> float:
    """The mean of the values that are known; nan where none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")


def _picture(draw: Callable[[Any], None], inches: tuple[float, float]) -> np.ndarray:
    """What `draw` draws on its axes, (height, width, 4) uint8."""
    figure = Figure(figsize=inches, layout="constrained")
    draw(figure.add_subplot())
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
