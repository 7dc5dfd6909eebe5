"""What a window shows of a run, whatever the window is: names, configuration, summary, curves and a heat map.

Nothing here says where anything lies on this machine: of a file or folder of the user's only its name is shown. Keys
and passwords are hidden. Measures are shown as means over the matrices, and matrix by matrix in the heat map alone.
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.record import variation
from lorax_lab.record.palette import sequential_map
from lorax_lab.record.record import DamagedRecord, Record, read_record
from lorax_lab.record.redact import redact, redacted
from lorax_lab.record.spectrum import mean_spectra, share_of_noise, shown_indices

if TYPE_CHECKING:
    import numpy as np

LONGEST = 64
"""Letters of a tag, or of a job type, at most; W&B refuses more."""
AXES = {"truncation": "truncation/k", "spectrum": "spectrum/index", "answer": "answer/rank"}
"""Keys that begin with such a word are drawn against the key beside it, not against the training step."""
HIDDEN_KEYS = ("runs_dir", "tracking", "force", "isolate", "workers")
"""Settings that say where things lie and how a run was watched."""
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?(@[\w./-]+)?")
PATH = re.compile(
    r"(['\"])(?:file://)?~?/[^'\"]*?([^'\"/]+)/?\1|(?:file://|(?<![\w/.:]))~?(?:/[^\s/:;,'\"]+)+/([^\s/:;,'\"]+)"
)
"""An absolute path, which may have spaces where it is quoted, and its last part."""
Row = Mapping[str, Any]
"""The measures of one matrix, as `record.measures.rows` gives them."""
Spectra = dict[str, dict[str, "np.ndarray"]]
"""Singular values of each matrix, as `load_spectra` gives them; empty for a trial."""


def arm_and_tags(record: Record) -> tuple[str, list[str]]:
    """A run's arm (all but the seed), and a tag for each setting that differs from its default.

    A window learns of a run before other runs of its sweep begin, so the names depend on the run alone.
    """
    config = record.config | {"rank": record.rank, "seed": record.seed}
    typed = dict(override.split("=", 1) for override in variation.overrides(config))
    tags = [f"{key}={Path(value).name if key in variation.INPUTS else value}" for key, value in typed.items()]
    arm = " ".join(tag for tag in tags if not tag.startswith(("model=", "task=", "seed=")))
    if len(arm) > LONGEST:
        arm = f"{arm[: LONGEST - 7]} {variation.digest(arm)}"
    return arm, [redact(tag)[-LONGEST:] for tag in tags]


def configuration(record: Record) -> dict[str, Any]:
    """A run's configuration without places."""
    config = {key: value for key, value in record.config.items() if key not in HIDDEN_KEYS}
    task, model = dict(config["task"]), _name(str(config["model"]), is_public=True)
    if task.get("path"):
        task["path"] = _name(str(task["path"]), is_public=task.get("source") == "hub")
    return dict(redacted(config | {"task": task, "model": model}))


def _name(path: str, is_public: bool) -> str:
    """The path itself where it is the name of a model or data set on the hub, else its last part.

    >>> _name("org/name", True), _name("/home/me/data.csv", True), _name("clinic/patients.csv", False)
    ('org/name', 'data.csv', 'patients.csv')
    """
    return path if is_public and HUB_NAME.fullmatch(path) and not Path(path).exists() else Path(path).name


def without_places(text: str) -> str:
    """A text, such as the message of any library's error, without secrets, this machine's name, and the folders of
    absolute paths.

    >>> without_places("OSError: /home/me/data.csv is gone, '/a b/c d.csv' too, see https://hub.org/a/b")
    "OSError: data.csv is gone, 'c d.csv' too, see https://hub.org/a/b"
    """
    host = platform.node()
    shown = PATH.sub(lambda path: f"{path[1]}{path[2]}{path[1]}" if path[1] else path[3], redact(text))
    return shown.replace(host, "this machine") if len(host) > 2 else shown


