"""r90, k90 and d90 of every task, with what is trained at each, beside the published d90: the smallest rank of LoRA,
number of directions of the full update, and dimension of a random subspace that keep 90 % of what fine-tuning brings.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from lorax_lab.record.share import MOST
from lorax_lab.study.protocol import DIMENSION

from . import share, update
from .comparison import seeds_of
from .records import Records

PUBLISHED = Path(__file__).with_name("aghajanyan_2020.csv")
"""d90 of Aghajanyan et al. 2020, table 1: of the score itself, by SAID and by DID."""
NAMES = {"rank": "r90", "k": "k90", "dimension": "d90"}
LEAST_RANKS = 3
"""Of fewer a page does not show the smallest rank that is enough."""


def rows(records: Records) -> list[dict[str, Any]]:
    """One row per task that has a share: `r90`, `k90` and `d90`, each an `Enough` or None where no size was tried.
    Beside each stand the numbers trained there (`r90_parameters`; of k90 those of the two factors) and the mean share
    that each size keeps (`r90_shares`). `has_ranks` tells whether at least `LEAST_RANKS` ranks were tried.

    `d90_of_full` is Aghajanyan et al.'s own d90, and `d90_share` what d90 trains of what full fine-tuning does. `lost`
    names the sizes of which a run diverged, which keep no share. `reference` is the arm that is the 1. Where that is
    not full fine-tuning, `against_full` is the row with it instead.
    """
    made = _rows(records, share.table(records))
    beaten = [row for row in made if row["reference"] != records.protocol.reference]
    of_full = _rows(records, share.table(records, of_full=True)) if beaten else []
    for row in beaten:
        row["against_full"] = next((full for full in of_full if full["task"] == row["task"]), None)
    return made


def _rows(records: Records, shares: pd.DataFrame | None) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for task, of_task in shares.groupby("task", sort=False) if shares is not None else ():
        first = of_task.iloc[0]
        row = {"task": str(task), "reference": first.get("reference", records.protocol.reference)}
        row |= {"full": first["full"], "zero": first["zero"], "against_full": None}
        diverged = of_task[of_task["side"].isin(NAMES) & (of_task["seeds"] == 0)]
        row["lost"] = [f"{side} {size}" for side, size in zip(diverged["side"], diverged["size"], strict=True)]
        for side, name in NAMES.items():
            of_side = of_task[of_task["side"] == side]
            row[name] = share.enough(of_side, MOST) if len(of_side) else None
            row[f"{name}_shares"] = dict(zip(of_side["size"], of_side["share"], strict=True))
            row[f"{name}_parameters"] = _parameters(records, str(task), side, row[name].mean) if row[name] else None
        row["has_ranks"] = len(row["r90_shares"]) >= LEAST_RANKS
        row["d90_of_full"] = share.enough_of_full(of_task[of_task["side"] == "dimension"], MOST)
        trained = int(update.lines_of(records, str(task))[0]["parameters"]["adapter"])
        row["d90_share"] = row["d90_parameters"] / trained if row["d90_parameters"] else None
        made.append(row)
    return made


def _parameters(records: Records, task: str, side: str, size: int | None) -> int | None:
    """The numbers that an arm of that size trains, the head not counted; of k directions those of their factors."""
    if size is None:
        return None
    if side == "k":
        shapes = [row["shape"] for row in update.lines_of(records, task)[0]["matrices"].values()]
        return sum(min(size * (out + into), out * into) for out, into in shapes)
    arm = next(arm for arm in records.protocol.ranked(share.KEYS[side]) if arm.size(share.KEYS[side]) == size)
    return int(next(iter(seeds_of(records, task, arm.name).values()))["parameters"]["adapter"])


def published() -> list[dict[str, Any]]:
    """Aghajanyan et al.'s d90: by task, the least and the greatest of four models, by SAID and by DID."""
    by_task = pd.read_csv(PUBLISHED).groupby("task")[["said", "did"]].agg(["min", "max"])
    return [{"task": task, "said": list(row["said"]), "did": list(row["did"])} for task, row in by_task.iterrows()]


def table(records: Records) -> pd.DataFrame | None:
    """The CSV: one row per task, with the ends of each interval, and below them one per published d90. None where a
    study has no subspaces."""
    if not records.protocol.ranked(DIMENSION) or not (made := rows(records)):
        return None
    flat = []
    for row in made:
        values = {key: row[key] for key in ("task", "reference")}
        for name in NAMES.values():
            ends = vars(row[name]) if row[name] else dict.fromkeys(("low", "mean", "surely"))
            values |= {name: ends["mean"], f"{name}_low": ends["low"], f"{name}_high": ends["surely"]}
            values |= {f"{name}_parameters": row[f"{name}_parameters"]}
        flat.append(values | {"d90_of_full": row["d90_of_full"]})
    counts = pd.DataFrame(flat).assign(published_said=None, published_did=None)
    of_paper = pd.read_csv(PUBLISHED).rename(columns={"said": "published_said", "did": "published_did"})
    of_paper = of_paper.assign(task=of_paper["task"] + ", " + of_paper["model"]).drop(columns="model")
    both = pd.concat([counts.astype(object), of_paper.astype(object)], ignore_index=True)
    return both.astype(dict.fromkeys(both.columns.difference(["task", "reference"]), "Int64"))
