"""The score of an adapter or fine-tune when its update is cut to k directions in every matrix, and the smallest k whose
cut is within a margin of the whole: chosen on validation, judged on test.

The model is the base with everything that the adapter or the checkpoint holds, head and biases too; a cut changes its
matrices alone (`measure.truncation`). A cut and the whole answer the same examples, so their difference is taken
example by example: most answers agree, and what they differ by is known far better than either score. The lower end of
its interval has to be within the margin, not only the difference itself: of several cuts near the margin, one passes by
luck.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from lorax_lab.audit.tuned import Tuned
from lorax_lab.errors import ConfigError

if TYPE_CHECKING:
    from lorax_lab.config import RunConfig
    from lorax_lab.tasks import Task
    from lorax_lab.tasks.split import Split

OnScore = Callable[[int, int], None]
Answers = dict[str, np.ndarray]
Z_ONE, Z_TWO = 1.6448536269514722, 1.959963984540054
"""Of the normal law: one-sided 95 % for choosing, two-sided 95 % for reporting."""
PSEUDO = 0.5
"""Added to each count of answers that were lost, won, kept right and kept wrong (Agresti & Min 2005): without it the
interval has no width where no answer differs."""


class Change(NamedTuple):
    """A cut's score minus the whole's, in the metric's unit, above 0 where the cut is better; with ends of intervals.
    The ends are NaN where the metric is no mean over examples."""

    difference: float
    surely: float
    """The lower end, one-sided 95 %."""
    low: float
    high: float
    """Two-sided 95 %."""


def change(whole: np.ndarray | None, cut: np.ndarray | None, difference: float, higher_is_better: bool) -> Change:
    """What a cut changes.

    Args:
        whole, cut: (n,) what each example adds to the score, right or wrong as bool or numbers; None where that is not
            known.
        difference: of the scores themselves, cut minus whole.

    >>> same = np.ones(500, dtype=bool)
    >>> [round(value, 4) for value in change(same, same, 0.0, True)]
    [0.0, -0.0033, -0.0039, 0.0039]
    """
    sign = 1.0 if higher_is_better else -1.0
    gained = sign * difference
    if whole is None or cut is None:
        return Change(gained, math.nan, math.nan, math.nan)
    middle, error = _paired(whole, cut)
    middle *= sign
    return Change(gained, middle - Z_ONE * error, middle - Z_TWO * error, middle + Z_TWO * error)


def _paired(whole: np.ndarray, cut: np.ndarray) -> tuple[float, float]:
    """The mean difference and its standard error."""
    if whole.dtype == bool and cut.dtype == bool:
        won, lost = (float(changed.sum()) + PSEUDO for changed in (cut & ~whole, whole & ~cut))
        n = len(whole) + 4 * PSEUDO
        middle = (won - lost) / n
        return middle, math.sqrt(max((won + lost) / n - middle**2, 0.0) / n)
    each = cut.astype(float) - whole.astype(float)
    return float(each.mean()), float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else math.inf


def chosen(changes: Mapping[int, Change], margin: float) -> int:
    """The smallest k that, with every larger one, is surely within the margin; the largest is the whole.

    Where the metric has no interval the difference itself counts.

    >>> within, out = Change(0.0, -0.01, -0.02, 0.02), Change(-0.01, -0.03, -0.04, 0.02)
    >>> chosen({0: within, 1: out, 2: within, 4: within}, 0.02)
    2
    """
    ranks = sorted(changes, reverse=True)
    smallest = ranks[0]
    for k in ranks[1:]:
        if not worst(changes[k]) >= -margin:
            break
        smallest = k
    return smallest


def worst(change: Change) -> float:
    """What a cut surely keeps to: the lower end of its interval, or its difference where it has none."""
    return change.difference if math.isnan(change.surely) else change.surely


def ranks_to_try(full: int) -> Sequence[int]:
    """0, the powers of two below `full`, and half-way between them from 4 on, then `full`.

    >>> ranks_to_try(16)
    [0, 1, 2, 3, 4, 6, 8, 12, 16]
    """
    powers = [2**i for i in range(full.bit_length())]
    return [0, *sorted({k for power in powers for k in (power, 3 * power // 2) if k < full}), full]


@dataclass(frozen=True, eq=False)
class Scores:
    """What was scored.

    Args:
        task, metric: their names.
        margin: how much worse a cut may be, in the metric's unit.
        higher_is_better: of the metric.
        examples: of each split.
        whole: scores of the whole update, by split.
        cuts: score on validation and what the cut changes there, by k; the largest k is the whole.
        chosen: the smallest k that is surely within the margin on validation, with every larger one.
        test: score on test at the chosen k, and what it changes there.
        notes: what a reader of the scores has to know.
    """

    task: str
    metric: str
    margin: float
    higher_is_better: bool
    examples: dict[str, int]
    whole: dict[str, float]
    cuts: dict[int, tuple[float, Change]]
    chosen: int
    test: tuple[float, Change]
    notes: list[str]

    @property
    def full(self) -> int:
        """The rank of the whole."""
        return max(self.cuts)


def task_config(words: list[str], folder: Path, base: str | None) -> RunConfig:
    """The configuration of a task as `python -m lorax_lab.run` reads it.

    Args:
        words: `movie_reviews` and overrides such as `task.test_examples=200`; none for the task of the run that left
            the adapter in `folder`.
        base: the base that was typed; None for the recorded run's own.

    Raises:
        ConfigError: no such task or key, or no words where no run has left the adapter.
    """
    from lorax_lab.launch.compose import compose, recorded

    if not words and not (folder / "config.yaml").is_file():
        raise ConfigError(
            f"--task needs a task's name here: {folder} has no config.yaml of a run; type --task movie_reviews, or "
            "what follows task= in python -m lorax_lab.run"
        )
    model = [f"model={base}"] if base else []
    if not words:
        own = [word for word in recorded(folder) if not base or not word.lstrip("+").startswith("model=")]
        return compose([*own, *model])
    named = [word if "=" in word else f"task={word}" for word in words]
    if other := [word for word in named if not word.lstrip("+").startswith(("task=", "task."))]:
        raise ConfigError(f"--task {other[0]} is no setting of a task; type --task NAME task.KEY=VALUE")
    if len(names := [word.removeprefix("task=") for word in named if word.startswith("task=")]) > 1:
        raise ConfigError(
            f"--task names {len(names)} tasks: {' '.join(names)}; name one. Adapters stand before --task: "
            "python -m lorax_lab.audit card ADAPTER ADAPTER --task movie_reviews"
        )
    if not any(word.startswith("task=") for word in named):
        raise ConfigError(f"--task {' '.join(words)} names no task; name it first, as in --task local")
    return compose([*named, *model, "reference=false"])


def score(tuned: Tuned, task: Task, processor: Any, margin: float, on_score: OnScore) -> Scores:
    """Score the whole update, every cut on validation, and the chosen one on test.

    Raises:
        ConfigError: an example that the model cannot read, or a split without examples.
    """
    from lorax_lab.tasks.split import Split

    for name in ("validation", "test"):
        if not task.splits[name]:
            raise ConfigError(f"task.{name}_examples=0: a cut is chosen on validation and judged on test; leave it out")
    validation, test = (Split.of(task, task.splits[name], processor) for name in ("validation", "test"))
    ranks = ranks_to_try(tuned.full)
    whole = _seen(validation, tuned.model)
    passes = len(ranks) + 1
    seen = tuned.under(ranks[:-1], whole, lambda cut: _seen(validation, cut), lambda done, _: on_score(done, passes))
    cuts = {k: _change(validation, whole, cut) for k, cut in zip(ranks, [*seen, whole], strict=True)}
    k = chosen({rank: of for rank, (_, of) in cuts.items()}, margin)
    on_test = _seen(test, tuned.model)
    (at_k,) = tuned.under([k], on_test, lambda cut: _seen(test, cut)) if k < tuned.full else [on_test]
    on_score(passes, passes)
    return Scores(
        task=str(task.config.name),
        metric=task.metric,
        margin=margin,
        higher_is_better=task.higher_is_better,
        examples={"validation": len(validation.rows), "test": len(test.rows)},
        whole={"validation": whole[0], "test": on_test[0]},
        cuts=cuts,
        chosen=k,
        test=_change(test, on_test, at_k),
        notes=_notes(cuts),
    )


def _notes(cuts: dict[int, tuple[float, Change]]) -> list[str]:
    if all(math.isnan(of.surely) for _, of in cuts.values()):
        return ["This metric is no mean over examples: its differences have no interval, and they choose alone."]
    return []


def _seen(split: Split, model: torch.nn.Module) -> tuple[float, Answers]:
    outputs = split.outputs(model).numpy()
    return split.task.score(outputs, split.labels)[split.task.metric], split.answered(outputs)


def _change(split: Split, whole: tuple[float, Answers], cut: tuple[float, Answers]) -> tuple[float, Change]:
    """A cut's score, and what it changes. Answers that are right or wrong are compared where the score is their share,
    else what each adds to the score."""
    key = "correct" if split.task.metric == "accuracy" else "pseudo_values"
    pair = (whole[1].get(key), cut[1].get(key))
    return cut[0], change(*pair, cut[0] - whole[0], split.task.higher_is_better)
