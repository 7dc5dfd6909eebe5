"""Names for what a run is: its arm (method and rank) and its variant (method, and settings that differ)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

METHOD_NAMES = {"full": "full fine-tuning", "lora": "LoRA"}
LEARNING_RATE = "config.train.learning_rate"
FOLLOWS_RANK = ("config.method.alpha", LEARNING_RATE)
"""Settings that may go with the rank, as alpha = 2 rank does: they part variants only within one rank."""


def arm(method: str, rank: float) -> str:
    """A method and its rank, as figures call it.

    >>> arm("lora", 8.0), arm("full", float("nan"))
    ('LoRA r = 8', 'full fine-tuning')
    """
    return _name(method) if rank != rank else f"{_name(method)} r = {rank:.0f}"


def named(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with their `arm`, `settings` and `variant`, each method by rank and seed, full fine-tuning last.

    `settings` are the words of the command line in which runs of a method differ (`method.alpha=16`); they
    name the variant: `LoRA (alpha 16)`.
    """
    import pandas as pd

    parts: list[pd.DataFrame] = [part for _, part in runs.groupby("method")]
    runs = pd.concat(part.assign(settings=pd.Series(_settings(part), part.index, dtype=object)) for part in parts)
    arms = [arm(method, rank) for method, rank in zip(runs["method"], runs["rank"], strict=True)]
    variants = [_variant(method, words) for method, words in zip(runs["method"], runs["settings"], strict=True)]
    runs = runs.assign(arm=arms, variant=variants, last=runs["method"] == "full")
    order = ["last", "method", "rank", "variant", "seed"]
    return runs.sort_values(order).drop(columns="last").reset_index(drop=True)


def varies(column: pd.Series[Any]) -> bool:
    """Whether a column of settings holds more than one value; lists count as values."""
    return len({text(value) for value in column}) > 1


def text(value: Any) -> str:
    """A setting as the command line has it.

    >>> text(0.0005), text(True), text(["query", "value"]), text(float("nan"))
    ('0.0005', 'true', '[query,value]', 'null')
    """
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    if value is None or value != value:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if short == str(value) or float(short) == value else repr(value)


def _settings(runs: pd.DataFrame) -> list[tuple[str, ...]]:
    """Of one method's runs, the words of the command line in which they differ."""
    own = [c for c in runs.columns if c.startswith("config.method.") and c != "config.method.name"]
    by_rank = [part for _, part in runs.groupby("rank", dropna=False)]
    parts = {c: by_rank if c in FOLLOWS_RANK else [runs] for c in [*own, LEARNING_RATE]}
    differing = [c for c in parts if any(varies(part[c]) for part in parts[c])]
    rows = runs.to_dict("records")
    return [tuple(f"{c.removeprefix('config.')}={text(row[c])}" for c in differing) for row in rows]


def _variant(method: str, settings: tuple[str, ...]) -> str:
    pairs = [word.partition("=") for word in settings]
    words = [f"{key.rpartition('.')[2].replace('_', ' ')} {value}" for key, _, value in pairs]
    return f"{_name(method)} ({', '.join(words)})" if words else _name(method)


def _name(method: str) -> str:
    return METHOD_NAMES.get(method, method)
