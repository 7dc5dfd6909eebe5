"""The columns of a grid: their names, and how a user's own names become these."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from lorax_lab.errors import ConfigError, suggest

NEEDED = ("method", "rank", "learning_rate", "score")
OPTIONAL = {
    "seed": "each cell counts as one run",
    "split": "which examples the scores are of is not known",
    "stage": "runs that chose a rate and runs that score it are not told apart",
    "model": "all rows count as one model's",
    "task": "all rows count as one task's",
    "metric": "all scores count as one metric's",
}
"""Columns that may lack, and what then holds."""
COLUMNS = (*NEEDED, *OPTIONAL)
MEANT = {
    "learning_rate": ("lr", "learning rate", "learningrate", "rate", "eta", "step_size"),
    "rank": ("r", "lora_r", "lora_rank", "lora r"),
    "score": ("score", "loss", "log_loss", "accuracy", "acc", "f1", "perplexity", "value", "result"),
    "seed": ("random_seed", "run", "repeat", "trial"),
    "model": ("base_model", "model_name", "base"),
    "task": ("dataset", "data", "benchmark"),
    "method": ("algorithm", "adapter", "peft"),
    "split": ("subset", "partition"),
}
"""Names that tables have for these columns."""
BUDGET = (
    *("epochs", "num_epochs", "train_epochs", "num_train_epochs"),
    *("steps", "num_steps", "max_steps", "train_steps", "training_steps"),
    *("batch_size", "train_batch_size", "per_device_train_batch_size", "effective_batch_size"),
    *("gradient_accumulation", "gradient_accumulation_steps", "grad_accum"),
    *("train_examples", "num_train_examples", "train_size"),
    *("tokens", "num_tokens", "train_tokens", "total_tokens"),
    *("max_length", "max_seq_length", "max_seq_len", "sequence_length", "seq_len"),
)
"""Columns that say how long a run trained, and on how much: arms are compared that trained alike."""
STEPS = ("step", "global_step", "epoch", "iteration", "iter", "checkpoint")
"""Columns that say at which point of its training a run was scored."""
SPLIT_WORDS = {"val", "valid", "validation", "dev", "eval", "test"}
LIKE = 0.75
"""How alike a name has to be to count as nearly right, from 0 to 1."""
Cells = Mapping[str, str]


def read_cells(path: Path, renamed: Mapping[str, str], values: Mapping[str, str]) -> tuple[dict[int, Cells], list[str]]:
    """The rows of a CSV file by our columns, each by the number of its line, and the names of the columns that are not
    read.

    Args:
        renamed: the file's own name of one of our columns, by ours.
        values: of columns that the file lacks, the same in every row.

    Raises:
        ConfigError: no file, not a table, or its columns are not ours.
    """
    header, lines = _lines(path)
    names = _named(header, renamed, values)
    unread = [name for name in names if name not in COLUMNS and name.lower() not in BUDGET]
    if not lines:
        raise ConfigError(f"{path} has a header and no rows; a grid has one row per run")
    return {number: {**dict(zip(names, line, strict=True)), **values} for number, line in lines.items()}, unread


def _lines(path: Path) -> tuple[list[str], dict[int, list[str]]]:
    """The header, and the other lines by their numbers: cells without spaces around them. Blank lines are none.

    Raises:
        ConfigError: no file, or not a table.
    """
    if not path.is_file():
        raise ConfigError(f"there is no file {path}; name a table, as in: python -m analysis grid TABLE.csv --higher")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            every = [(reader.line_num, line) for line in reader if any(map(str.strip, line))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} is not a table: {error}; a grid is a CSV file in UTF-8, with commas") from None
    if not every:
        raise ConfigError(f"{path} is empty; a grid has a header with {', '.join(NEEDED)}, and one row per run")
    first = every[0][1]
    if len(first) == 1 and (sign := next((sign for sign in ";\t" if sign in first[0]), None)):
        raise ConfigError(f"{path} has its columns apart by {sign!r}; a grid is a CSV file with commas")
    (_, header), *rest = [(number, [" ".join(cell.split()) for cell in line]) for number, line in every]
    for number, line in rest:
        if len(line) != len(header):
            raise ConfigError(f"{path} is not a table: row {number} has {len(line)} cells, the header {len(header)}")
        if hidden := next((cell for cell in line if not cell.isprintable()), None):
            raise ConfigError(f"row {number}: {hidden!a} has signs that do not print; write it without them")
    return header, dict(rest)


def _named(header: list[str], renamed: Mapping[str, str], values: Mapping[str, str]) -> list[str]:
    """The header with our names in the place of the user's.

    Raises:
        ConfigError: a name is there twice, nearly right or lacking, or an option names a column that is not there.
    """
    for ours, theirs in renamed.items():
        if ours not in COLUMNS:
            raise ConfigError(
                f"--column {ours}={theirs}: there is no column {ours} in a grid; {suggest(ours, COLUMNS)}"
            )
        if ours == "seed" and theirs.lower() in STEPS + BUDGET:
            raise ConfigError(
                f"--column {ours}={theirs}: steps of one run are no seeds; keep the last row of each run, and leave "
                "the option out"
            )
        if theirs not in header:
            raise ConfigError(f"--column {ours}={theirs}: the table has no column {theirs}; {suggest(theirs, header)}")
    of_theirs = {theirs: ours for ours, theirs in renamed.items()}
    names = [of_theirs.get(name, name) for name in header]
    for ours in values:
        if ours not in COLUMNS:
            raise ConfigError(f"--value {ours}: there is no column {ours} in a grid; {suggest(ours, COLUMNS)}")
        if ours in names:
            raise ConfigError(f"--value {ours}={values[ours]}: the table has a column {ours}; leave the option out")
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ConfigError(f"the table has the column {twice[0]} {names.count(twice[0])} times; keep one of them")
    lacking = [name for name in COLUMNS if name not in names and name not in values]
    scores = [name for name in names if name not in COLUMNS and _is_score(name)] if "score" in lacking else []
    if len(scores) > 1:
        tested = next((name for name in scores if "test" in name.lower()), scores[0])
        of_split = _split_too(tested, lacking)
        raise ConfigError(
            f"the columns {', '.join(scores)} could each be the score, and one is read: type --column score={tested}"
            f"{of_split}, or name another of them"
        )
    for theirs in names:
        meant = None if theirs in COLUMNS else _nearly(theirs, lacking)
        if meant:
            of_split = _split_too(theirs, lacking) if meant == "score" else ""
            raise ConfigError(
                f"the table has a column {theirs}: rename it, or type --column {meant}={theirs}{of_split}"
            )
    if needed := [name for name in NEEDED if name in lacking]:
        raise ConfigError(f"the table has no column {needed[0]}; needed are {', '.join(NEEDED)}, {_hint(needed[0])}")
    return names


def _nearly(theirs: str, lacking: list[str]) -> str | None:
    """Which of the columns that lack is meant by a name, if any."""
    name = theirs.lower()
    if name in STEPS + BUDGET:
        return None
    meant = [ours for ours in lacking if name in MEANT.get(ours, ()) or name == ours]
    meant += ["score"] if "score" in lacking and _is_score(name) else []
    return next(iter([*meant, *get_close_matches(name, lacking, n=1, cutoff=LIKE)]), None)


def _split_too(score: str, lacking: list[str]) -> str:
    """What to type beside the column of the score where its name says of which split it is: the rules need to know.

    >>> _split_too("test_acc", ["split"]), _split_too("dev_acc", ["split"]), _split_too("acc", ["split"])
    (' --value split=test', ' --value split=validation', '')
    """
    words = {word for word in re.split(r"[\W_]+", score.lower()) if word in SPLIT_WORDS}
    if "split" not in lacking or len(words) != 1:
        return ""
    return f" --value split={'test' if words == {'test'} else 'validation'}"


def _is_score(name: str) -> bool:
    """Whether a column seems to hold scores, be they of a split or not.

    >>> [_is_score(name) for name in ("val_acc", "Test accuracy", "score", "test")]
    [True, True, True, False]
    """
    words = re.split(r"[\W_]+", name.lower())
    return "_".join(word for word in words if word not in SPLIT_WORDS) in MEANT["score"]


def _hint(column: str) -> str:
    if column == "method":
        return "and where every row is of LoRA, type --value method=lora"
    return "and optional are " + ", ".join(OPTIONAL)