def end_tags(record: Record) -> list[str]:
    """Tags that a run gets when it has ended."""
    if record.result is None:
        return [record.status]
    return ["collapsed"] if record.result.collapsed else []


def summary(record: Record, folder: Path | None = None, runs_dir: Path | None = None) -> dict[str, Any]:
    """How a run ended and, of a completed one, its scores, costs and update, and how it differs from its reference.

    Args:
        folder: where the run's spectra are; None leaves the measures of its update out.
        runs_dir: where the reference's record is; None leaves the difference out.
    """
    values: dict[str, Any] = {"status": record.status, "status/why": without_places(record.reason or "")}
    if (result := record.result) is None:
        return values
    values |= result.metrics
    groups = {"baseline": result.baselines, "parameters": asdict(result.parameters), "time": asdict(result.time)}
    groups["memory"] = result.memory.by_category | {"peak_bytes": result.memory.peak_bytes}
    if cover := result.coverage:
        parts = {f"{part.reason}/{part.module}": part.parameters for part in cover.parts}
        groups["coverage"] = {key: value for key, value in asdict(cover).items() if key != "parts"} | parts
    values |= {f"{group}/{key}": value for group, of_group in groups.items() for key, value in of_group.items()}
    values |= {"collapsed": bool(result.collapsed), "collapsed/why": "; ".join(result.collapsed)}
    values |= {"metric": result.metric, "higher_is_better": result.higher_is_better}
    values |= {"score": result.metrics.get(f"{record.split}/{result.metric}"), "score/split": record.split}
    values |= (_of_update(record, folder) if folder else {}) | (
        _against_reference(record, runs_dir) if runs_dir else {}
    )
    return dict(redacted({key: value for key, value in values.items() if value is not None}))


def _of_update(record: Record, folder: Path) -> dict[str, Any]:
    """Means of the update's measures; none for a trial, and where the spectra cannot be read."""
    from lorax_lab.record import measures  # imports torch

    result = record.completed
    values: dict[str, Any] = {}
    try:
        means, rows = measures.means(folder), measures.rows(folder)
    except (FileNotFoundError, DamagedRecord):
        return values
    for key, mean in means.items():
        if isinstance(mean, int | float):
            values[key.replace(".", "/") if "." in key else f"spectrum/{key}"] = mean
    shares = noise_shares(rows, record.method)
    values |= {f"noise_share/{module}": share for module, share in shares.items()}
    if shares:
        values["noise_share"] = sum(shares.values()) / len(shares)
    if cuts := _scores(record, "cut"):
        sign, whole = 1 if result.higher_is_better else -1, cuts[max(cuts)]
        worse = [k for k in cuts if sign * cuts[k] < sign * whole]
        values["truncation/smallest_k"] = min(k for k in cuts if k > max(worse, default=-1))
    return values


def noise_shares(rows: Mapping[str, Row], method: str) -> dict[str, float]:
    """Effective rank as a share of that of noise of the same shape, and of LoRA's rank, by type of module. 1 is pure
    noise, a small share is structure. A matrix of which noise tells nothing is left out."""
    modules: dict[str, list[float]] = {}
    for row in rows.values():
        if (share := share_of_noise(row, method)) is not None:
            modules.setdefault(row["module"], []).append(share)
    return {module: sum(shares) / len(shares) for module, shares in modules.items()}


def _scores(record: Record, part: str) -> dict[int, float]:
    """The score under each truncation of one part (`cut`, `remainder`) by k."""
    result = record.completed
    rows = [row for row in result.truncation or [] if row["part"] == part and row.get("module") is None]
    return {row["k"]: row[result.metric] for row in rows if row.get(result.metric) is not None}


