"""An audit's findings: its numbers in one dict, the table by module type, and what is printed and written of them.

The words stand in `templates/`. `render` fills a template; in HTML and Markdown the texts of others are escaped.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from lorax_lab.audit.measure import DRAWN
from lorax_lab.audit.store import Measured, by_module
from lorax_lab.audit.updates import Updates
from lorax_lab.console import WIDTH, Console, console
from lorax_lab.record.files import write_csv, write_text, write_whole
from lorax_lab.spectra import MEASURES, NULLS, Row, noise_misfit, tells_spikes

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

SHARES = (0.5, 0.9, 0.99)
SHOWN = 10
"""How many notes of one kind are printed; the report has all."""
NOT_TOLD = "not told"
SIGNS = re.compile(r"([\\`*_<\[\]!])")
"""Signs that mean something in Markdown."""


@cache
def environment() -> Environment:
    """Templates of Jinja2, escaped as HTML where they end in `.html.j2`; `md` escapes for Markdown, `form` formats."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    made = Environment(
        loader=PackageLoader("lorax_lab.audit"), autoescape=select_autoescape(["html.j2"]), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    made.filters["form"] = lambda value, spec="": "–" if value is None else format(value, spec)
    made.filters["md"] = lambda text: SIGNS.sub(r"\\\1", " ".join(str(text).split()))
    return made


def render(template: str, facts: Mapping[str, Any]) -> str:
    """A page of these facts."""
    return environment().get_template(template).render(**facts)


def paragraphs(template: str, facts: Mapping[str, Any]) -> list[str]:
    """The sentences of a template whose paragraphs are apart by an empty line, each on one line."""
    return [" ".join(part.split()) for part in render(template, facts).split("\n\n") if part.strip()]


# ---- numbers


def number(value: float | None) -> float:
    """NaN for what was not measured."""
    return math.nan if value is None else float(value)


def median(values: Sequence[float]) -> float:
    """The median of those that are no NaN; NaN where all are."""
    measured = [value for value in values if not math.isnan(value)]
    return float(np.median(measured)) if measured else math.nan


def median_of(rows: Sequence[Row], key: str) -> float | None:
    """The median of a column where it is known, None where it nowhere is."""
    value = median([number(row.get(key)) for row in rows])
    return None if math.isnan(value) else value


def uniform_ranks(measured: Sequence[Measured]) -> dict[float, int | None]:
    """For each share, the smallest rank r such that the best rank-r updates of all matrices hold it of Σ‖ΔW‖²_F.

    Eckart & Young 1936, matrix by matrix. None where only the top of each spectrum is known and does not hold it.
    """
    longest = max((len(m.sigma) for m in measured), default=0)
    held, total = np.zeros(longest), 0.0
    for m in measured:
        energy = np.square(m.sigma)
        held += np.pad(np.cumsum(energy), (0, longest - len(energy)), mode="edge") if len(energy) else 0.0
        total += m.row["frobenius_norm"] ** 2
    ranks: dict[float, int | None] = {}
    for share in SHARES:
        enough = np.flatnonzero(held >= share * total * (1 - 1e-9))
        ranks[share] = int(enough[0]) + 1 if total and len(enough) else None
    return ranks


def spikes_told(row: Row) -> Row:
    """Columns that say whether a dense update's `spikes` are directions above noise: `spikes_told`, NaN where they are
    not, and then `spikes_not_told`, why."""
    if "spikes" not in row:
        return {}
    shape, misfit = (row["out"], row["in"]), number(row.get("bulk_misfit"))
    if tells_spikes(misfit, number(row.get("noise_std")), shape):
        return {"spikes_told": row["spikes"]}
    iid = noise_misfit(shape)
    reason = f"the bulk is not that of iid noise: misfit {misfit:.2g}, iid noise has {iid:.2g}"
    return {"spikes_told": math.nan, "spikes_not_told": "no bulk was measured" if math.isnan(misfit) else reason}


