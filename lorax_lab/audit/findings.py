"""An audit's findings: its numbers in one dict, the table by module type, and what is printed and written of them.

The words stand in `templates/`; in Markdown the texts of others are escaped.
"""

import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.box import SIMPLE_HEAD
from rich.table import Table

from lorax_lab.audit.measure import DRAWN, Measured
from lorax_lab.audit.updates import Updates
from lorax_lab.console import WIDTH, Console, console, say
from lorax_lab.record.files import write_csv, write_text
from lorax_lab.spectra import MEASURES, NULLS, Row, noise_misfit, tells_spikes

SHARES = (0.5, 0.9, 0.99)
OPTIONAL = (
    *("rank", "relative_norm", "effective_rank", "stable_rank", "spikes", "spike_energy", "bulk_misfit", "untrusted"),
    *("spikes_told", "spikes_not_told", "rounding_share", "null.effective_rank", "null.energy_rank_90"),
    *(f"energy_rank_{round(100 * share)}" for share in SHARES),
    *(f"nulls.{name}.effective_rank" for name in NULLS),
)
"""Columns that not every audit has."""
SIGNS = re.compile(r"([\\`*_<\[\]!])")
"""Signs that mean something in Markdown."""


def render(template: str, facts: Mapping[str, Any]) -> str:
    """A page of these facts; in its template `md` escapes for Markdown, and `form` formats."""
    pages = Environment(
        loader=PackageLoader("lorax_lab.audit"), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    pages.filters["form"] = lambda value, spec="": "–" if value is None else format(value, spec)
    pages.filters["md"] = lambda text: SIGNS.sub(r"\\\1", " ".join(str(text).split()))
    return pages.get_template(template).render(**facts)


def sentences(template: str, facts: Mapping[str, Any]) -> list[str]:
    """The paragraphs of a page, each in one line."""
    return [" ".join(text.split()) for text in render(template, facts).split("\n\n") if text.strip()]


# ---- numbers


def frame(measured: Iterable[Measured]) -> pd.DataFrame:
    """One row per matrix, in the order of the layers: its measures, whether its spikes are told, and `sigma`."""
    rows = pd.DataFrame([m.row | spikes_told(m.row) for m in measured])
    sigmas: list[Any] = [m.sigma for m in measured]
    return rows.assign(sigma=sigmas)


def as_written(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `frame` as `audit.csv` has them."""
    return rows.drop(columns=["sigma", DRAWN], errors="ignore")


def complete(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `frame` with every column of `OPTIONAL`."""
    rows = rows.reindex(columns=list(dict.fromkeys([*rows, *OPTIONAL])))
    return rows.assign(untrusted=rows["untrusted"].fillna(""))


def spikes_told(row: Row) -> Row:
    """Columns that say whether a dense update's `spikes` are directions above noise: `spikes_told`, NaN where they are
    not, and then `spikes_not_told`, why."""
    if "spikes" not in row:
        return {}
    shape, misfit = (row["out"], row["in"]), row.get("bulk_misfit", math.nan)
    if tells_spikes(misfit, row["noise_std"], shape):
        return {"spikes_told": row["spikes"]}
    reason = f"the bulk is not that of iid noise: misfit {misfit:.2g}, iid noise has {noise_misfit(shape):.2g}"
    return {"spikes_told": math.nan, "spikes_not_told": reason}


def median_of(rows: pd.DataFrame, key: str) -> float | None:
    """The median of a column where it is known, None where it nowhere is."""
    median = float(rows[key].astype(float).median()) if key in rows else math.nan
    return None if math.isnan(median) else median


def energy_held(rows: pd.DataFrame) -> np.ndarray:
    """The energy in the top k directions of each matrix, (matrices, values of the longest spectrum)."""
    longest = max(map(len, rows["sigma"]), default=0)
    padded = [np.pad(sigma, (0, longest - len(sigma))) for sigma in rows["sigma"]]
    return np.square(np.reshape(padded, (len(rows), longest))).cumsum(axis=1)


def uniform_ranks(rows: pd.DataFrame) -> dict[str, int | None]:
    """For each share, the smallest rank r such that the best rank-r updates of all matrices hold it of Σ‖ΔW‖²_F.

    Eckart & Young 1936, matrix by matrix. None where nothing changed.
    """
    held = energy_held(rows).sum(axis=0)
    total = float((rows["frobenius_norm"] ** 2).sum())
    enough = {share: np.flatnonzero(held >= share * total * (1 - 1e-9)) for share in SHARES}
    return {f"{share:.0%}": int(at[0]) + 1 if total and len(at) else None for share, at in enough.items()}


def facts_of(rows: pd.DataFrame) -> dict[str, Any]:
    """Every number of `findings.md.j2`, from `complete` rows."""
    moved = rows[rows["frobenius_norm"] > 0]
    dense = moved[moved["rank"].isna()]
    return {
        "matrices": len(rows),
        "weights": int((rows["out"] * rows["in"]).sum()),
        "still": len(rows) - len(moved),
        "moved": len(moved) > 0,
        "relative_norm": median_of(moved, "relative_norm"),
        "effective_rank": median_of(moved, "effective_rank"),
        "null_effective_rank": median_of(moved, "null.effective_rank"),
        "factors": sorted({int(rank) for rank in moved["rank"].dropna()}),
        "noise": _beside_noise(moved[moved["spikes"].notna()]),
        "uniform": uniform_ranks(moved),
        "null_ninety": median_of(dense, "null.energy_rank_90"),
        "sides": float(dense[["out", "in"]].min(axis=1).median()) if len(dense) else None,
        "storage": _storage(moved[moved["kind"] == "pair"]),
    }


def _beside_noise(dense: pd.DataFrame) -> dict[str, Any] | None:
    """The ranks of dense updates beside those of noise, and how many directions stand above it where that is told."""
    if dense.empty:
        return None
    is_told = dense["spikes_not_told"].isna()
    told, untold = dense[is_told], dense[~is_told]
    energy, misfit = told["frobenius_norm"] ** 2, untold["bulk_misfit"].max()
    shapes = zip(untold["out"], untold["in"], strict=True)
    return {
        "effective_rank": median_of(dense, "effective_rank"),
        "iid": median_of(dense, "null.effective_rank"),
        "drawn": {name: median_of(dense, f"nulls.{name}.effective_rank") for name in NULLS},
        "matrices": len(dense),
        "counts": sorted(told["spikes"].astype(int)),
        "median_count": median_of(told, "spikes"),
        "share": float((told["spike_energy"] * energy).sum() / energy.sum()) if len(told) else None,
        "untold": len(untold),
        "misfit": None if math.isnan(misfit) else misfit,
        "iid_misfit": max(map(noise_misfit, shapes), default=None),
    }


def _storage(pairs: pd.DataFrame) -> dict[str, Any] | None:
    """What the rounding of stored weights makes of ΔW, and in how many matrices it decides each measure."""
    if pairs.empty:
        return None
    energy = pairs["frobenius_norm"] ** 2
    return {
        "dtypes": sorted(set(pairs["base_dtype"] + " → " + pairs["tuned_dtype"])),
        "share": float((pairs["rounding_share"] * energy).sum() / energy.sum()),
        "flagged": Counter(" ".join(pairs["untrusted"]).split()),
        "pairs": len(pairs),
    }


# ---- the table


def table(rows: pd.DataFrame) -> Table:
    """One line per module type: medians over its matrices, and how many measures rounding decides in any of them."""
    caption = " ".join(render("table.md.j2", {"measures": len(MEASURES)}).split())
    shown = Table(title="by module type: medians over its matrices", caption=caption, box=SIMPLE_HEAD)
    shown.title_justify = shown.caption_justify = "left"
    shown.add_column("module", overflow="fold", min_width=28)
    columns = ("n", "‖ΔW‖/‖W‖", "effective/noise", "null", "stable", "spikes", *(f"{share:.0%}" for share in SHARES))
    for heading in (*columns, "flagged"):
        shown.add_column(heading, justify="right")
    # the lowest effective rank of the nulls that keep an update's structure, where all were drawn
    least = rows[[f"nulls.{name}.effective_rank" for name in NULLS]].astype(float).min(axis=1, skipna=False)
    for module, members in rows.assign(least=least).groupby("module", sort=False):
        shown.add_row(
            str(module),
            str(len(members)),
            _cell(members, "relative_norm", ".2g"),
            f"{_cell(members, 'effective_rank')} / {_cell(members, 'null.effective_rank')}",
            _cell(members, "least"),
            _cell(members, "stable_rank"),
            "not told" if members["spikes_not_told"].notna().any() else _cell(members, "spikes", ",.0f"),
            *(_cell(members, f"energy_rank_{round(100 * share)}", ",.0f") for share in SHARES),
            str(len(set(" ".join(members.loc[members["frobenius_norm"] > 0, "untrusted"]).split()) & set(MEASURES))),
        )
    return shown


def _cell(rows: pd.DataFrame, key: str, form: str = "") -> str:
    median = median_of(rows, key)
    return "–" if median is None else format(median, form or (",.0f" if median >= 100 else ".1f"))


# ---- what is printed and written


def close(updates: Updates, measured: Mapping[str, Measured], failures: Sequence[str], folder: Path) -> None:
    """Print the table and the findings; write `audit.csv` and `report.md`."""
    if not measured:
        return
    rows = frame(measured.values())
    write_csv(folder / "audit.csv", as_written(rows))
    rows = complete(rows)
    console.print(table(rows))
    lines = sentences("findings.md.j2", facts_of(rows))
    for line in lines:
        console.print(line, markup=False)
    page = io.StringIO()
    Console(width=WIDTH, file=page, color_system=None).print(table(rows))
    report = {"title": updates.title, "sentences": lines, "table": page.getvalue().rstrip()}
    write_text(folder / "report.md", render("report.md.j2", report | {"notes": updates.notes, "failures": failures}))
    say(f"in {folder}: audit.csv, report.md")
    say(f"for the figures type: python -m analysis audit {folder}")
