"""What a window shows of a run: names, configuration, summary, tables, curves and a heat map. Nothing here says where
anything lies on this machine, and keys and passwords are hidden."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean as mean
from typing import Any

import numpy as np

from lorax_lab.config.defaults import flat
from lorax_lab.config.identity import portable
from lorax_lab.record import variation
from lorax_lab.record.answer import answers
from lorax_lab.record.comparable import comparable
from lorax_lab.record.files import write_json
from lorax_lab.record.folder import SPECTRA, load_arrays
from lorax_lab.record.palette import SEQUENTIAL
from lorax_lab.record.record import Record, read_record
from lorax_lab.record.redact import redact, redacted
from lorax_lab.record.share import difference, reference_of, share_kept

Spectra = dict[str, dict[str, np.ndarray]]
LONGEST = 64
"""Letters of a tag at most; W&B refuses more."""
UPDATE = ".update.json"
"""The file in a run's folder by which the process that trained hands its child what needs torch."""
SUMMARY = (
    "status", "status/why", "collapsed", "collapsed/why", "answer", "score", "test/{metric}", "validation/{metric}",
    "baselines/untrained/{metric}", "baselines/head/{metric}", "reference/score", "difference/score", "share/kept",
    "parameters/trainable", "memory/peak_bytes", "time/train_seconds", "update/effective_rank", "update/noise_share",
    "update/captured/column_share", "update/captured/random_column_share",
)  # fmt: skip
"""The values in a run's summary where they say something; all others are rows of its table `record`."""
AXES = {"truncation": "truncation/k", "answer": "answer/rank"}
"""Keys that begin with such a word are drawn against the key beside it, not against the training step."""
HEAT_MAP = "update/effective_rank_map"
CURVES_ALONE = (f"{HEAT_MAP}*", "train/gradient_norm", "train/learning_rate", "validation/*")
"""What the library keeps out of the summary: its last value says nothing of a run, or the summary has it anyway."""
PLACE = re.compile(r"(?<![\w:/.])~?/(?:[^\s/'\"]+/)+")
"""A folder on this machine, in a text."""
CURVE = 160
"""Into so many steps, each a factor larger, the curve of singular values is cut; at its begin all values are shown."""


def arm_and_tags(record: Record) -> tuple[str, list[str]]:
    """A run's arm (all but the seed), and a tag for each setting that differs from its default; they depend on the run
    alone, since other runs of its sweep may not have begun."""
    config = record.config | {"rank": record.rank, "seed": record.seed}
    typed = dict(override.split("=", 1) for override in variation.overrides(config))
    tags = [f"{key}={Path(value).name if key in variation.INPUTS else value}" for key, value in typed.items()]
    arm = " ".join(tag for tag in tags if not tag.startswith(("model=", "task=", "seed=")))
    return arm, [redact(tag)[-LONGEST:] for tag in tags]


def configuration(record: Record) -> dict[str, Any]:
    """A run's configuration as it is published, and what it ran with: the commit, the versions of packages and, once it
    is completed, the hashes of base and data."""
    ran_with = {"git": asdict(record.git), "versions": record.versions, "code": record.code}
    config = portable(record.config) | ran_with
    if result := record.result:
        config |= {"base_sha256": result.inputs.model_sha256, "data_sha256": result.inputs.data_sha256}
    return dict(redacted(config))


def record_values(record: Record, runs_dir: Path) -> dict[str, Any]:
    """How a run ended and, of a completed one, every value of the whole run that its record has, with its difference
    from the reference in `runs_dir`. Nothing is listed here, so what a record has tomorrow is shown as well."""
    values: dict[str, Any] = {"status": record.status, "status/why": PLACE.sub("", record.reason or "")}
    if (result := record.result) is None:
        return values
    parts = {key: value for key, value in asdict(result).items() if key not in ("matrices", "truncation", "files")}
    values |= parts.pop("metrics")
    score = values.get(f"{record.split}/{result.metric}")
    for part in (parts["coverage"] or {}).pop("parts", []):
        parts[f"coverage/{part['reason']}/{part['module']}"] = part["parameters"]
    values |= {key.replace(".", "/"): value for key, value in flat(parts).items()}
    values |= {"collapsed": bool(result.collapsed), "collapsed/why": "; ".join(result.collapsed)}
    values |= {"score": score, "score/split": record.split}
    if not record.is_trial:
        values["answer"] = " ".join(answers(comparable(record, runs_dir))) or None
    if (full := reference_of(record, runs_dir)) and score is not None:
        values |= {"reference/score": full.score(record.split), "share/kept": share_kept(record, full)}
        if difference(record, full) is not None:
            values["difference/score"] = score - values["reference/score"]
    return dict(redacted({key: value for key, value in values.items() if not isinstance(value, list | None)}))