def _against_reference(record: Record, runs_dir: Path) -> dict[str, Any]:
    """Every score of the test split minus the reference's, where that is recorded."""
    result, main = record.completed, f"{record.split}/{record.completed.metric}"
    try:
        reference = read_record(runs_dir / result.reference).result if result.reference else None
    except (FileNotFoundError, DamagedRecord):
        reference = None
    if reference is None:
        return {}
    values: dict[str, Any] = {"reference": result.reference, "reference/score": reference.metrics.get(main)}
    for key, value in result.metrics.items():
        score = reference.metrics.get(key)
        if key.startswith(f"{record.split}/") and value is not None and score is not None:
            values[f"difference/{key}"] = value - score
    return values | {"difference/score": values.get(f"difference/{main}")}


def curves(record: Record, spectra: Spectra) -> list[dict[str, float | None]]:
    """The rows of the curves that have an axis of their own (`AXES`): the truncation curve of a full update, the
    singular values of each type of module beside those of noise, and the score against the rank."""
    rows: list[dict[str, float | None]] = []
    cut, remainder = _scores(record, "cut"), _scores(record, "remainder")
    for k in sorted(cut):
        rest = {"truncation/remainder": remainder[k]} if k in remainder else {}
        rows.append({AXES["truncation"]: k, "truncation/cut": cut[k], **rest, "truncation/whole": cut[max(cut)]})
    lines = mean_spectra(record, spectra) if spectra else {}
    for i in shown_indices(max((len(line.sigma) for line in lines.values()), default=0)):
        row: dict[str, float | None] = {AXES["spectrum"]: i}
        for module, line in lines.items():
            if i <= len(line.sigma):
                row[f"spectrum/sigma/{module}"] = float(line.sigma[i - 1])
                if math.isfinite(line.null[i - 1]):
                    row[f"spectrum/null/{module}"] = float(line.null[i - 1])
        rows.append(row)
    if spectra:  # a method without ranks is a line across, from 1 to the most that a matrix can have
        most = max(len(parts["sigma"]) for parts in spectra.values())
        score = record.completed.metrics.get(f"{record.split}/{record.completed.metric}")
        ranks = [1, most] if record.rank is None else [record.rank]
        rows += [{AXES["answer"]: rank, "answer/score": score} for rank in ranks]
    return rows


def heat_map(measured: Mapping[str, Row], method: str) -> np.ndarray:
    """Effective rank of ΔW, layers down, types of module across, as a picture (height, width, 4) uint8.

    The colour is its share of the effective rank of noise, from 0 to 1 in every run, and white where noise tells
    nothing. The number is the effective rank itself. Matrices outside all layers have the last row. A cell with several
    matrices shows their mean, and ×2 says how many they are.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = list(measured.values())
    modules = list(dict.fromkeys(row["module"] for row in rows))
    layers = sorted({row["layer"] for row in rows}, key=lambda layer: (layer is None, layer))
    figure = Figure(figsize=(2.0 + 1.1 * len(modules), 1.6 + 0.45 * len(layers)), layout="constrained")
    canvas, axes, shares = FigureCanvasAgg(figure), figure.add_subplot(), np.full((len(layers), len(modules)), np.nan)
    for i, j in np.ndindex(shares.shape):
        cell = [row for row in rows if (row["layer"], row["module"]) == (layers[i], modules[j])]
        known_shares = [share for row in cell if (share := share_of_noise(row, method)) is not None]
        ranks = [row["effective_rank"] for row in cell if row["effective_rank"] is not None]
        shares[i, j] = np.mean(known_shares) if known_shares else np.nan
        if ranks:
            text = f"{np.mean(ranks):.3g}" + (f" ×{len(ranks)}" if len(ranks) > 1 else "")
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color="w" if shares[i, j] > 0.4 else "k")
    image = axes.imshow(shares, cmap=sequential_map(), aspect="auto", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(modules)), modules, rotation=30, ha="right", parse_math=False)
    axes.set_yticks(range(len(layers)), ["outside" if layer is None else str(layer) for layer in layers])
    axes.set(xlabel="module", ylabel="layer", title="effective rank of ΔW")
    figure.colorbar(image, label="share of noise's effective rank")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
