"""What one answer for every input scores: the line below which a score says nothing.

Of an accuracy it is the share of the most frequent class. Published lines do not have the labels, so it stands in
`constants.csv`, which `python -m experiments.constants STUDY` reads from the data. A condition whose data are not in
that file has the score of a guess, 1 / classes, and is said to; a correlation has 0.
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..constant import ANSWER, CONSTANT, CORRELATIONS, IS, MAJORITY, guess
from .records import Records

if TYPE_CHECKING:
    import pandas as pd

FILE = Path(__file__).with_name("constants.csv")
COLUMNS = ("study", "condition", "data_sha256", "split", "examples", "metric", "constant")


def read() -> pd.DataFrame:
    """The file's rows; none where it is not there."""
    import pandas as pd

    text = FILE.read_text(encoding="utf-8") if FILE.is_file() else ",".join(COLUMNS) + "\n"
    return pd.read_csv(io.StringIO(text), dtype={"condition": str, "study": str}, keep_default_na=False)


@lru_cache(maxsize=1)
def _known() -> dict[tuple[object, ...], float]:
    rows = read().to_dict("records")
    return {tuple(row[column] for column in COLUMNS[:-1]): float(row[CONSTANT]) for row in rows}


def constant(records: Records, task: str, split: str) -> tuple[float, str] | None:
    """The score of one answer for every input on a split, and what answer that is; None where neither is known."""
    line = next((line for line in records.lines_in(task, "final") if line.get("inputs")), None)
    if line is None:
        return None
    metric, inputs = line["metric"], line["inputs"]
    place = (records.name, task, inputs["data_sha256"], split, inputs["examples"].get(split), metric)
    score = _known().get(place)
    if metric in CORRELATIONS:
        return 0.0, ANSWER
    if score is not None and not records.scored_on(task, ""):
        return score, MAJORITY if metric == "accuracy" else ANSWER
    return guess(metric, len(inputs["classes"]))


def with_constants(records: Records, table: pd.DataFrame, split: str) -> pd.DataFrame:
    """A figure's table with the columns `CONSTANT` and `IS`, where a condition has them."""
    constants = {task: constant(records, task, split) for task in records.conditions}
    pairs = {task: pair for task, pair in constants.items() if pair}
    if not pairs:
        return table
    score, name = ({task: pair[i] for task, pair in pairs.items()} for i in (0, 1))
    return table.assign(**{CONSTANT: table["task"].map(score), IS: table["task"].map(name)})