def summary(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run's values those that stand in its summary (`SUMMARY`); no reasons for what is not so."""
    names = [name.format(metric=values.get("metric")) for name in SUMMARY]
    return {key: value for key, value in values.items() if key in names and value != "" and value is not False}


def leave_update(folder: Path) -> None:
    """Leave what a window shows of a completed run's update in `UPDATE`; nothing where none is measured."""
    record = read_record(folder)
    if record.result and record.result.matrices:
        write_json(folder / UPDATE, derived(record, folder))


def derived(record: Record, folder: Path) -> dict[str, Any]:
    """What a window shows of an update: `values`, means over the matrices of every measure and of the effective rank's
    share of noise's; the rows of the table `spectrum` and of the `curves`; and `matrices`, rows (layer, module, share
    of noise, effective rank)."""
    from lorax_lab.record.measures import means, rows, share_of_noise  # imports torch

    table = rows(folder)
    shown = {key: value for key, value in means(folder).items() if isinstance(value, int | float)}
    values = {f"update/{key.replace('.', '/')}": value for key, value in shown.items()}
    shares = [share_of_noise(row, record.method) for row in table.values()]
    if of_matrices := [share for share in shares if share is not None]:
        values["update/noise_share"] = mean(of_matrices)
    places = zip(table.values(), shares, strict=True)
    matrices = [(row["layer"], row["module"], share, row["effective_rank"]) for row, share in places]
    spectra = load_arrays(folder, SPECTRA, parts=["sigma"])
    lines = curves(record, spectra, record_values(record, folder.parent).get("share/kept"))
    return {"values": values, "spectrum": spectrum(record, spectra), "curves": lines, "matrices": matrices}


def spectrum(record: Record, spectra: Spectra) -> list[list[Any]]:
    """Rows (index, module, sigma) of singular values: means over each type of module."""
    by_module: dict[str, list[np.ndarray]] = {}
    for name, matrix in record.completed.matrices.items():
        by_module.setdefault(matrix.module, []).append(spectra[name]["sigma"])
    return [[i, module, sigma] for module, sigmas in by_module.items() for i, sigma in _means(sigmas).items()]


def _means(sigmas: Sequence[np.ndarray]) -> dict[int, float]:
    """The means of the singular values by their index from 1, as far as the shortest goes."""
    most = min(map(len, sigmas))
    shown = sorted({round(most ** (n / CURVE)) for n in range(CURVE + 1)})
    return {i: mean(float(sigma[i - 1]) for sigma in sigmas) for i in shown}


def curves(record: Record, spectra: Spectra, share: float | None) -> list[dict[str, float | None]]:
    """The rows of the curves that have an axis of their own (`AXES`): the singular values, the truncation curve of a
    full update, and the score and the share that it keeps against the rank."""
    result = record.completed
    scored = [row for row in result.truncation or [] if not row.get("module") and row.get(result.metric) is not None]
    cut = {row["k"]: row[result.metric] for row in scored if row["part"] == "cut"}
    remainder = {row["k"]: row[result.metric] for row in scored if row["part"] == "remainder"}
    sigma = _means([parts["sigma"] for parts in spectra.values()])
    whole = {k: cut[max(cut)] for k in cut}
    by_name = {"sigma": sigma, "cut": cut, "whole": whole, "remainder": remainder}
    rows: list[dict[str, float | None]] = [
        {AXES["truncation"]: k} | {f"truncation/{name}": line[k] for name, line in by_name.items() if k in line}
        for k in sorted(sigma.keys() | cut.keys())
    ]
    # a method without ranks is a line across, from 1 to the most that a matrix can have
    most = max(len(parts["sigma"]) for parts in spectra.values())
    scores = {"answer/score": result.metrics.get(f"{record.split}/{result.metric}")}
    scores |= {} if share is None else {"answer/share": share}
    return rows + [{AXES["answer"]: rank, **scores} for rank in ([1, most] if record.rank is None else [record.rank])]


def heat_map(matrices: Sequence[Sequence[Any]]) -> np.ndarray:
    """Effective rank of ΔW, layers down, types of module across, as a picture (height, width, 4) uint8.

    The colour is its share of noise's, from 0 to 1 in every run, and white where noise tells nothing; the number is the
    effective rank itself. Matrices outside all layers have the last row; matrices of one cell show their mean. Rows are
    (layer, module, share of noise, effective rank), as of `derived`.
    """
    import pandas as pd
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    numbers = {"layer": float, "share": float, "rank": float}
    frame = pd.DataFrame(matrices, columns=["layer", "module", "share", "rank"]).astype(numbers)
    means = frame.fillna({"layer": float("inf")}).pivot_table(index="layer", columns="module", dropna=False)
    shares = means["share"].rename(index=lambda layer: "outside" if layer == float("inf") else f"{layer:.0f}")
    figure = Figure(figsize=(min(2.0 + 1.1 * shares.shape[1], 8.0), 1.6 + 0.3 * len(shares)), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    colours = LinearSegmentedColormap.from_list("ranks", SEQUENTIAL)
    image = axes.imshow(shares, cmap=colours, aspect="auto", vmin=0, vmax=1)
    for (i, j), rank in np.ndenumerate(means["rank"].to_numpy()):
        if np.isfinite(rank):
            ink = "w" if shares.to_numpy()[i, j] > 0.35 else "k"  # on a dark colour
            axes.text(j, i, f"{rank:.3g}", ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks(range(shares.shape[1]), shares.columns, rotation=20, ha="right", parse_math=False)
    axes.set_yticks(range(len(shares)), shares.index)
    axes.set(xlabel="module", ylabel="layer", title="effective rank of ΔW")
    figure.colorbar(image, label="share of noise's effective rank")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