def least_null(row: Row) -> float:
    """The lowest effective rank of the nulls that keep an update's structure; NaN where they were not drawn."""
    drawn = [number(row.get(f"nulls.{name}.effective_rank")) for name in NULLS]
    return math.nan if any(map(math.isnan, drawn)) else min(drawn)


def facts_of(measured: Sequence[Measured]) -> dict[str, Any]:
    """Every number of `findings.md.j2`."""
    moved = [m for m in measured if m.row["frobenius_norm"] > 0]
    rows = [m.row for m in moved]
    dense = [row for row in rows if "rank" not in row]
    facts: dict[str, Any] = {
        "matrices": len(measured),
        "weights": sum(m.row["out"] * m.row["in"] for m in measured),
        "still": len(measured) - len(moved),
        "moved": bool(moved),
        "relative_norm": median_of(rows, "relative_norm"),
        "effective_rank": median_of(rows, "effective_rank"),
        "null_effective_rank": median_of(rows, "null.effective_rank"),
        "factors": sorted({int(row["rank"]) for row in rows if "rank" in row}),
        "noise": _beside_noise([row for row in rows if "spikes" in row]),
        "uniform": {f"{share:.0%}": rank for share, rank in uniform_ranks(moved).items()},
        "values": max((len(m.sigma) for m in moved), default=0),
        "null_ninety": median_of(dense, "null.energy_rank_90"),
        "sides": float(np.median([min(row["out"], row["in"]) for row in dense])) if dense else None,
    }
    return facts | {"storage": _storage([row for row in rows if row["kind"] == "pair"])}


def _beside_noise(dense: Sequence[Row]) -> dict[str, Any] | None:
    """The ranks of dense updates beside those of noise, and how many directions stand above it where that is told."""
    if not dense:
        return None
    counted = [row for row in dense if "spikes_not_told" not in spikes_told(row)]
    untold = [row for row in dense if "spikes_not_told" in spikes_told(row)]
    counts = sorted(int(row["spikes"]) for row in counted)
    held = sum(row["spike_energy"] * row["frobenius_norm"] ** 2 for row in counted)
    misfits = [misfit for row in untold if not math.isnan(misfit := number(row.get("bulk_misfit")))]
    return {
        "effective_rank": median_of(dense, "effective_rank"),
        "iid": median_of(dense, "null.effective_rank"),
        "drawn": {name: median_of(dense, f"nulls.{name}.effective_rank") for name in NULLS},
        "matrices": len(dense),
        "counts": counts,
        "median_count": float(np.median(counts)) if counts else None,
        "share": held / sum(row["frobenius_norm"] ** 2 for row in counted) if counted else None,
        "untold": len(untold),
        "misfit": max(misfits, default=None),
        "iid_misfit": max((noise_misfit((row["out"], row["in"])) for row in untold), default=None),
    }


def _storage(pairs: Sequence[Row]) -> dict[str, Any] | None:
    """What the rounding of stored weights makes of ΔW, and in how many matrices it decides each measure."""
    if not pairs:
        return None
    rounded = sum(row["rounding_share"] * row["frobenius_norm"] ** 2 for row in pairs)
    return {
        "dtypes": sorted({f"{row['base_dtype']} → {row['tuned_dtype']}" for row in pairs}),
        "share": rounded / sum(row["frobenius_norm"] ** 2 for row in pairs),
        "flagged": Counter(name for row in pairs for name in str(row.get("untrusted") or "").split()),
        "pairs": len(pairs),
    }


# ---- the table


def table(measured: Sequence[Measured]) -> Table:
    """One line per module type: medians over its matrices, and how many measures rounding decides in any of them."""
    title = "by module type: medians over its matrices"
    shown = Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    shown.add_column("module", overflow="fold", min_width=28)
    columns = ("n", "‖ΔW‖/‖W‖", "effective/noise", "null", "stable", "spikes", *(f"{share:.0%}" for share in SHARES))
    for heading in (*columns, "flagged"):
        shown.add_column(heading, justify="right")
    for module, members in by_module(measured).items():
        shown.add_row(module, *_cells([m.row for m in members]))
    shown.caption = " ".join(render("table.md.j2", {"measures": len(MEASURES)}).split())
    return shown


