"""What serving prints and writes: tables, and `serving.json`."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from lorax_lab.console import console
from lorax_lab.errors import cut
from lorax_lab.launch.plan import Run
from lorax_lab.record.files import write_redacted
from lorax_lab.record.provenance import hardware
from lorax_lab.record.redact import redacted
from lorax_lab.serve.proof import WAYS, Proof
from lorax_lab.serve.served import Served

RESULTS = "serving.json"
SHOWN = 2
"""How many rows of each task the printed batch has."""
TEXT = 58
"""Letters of a text that are printed."""


def default_folder(runs: list[Run]) -> Path:
    """`serving/<model>-r<rank>-s<seed>-<hash>`; the hash is that of the runs' ids."""
    config = runs[0].config
    short_hash = hashlib.sha256("".join(run.run_id for run in runs).encode()).hexdigest()[:6]
    return Path("serving") / f"{Path(config.model).name}-r{config.rank}-s{config.seed}-{short_hash}"


def results(served: Served, proof: Proof, costs: dict[str, Any]) -> dict[str, Any]:
    """The proof, the costs and where they were measured, as plain values."""
    config = next(iter(served.runs.values())).config
    return {
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "hardware": hardware(),
        "model": config.model,
        "rank": config.rank,
        "seed": config.seed,
        "equal": proof.equal,
        "base_unchanged": proof.base_unchanged,
        "exchanges": proof.exchanges,
        "tasks": proof.tasks,
        "mixed_batch": _mixed_batch(served),
    } | costs


def close(results: dict[str, Any], folder: Path) -> None:
    """Print the tables and the proof, and write `serving.json`."""
    console.print(_tasks(results))
    console.print(_costs(results))
    console.print(_rows(results["mixed_batch"]))
    console.print(_verdict(results), soft_wrap=True, markup=False)
    write_redacted(folder / RESULTS, json.dumps(redacted(results), indent=1, allow_nan=False) + "\n")
    console.print(f"in {folder}: {RESULTS}", soft_wrap=True, markup=False)
    console.print(f"for the figure type: python -m analysis serving {folder}", soft_wrap=True, markup=False)


def _mixed_batch(served: Served) -> list[dict[str, Any]]:
    rows = served.few(SHOWN)
    answers = served.exchange.mixed(served.batch(rows), [name for name, _ in rows])
    return [_answered(served, name, i, answer) for (name, i), answer in zip(rows, answers, strict=True)]


def _answered(served: Served, name: str, i: int, answer: Any) -> dict[str, Any]:
    task, example = served.tasks[name], served.tasks[name].test[i]
    prediction = served.predictions(name, answer[None])[0].item()
    text = " | ".join(filter(None, map(_shown, example.inputs.values())))
    names = [task.classes[int(value)] if task.classes else f"{value:.2f}" for value in (prediction, example.label)]
    return {"task": name, "text": text, "prediction": names[0], "label": names[1]}


def _shown(value: Any) -> str:
    """A text, or the size of an image (height, width, 3)."""
    return value if isinstance(value, str) else f"image, {value.shape[1]} × {value.shape[0]} pixels"


def _tasks(results: dict[str, Any]) -> Table:
    shown = Table(title="each task's test split, answered by its adapter", title_justify="left")
    for heading in ("task", "metric", "recorded", "alone", *WAYS, "same predictions", "adapter"):
        shown.add_column(heading, justify="left" if heading in ("task", "metric") else "right")
    for name, row in results["tasks"].items():
        scores = [f"{row[way]:.4f}" for way in ("recorded", "alone", *WAYS)]
        same = f"{min(row[f'same.{way}'] for way in WAYS):,} of {row['examples']:,}"
        shown.add_row(name, row["metric"], *scores, same, _megabytes(results["bytes_on_disk"]["adapters"][name]))
    return shown


def _costs(results: dict[str, Any]) -> Table:
    disk, held, seconds, request = (results[key] for key in ("bytes_on_disk", "bytes_held", "seconds", "request"))
    shown = Table(title="what it costs", title_justify="left", show_header=False)
    full, base, adapters = sum(disk["full"].values()), disk["base"], sum(disk["adapters"].values())
    count = len(results["tasks"])
    shown.add_row("on disk", f"{count} full models {_megabytes(full)}; base and {count} adapters "
                  f"{_megabytes(base + adapters)}: {full / (base + adapters):.1f} times less")  # fmt: skip
    shown.add_row("in memory", f"base {_megabytes(held['base'])}, {count} adapters {_megabytes(held['adapters'])}, "
                  f"while one is merged {_megabytes(held['merged'])} more")  # fmt: skip
    shown.add_row("switch", f"{seconds['switch'] * 1e6:.2g} µs; merge {_milliseconds(seconds['merge'])}, "
                  f"unmerge {_milliseconds(seconds['unmerge'])}")  # fmt: skip
    disk_load = seconds["load from disk"]
    loads = [f"from the disk {_milliseconds(disk_load)}"] if disk_load is not None else []
    loads += [f"from the page cache {_milliseconds(seconds['load from page cache'])}"]
    shown.add_row("instead, a full checkpoint", ", ".join(loads))
    for name, value in request["seconds"].items():
        peak = _megabytes(request["peak_bytes"][name])
        shown.add_row(f"{request['rows']} rows, {name}", f"{_milliseconds(value)}, {peak} at the peak")
    return shown


def _rows(rows: list[dict[str, Any]]) -> Table:
    shown = Table(title="one batch, rows of all tasks", title_justify="left")
    for heading in ("task", "text", "prediction", "label"):
        shown.add_column(heading)
    for row in rows:
        text = row["text"] if len(row["text"]) <= TEXT else cut(row["text"], TEXT - 1) + "…"
        shown.add_row(*(escape(cell) for cell in (row["task"], text, row["prediction"], row["label"])))
    return shown


def _verdict(results: dict[str, Any]) -> str:
    exchanges, rows = results["exchanges"], results["tasks"].values()
    worst = max(row["difference"] for row in rows)
    base = f"the base's hash is {'unchanged' if results['base_unchanged'] else 'CHANGED'}"
    return (
        f"{'Equal' if results['equal'] else 'NOT EQUAL'}: outputs differ by at most {worst:.1g} of the largest, after "
        f"{exchanges['count']:,} random exchanges, merges and unmerges by {exchanges['difference']:.1g}; {base}."
    )


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
