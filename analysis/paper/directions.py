"""Figures 3, 4, 6, 7 and 8: which directions updates share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ..study.records import Records
from ..study.similarities import MODULES, NAME
from ..study.statistics import Interval, t_interval
from .reading import Reading, above, below, of_every_two, within, written

FACTOR, START, ROW, COLUMN = "A", "A at the start", "row", "column"
"""Sides of an update, as `lorax_lab.afterwards.similarities` names them."""
RANKS, SEEDS, OF_FULL = "r=8 and r=64", "two seeds of r=64", "two seeds of full"
QUERY, VALUE = MODULES
MOST, LITTLE, BARELY = 0.5, 0.05, 0.2
"""Above which φ of the top direction is what the paper found; within which of chance φ counts as nothing shared; and
what the paper's Figure 8 barely exceeds."""
TOP_OF_W, TOP = 40, 4
"""The top 10 % of W's directions, of 384 the nearest number that is kept, and the top directions of its update."""


def phi(records: Records, task: str, pair: str, side: str, at: tuple[int, int], module: str) -> np.ndarray:
    """φ(i, j) of each pair of runs and matrix, (matrices, pairs); (0, 0) where it is not kept."""
    key = f"{at[0]},{at[1]}"
    rows = [row["each"].get(key, []) for row in _rows(records, task, pair, side) if row["module"] == module]
    return np.array(rows) if rows and rows[0] else np.empty((0, 0))


def top_direction(records: Records) -> Iterator[Reading]:
    """Claim of Figure 3: the top direction of A is the same at rank 8 and at rank 64."""
    for task, module, name in _matrices(records):
        values = phi(records, task, RANKS, FACTOR, (1, 1), module)
        start = phi(records, task, RANKS, START, (1, 1), module)
        if values.size:
            shared = int((values.mean(1) > MOST).sum())
            found = t_interval(values.mean(0).tolist())
            text = f"φ(1, 1) = {written(found)}; above {MOST:g} in {shared} of {len(values)} matrices"
            beside = f"{start.mean():.3f} before training, chance {1 / _size(records, task):.3f}"
            yield Reading(task, name, text, beside, above(found, MOST))


def other_directions(records: Records) -> Iterator[Reading]:
    """Claim of Figure 3: the other directions of A are not shared."""
    for task, module, name in _matrices(records):
        values = phi(records, task, RANKS, FACTOR, (8, 64), module)
        if values.size:
            chance = 64 / _size(records, task)
            found = t_interval((values.mean(0) - chance).tolist())
            whole = [phi(records, task, RANKS, side, (8, 64), module).mean() - chance for side in (ROW, COLUMN)]
            text = f"φ(8, 64) − chance = {written(found)}"
            beside = f"of the product B A: {whole[0]:+.3f} (rows), {whole[1]:+.3f} (columns)"
            yield Reading(task, name, text, beside, within(found, -LITTLE, LITTLE))


def more_of_the_query(records: Records) -> Iterator[Reading]:
    """Claim of Figure 4: two seeds have more directions of the query's update in common than of the value's."""
    at = (64, 64)
    for task in records.conditions:
        query, value = (phi(records, task, SEEDS, FACTOR, at, module) for module in MODULES)
        if query.size and value.size:
            found = _seeds(records, query.mean(0) - value.mean(0))
            start = [phi(records, task, SEEDS, START, at, module).mean() for module in MODULES]
            full = [phi(records, task, OF_FULL, ROW, at, module).mean() for module in MODULES]
            text = f"φ(64, 64) of {query.mean():.3f} − {value.mean():.3f} = {written(found)}"
            beside = f"{start[0] - start[1]:+.3f} before training; rows of the full update {full[0] - full[1]:+.3f}"
            yield Reading(task, "query − value", text, beside, above(found, 0.0))


def more_than_chance(records: Records) -> Iterator[Reading]:
    """Claim of Figure 4: two seeds have more in common than two Gaussian matrices."""
    at = (64, 64)
    for task, module, name in _matrices(records):
        values = phi(records, task, SEEDS, FACTOR, at, module)
        if values.size:
            chance = 64 / _size(records, task)
            found = _seeds(records, values.mean(0) - chance)
            start = phi(records, task, SEEDS, START, at, module).mean() - chance
            full = [phi(records, task, OF_FULL, side, at, module).mean() - chance for side in (ROW, COLUMN)]
            text = f"φ(64, 64) − chance = {written(found)}"
            beside = f"{start:+.3f} before training; full update {full[0]:+.3f} (rows), {full[1]:+.3f} (columns)"
            yield Reading(task, name, text, beside, above(found, 0.0))


def directions_of_the_base(records: Records) -> Iterator[Reading]:
    """Claim of Figure 8: the update's top directions are not those of W."""
    at = (TOP_OF_W, TOP)
    for task in records.conditions:
        for side in (ROW, COLUMN):
            values = phi(records, task, "W and r=64", side, at, QUERY)
            if values.size:
                found, full = t_interval(values.mean(0).tolist()), phi(records, task, "W and full", side, at, QUERY)
                text = f"φ({TOP_OF_W}, {TOP}) = {written(found)}"
                beside = f"chance {TOP_OF_W / _size(records, task):.3f}; full update {full.mean():.3f}"
                yield Reading(task, f"query, {side}s", text, beside, below(found, BARELY))


def _rows(records: Records, task: str, pair: str, side: str) -> list[dict]:
    rows: Iterable[dict] = records.rows.get(NAME, ())
    return [row for row in rows if (row["condition"], row["pair"], row["side"]) == (task, pair, side)]


def _size(records: Records, task: str) -> int:
    """d of the query's input, 384 in MiniLM."""
    return int(next(row["d"] for row in records.rows[NAME] if (row["condition"], row["module"]) == (task, QUERY)))


def _matrices(records: Records) -> Iterator[tuple[str, str, str]]:
    for task in records.conditions:
        for module, name in MODULES.items():
            yield task, module, name


def _seeds(records: Records, values: np.ndarray) -> Interval:
    return of_every_two(values.tolist(), len(records.protocol.final_seeds))
