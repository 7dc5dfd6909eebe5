"""What W&B is shown of a run's update as pictures, (height, width, 4) uint8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lorax_lab.store.palette import CATEGORICAL, sequential_map
from lorax_lab.store.record import Record


def spectrum_chart(record: Record, spectra: dict[str, dict[str, np.ndarray]]) -> np.ndarray:
    """Singular values averaged over the layers of each module type, σ_i against i. It is a picture, since W&B writes
    the place of a chart's table on this machine into its files."""

    def draw(axes: Any) -> None:
        axes.set_prop_cycle(color=CATEGORICAL)
        for module, line in mean_spectra(record, spectra).items():
            axes.plot(range(1, len(line) + 1), line, marker=".", label=module)
        axes.set(xlabel="index", ylabel="singular value", title="singular values")
        axes.legend()

    return _picture(draw, (5.0, 3.2))


def mean_spectra(record: Record, spectra: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Singular values averaged over the layers of each module type, by module type."""
    modules: dict[str, list[np.ndarray]] = {}
    for name, row in record.completed.matrices.items():
        modules.setdefault(row["module"], []).append(spectra[name]["sigma"])
    return {module: np.mean(values, axis=0) for module, values in modules.items()}


def heat_map(record: Record) -> np.ndarray:
    """Effective rank of ΔW, layers down, module types across."""
    rows = record.completed.matrices.values()
    modules = list(dict.fromkeys(row["module"] for row in rows))
    layers = sorted({row["layer"] or 0 for row in rows})
    grid = np.full((len(layers), len(modules)), np.nan)
    for row in rows:
        value = row["effective_rank"]
        grid[layers.index(row["layer"] or 0), modules.index(row["module"])] = np.nan if value is None else value

    def draw(axes: Any) -> None:
        image = axes.imshow(grid, cmap=sequential_map(), aspect="auto")
        axes.set_xticks(range(len(modules)), modules, rotation=30, ha="right")
        axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
        axes.set(xlabel="module", ylabel="layer", title="effective rank of ΔW")
        axes.figure.colorbar(image)

    return _picture(draw, (1.2 + 1.1 * len(modules), 1.6 + 0.45 * len(layers)))


def _picture(draw: Callable[[Any], None], inches: tuple[float, float]) -> np.ndarray:
    """What `draw` draws on its axes, (height, width, 4) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, layout="constrained")
    draw(figure.add_subplot())
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
