"""What the scores of a grid are: which are better by their name, and on which scale they lie."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from lorax_lab.errors import ConfigError

from .table import Arm, Run

LOWER_BETTER = {"loss", "logloss", "entropy", "bce", "nll", "bpc", "perplexity", "ppl"}
LOWER_BETTER |= {"error", "err", "wer", "cer", "mse", "rmse", "mae", "mape"}
NEGATED = {"neg", "negative", "minus"}
"""Words in the names of metrics."""
APART = 20.0
"""How many times larger scores are that seem to be per cents beside shares."""
ONE_SCALE = "give all as shares or all as per cents"
OR_FAILED = "where both are per cents, divide all by 100, or write diverged for a run that failed"


def require_direction(names: Iterable[str], higher_is_better: bool) -> None:
    """Refuse `--higher` of a metric whose name says that lower scores are better.

    Args:
        names: of the scores: the metric, and their column.
    """
    for name in names:
        words = {word.lower() for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", name)}
        if higher_is_better and words & LOWER_BETTER and not words & NEGATED:
            raise ConfigError(
                f"--higher: the scores are of {name!r}, of which lower ones are better; type --lower in its place, or "
                "give the metric another name"
            )


def require_one_scale(groups: Mapping[str, Sequence[Run]], higher_is_better: bool, margin: float | None) -> None:
    """Refuse shares beside per cents: in the rows of a group where higher scores are better, in its arms where lower
    ones are, since one loss may be far larger than another of its arm; and in groups that have one margin."""
    for name, runs in groups.items():
        if higher_is_better:
            _require_rows(runs)
        _require_arms(name, runs)
        _require_margin(name, runs, margin)
    if margin is not None:
        _require_groups(groups, margin)


def _require_rows(runs: Sequence[Run]) -> None:
    scored = [(run.score, run.row) for run in runs if run.score is not None]
    shares = [pair for pair in scored if 0 < pair[0] <= 1]
    others = [pair for pair in scored if pair[0] > 1]
    if not shares or not others or max(others)[0] > 100 or min(others)[0] <= APART * max(shares)[0]:
        return
    fewer, more = sorted((others, shares), key=len)
    (score, row), (other, at) = (min(pairs, key=lambda pair: pair[1]) for pairs in (fewer, more))
    seems = ["in per cents", "a share"] if score > 1 else ["a share", "in per cents"]
    raise ConfigError(
        f"row {row}: score is {score:g} and seems to be {seems[0]}, row {at} has {other:g}, which seems to be "
        f"{seems[1]}; {ONE_SCALE}; {OR_FAILED}"
    )


def _require_arms(name: str, runs: Sequence[Run]) -> None:
    scores: dict[Arm, list[float]] = {}
    for run in runs:
        if run.score is not None:
            scores.setdefault(run.arm, []).append(run.score)
    shares = [arm for arm, own in scores.items() if min(own) >= 0 and max(own) <= 1]
    least = max((max(scores[arm]) for arm in shares), default=0.0)
    others = [arm for arm, own in scores.items() if min(own) > 1 and max(own) <= 100 and min(own) > APART * least]
    if shares and others:
        raise ConfigError(
            f"{name}: scores of {shares[0]} lie between 0 and 1, those of {others[0]} are more than {APART:g} times as "
            f"large; {ONE_SCALE}"
        )


def _require_margin(name: str, runs: Sequence[Run], margin: float | None) -> None:
    """Refuse a margin as wide as the scale of the scores, such as one in per cents where scores are shares."""
    scores = _known(runs)
    if margin is not None and margin >= 1 and scores and min(scores) >= 0 and max(scores) <= 1:
        raise ConfigError(
            f"--margin {margin:g}: all scores of {name} lie between 0 and 1, so that none is worse by more; allowed "
            "are numbers below 1, in units of the score; for two points in a hundred type --margin 0.02"
        )


def _require_groups(groups: Mapping[str, Sequence[Run]], margin: float) -> None:
    scores = {name: known for name, runs in groups.items() if (known := _known(runs))}
    shares = [name for name, known in scores.items() if min(known) >= 0 and max(known) <= 1]
    for name, known in scores.items():
        low = next((share for share in shares if max(known) <= 100 and median(known) > APART * max(scores[share])), "")
        if low and median(known) > 1:
            raise ConfigError(
                f"--margin {margin:g}: scores of {low} lie between 0 and 1, those of {name} are more than {APART:g} "
                f"times as large, and one margin cannot be meant for both; {ONE_SCALE}, or name one of the groups: "
                f"type --group {name!r}"
            )


def _known(runs: Iterable[Run]) -> list[float]:
    return [run.score for run in runs if run.score is not None]
