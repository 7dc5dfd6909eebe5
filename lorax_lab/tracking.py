"""Weights & Biases, a window on the records: told after a run's own files are complete, and never able to hurt
the run. The only file that imports wandb.

Offline runs lie in `<runs_dir>/wandb/`; `wandb leet <runs_dir>/wandb` browses them, `wandb sync` uploads them.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lorax_lab.config import TrackingConfig

SUMMARY_KEYS = ("effective_rank", "stable_rank", "participation_ratio", "energy_rank_90", "relative_norm")


def publish(
    config: TrackingConfig,
    runs_dir: Path,
    record: dict[str, Any],
    history: list[dict[str, float]],
    spectra: dict[str, dict[str, np.ndarray]],
    group: str,
) -> None:
    """Send one finished run: its configuration, learning curves, summary, spectra and effective-rank heat map.

    Whatever goes wrong becomes a warning: the record on disk is what counts.
    """
    if config.mode == "disabled":
        return
    try:
        _publish(config, runs_dir, record, history, spectra, group)
    except Exception as error:
        warnings.warn(
            f"W&B was not told of {record['run_id']} ({type(error).__name__}: {error}); the record is complete",
            stacklevel=2,
        )


def resolve_mode(mode: str) -> str:
    """`online` or `offline` for `auto`: online when there is a login already; it never asks for one."""
    if mode != "auto":
        return mode
    import wandb

    if os.environ.get("WANDB_MODE") in ("offline", "online", "disabled"):
        return os.environ["WANDB_MODE"]
    return "online" if wandb.login(prompt=False) else "offline"


def _publish(
    config: TrackingConfig,
    runs_dir: Path,
    record: dict[str, Any],
    history: list[dict[str, float]],
    spectra: dict[str, dict[str, np.ndarray]],
    group: str,
) -> None:
    runs_dir = runs_dir.resolve()
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_DATA_DIR", str(runs_dir / "wandb"))
    (runs_dir / "wandb").mkdir(parents=True, exist_ok=True)
    import wandb

    settings = wandb.Settings(
        silent=True, console="off", init_timeout=30, x_disable_stats=True, disable_git=True, disable_code=True
    )
    tags = [record["config"]["model"], record["config"]["task"]["name"], record["method"]]
    with wandb.init(
        project=config.project,
        entity=config.entity,
        dir=str(runs_dir),
        id=record["run_id"],
        name=record["run_id"],
        group=group,
        job_type=record["method"],
        tags=[tag[-64:] for tag in tags] + ([f"rank={record['rank']}"] if record["rank"] else []),
        config=record["config"],
        mode=resolve_mode(config.mode),  # type: ignore[arg-type]
        settings=settings,
    ) as run:
        for row in history:
            run.log({key: value for key, value in row.items() if key != "step"}, step=int(row["step"]))
        pictures = {
            "spectrum/singular_values": _spectrum_chart(record, spectra),
            "spectrum/effective_rank_map": wandb.Image(_heat_map(record)),
        }
        run.log(pictures, step=int(history[-1]["step"]))
        run.summary.update(_summary(record))


def _summary(record: dict[str, Any]) -> dict[str, Any]:
    flat = dict(record["metrics"]) | {f"parameters/{k}": v for k, v in record["parameters"].items()}
    flat |= {f"memory/{key}": value for key, value in record["memory"]["by_category"].items()}
    flat |= {"memory/peak_bytes": record["memory"]["peak_bytes"], "status": record["status"]}
    flat |= {f"time/{key}": value for key, value in record["time"].items()}
    flat |= {f"spectrum/{key}": record["summary"][key] for key in SUMMARY_KEYS}
    return flat


def _spectrum_chart(record: dict[str, Any], spectra: dict[str, dict[str, np.ndarray]]) -> Any:
    """Singular values averaged over the layers of each module type, σ_i against i."""
    import wandb

    modules: dict[str, list[np.ndarray]] = {}
    for name, row in record["matrices"].items():
        modules.setdefault(row["module"], []).append(spectra[name]["sigma"])
    lines = {module: np.mean(values, axis=0) for module, values in modules.items()}
    indices = [list(range(1, len(line) + 1)) for line in lines.values()]
    return wandb.plot.line_series(
        indices,
        [line.tolist() for line in lines.values()],
        keys=list(lines),
        title="singular values",
        xname="index",
    )


def _heat_map(record: dict[str, Any]) -> Any:
    """Effective rank of ΔW, layers down, module types across."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = record["matrices"].values()
    modules = list(dict.fromkeys(row["module"] for row in rows))
    layers = sorted({row["layer"] or 0 for row in rows})
    grid = np.full((len(layers), len(modules)), np.nan)
    for row in rows:
        value = row["effective_rank"]
        grid[layers.index(row["layer"] or 0), modules.index(row["module"])] = np.nan if value is None else value
    figure = Figure(figsize=(1.2 + 1.1 * len(modules), 1.6 + 0.45 * len(layers)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(grid, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(modules)), modules, rotation=30, ha="right")
    axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
    axes.set(xlabel="module", ylabel="layer", title="effective rank of ΔW")
    figure.colorbar(image)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