def _cells(rows: Sequence[Row]) -> list[str]:
    flags = {name for row in rows for name in str(row.get("untrusted") or "").split()}
    untold = any("spikes_not_told" in spikes_told(row) for row in rows)
    return [
        str(len(rows)),
        _cell(rows, "relative_norm", ".2g"),
        f"{_cell(rows, 'effective_rank')} / {_cell(rows, 'null.effective_rank')}",
        _cell([{"least": least_null(row)} for row in rows], "least"),
        _cell(rows, "stable_rank"),
        NOT_TOLD if untold else _cell(rows, "spikes", ",.0f"),
        *(_cell(rows, f"energy_rank_{round(100 * share)}", ",.0f") for share in SHARES),
        str(len(flags)),
    ]


def _cell(rows: Sequence[Row], key: str, form: str = "") -> str:
    median = median_of(rows, key)
    return "–" if median is None else format(median, form or (",.0f" if median >= 100 else ".1f"))


# ---- what is printed and written


def say(text: str, **look: Any) -> None:
    """Print a text of others as it is, on one line."""
    console.print(text, soft_wrap=True, markup=False, **look)


def introduce(updates: Updates, folder: Path, page: str = "report.md") -> None:
    """Print what is measured, and a note on each tensor that is not measured or has another name; `page` has all."""
    say(f"{updates.title}: {len(updates.matrices)} matrices, into {folder}")
    for kind, notes in itertools.groupby(updates.notes, key=lambda note: note.kind):
        members = list(notes)
        for note in members[:SHOWN]:
            say(f"  {note.kind}: {note.name}: {note.detail}")
        if len(members) > SHOWN:
            say(f"  {kind}: and {len(members) - SHOWN} more, all in {page}")


def close(updates: Updates, measured: Mapping[str, Measured], failures: Sequence[str], folder: Path) -> None:
    """Print the table and the findings; write `audit.csv`, `audit.parquet` and `report.md`."""
    for failure in failures:
        say(f"not measured: {failure}", style="red")
    if not measured:
        return
    matrices = list(measured.values())
    rows = frame(matrices)
    write_csv(folder / "audit.csv", rows)
    write_whole(folder / "audit.parquet", lambda scratch: rows.to_parquet(scratch, index=False))
    console.print(table(matrices))
    sentences = paragraphs("findings.md.j2", facts_of(matrices))
    for sentence in sentences:
        console.print(sentence, markup=False)
    page = io.StringIO()
    Console(width=WIDTH, file=page, color_system=None).print(table(matrices))
    notes, text = {"notes": updates.notes, "failures": failures}, page.getvalue().rstrip()
    report = {"title": updates.title, "sentences": sentences, "table": text} | notes
    write_text(folder / "report.md", render("report.md.j2", report))
    say(f"in {folder}: audit.csv, audit.parquet, report.md")
    say(f"for the figures type: python -m analysis audit {folder}")


def extracted(ranks: Mapping[str, int], left: Sequence[str], folder: Path) -> None:
    """Print what the extracted adapter holds and what it leaves out."""
    low, high = min(ranks.values()), max(ranks.values())
    rank = f"rank {low}" if low == high else f"ranks {low} to {high}"
    say(f"{folder}: a PEFT adapter on {len(ranks)} matrices, {rank}")
    for name in left:
        say(f"  left out, an embedding or an output layer: {name}")


def frame(measured: Sequence[Measured]) -> pd.DataFrame:
    """One row per matrix, in the order of the layers, and whether its spikes are told."""
    import pandas as pd

    rows = pd.DataFrame([m.row | spikes_told(m.row) for m in measured])
    return rows.drop(columns=["directions", DRAWN], errors="ignore")
