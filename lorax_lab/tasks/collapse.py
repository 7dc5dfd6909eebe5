"""Whether a run collapsed: it ends worse than it began, or no better than one answer for every input.

The second is what Mosbach et al. (2021, sec. 4) call a failed run. In this lab `failed` is a run that raised an error;
a collapsed run is completed, and its record says why it is flagged. No pass over the data is made for it.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lorax_lab.record.direction import oriented
from lorax_lab.record.folder import UNTRAINED
from lorax_lab.tasks.kind import Task
from lorax_lab.tasks.split import Split

SHARE = 0.2
"""The last share of the steps that stands for the end of training."""
FEWEST = 10
"""Steps that stand for it at least, where there are so many after the first."""
SURE = 0.999
"""How sure it is that the first step's loss is not one of those at the end."""
HIGHER = 1.01
"""The least factor between the two losses: what rounding makes is no rise."""


def signs(split: Split, name: str, losses: Sequence[float], score: float, baselines: Mapping[str, float]) -> list[str]:
    """Why a run counts as collapsed, in words; empty where it does not.

    Args:
        split: that the trained model was scored on, `name` in words.
        losses: of training, step by step; the first is taken before any update.
        score: the primary metric on the split.
        baselines: scores of the test split before training, by `<name>/<metric>`.
    """
    task = split.task
    before = baselines.get(f"{UNTRAINED}/{task.metric}")
    scored = f"{name} {task.metric} {score:.3f}"
    reasons = []
    if rise := risen(losses):
        reasons.append(f"the training loss rose from {rise[0]:.3g} at the first step to {rise[1]:.3g} at the end")
    if before is not None and not oriented(score - before, task.higher_is_better) >= 0:
        reasons.append(f"{scored} is worse than {before:.3f}, the score before training")
    constant = best_constant(task, split.labels)
    if constant is not None and not oriented(score - constant, task.higher_is_better) > 0:
        reasons.append(f"{scored} is no better than {constant:.3f}, that of one answer for every input")
    return reasons


def risen(losses: Sequence[float]) -> tuple[float, float] | None:
    """The first step's loss and the geometric mean of the last ones where training surely ends higher, else None.

    The last fifth of the steps says how losses scatter from batch to batch, on the scale of logarithms. The first loss
    has to lie below the interval in which one more of them would lie with a probability of .999 (Student's prediction
    interval). So a run that learns nothing is flagged once in 1,000, whatever its batches are. The mean loss of the
    first tenth would not do: a rate that is too high has already blown the loss up there.

    Args:
        losses: one per step, ≥ 0.

    >>> risen([0.7, 900.0, 300.0] + [12.0] * 12), risen([0.7, 0.69, 0.71, 0.7, 0.72, 0.68])
    ((0.7, 12.0...), None)
    """
    from scipy.stats import t

    count = min(len(losses) - 1, max(FEWEST, round(SHARE * len(losses))))
    if count < 2 or not min(losses[0], *losses[-count:]) > 0:
        return None
    first, last = math.log(losses[0]), np.log(losses[-count:])
    reach = float(t.ppf(SURE, count - 1)) * float(last.std(ddof=1)) * math.sqrt(1 + 1 / count)
    end = float(last.mean())
    return (losses[0], math.exp(end)) if end - first > max(reach, math.log(HIGHER)) else None


def best_constant(task: Task, labels: np.ndarray) -> float | None:
    """The best primary score of one answer for every input: of accuracy the majority's share. None where no such
    answer has a score."""
    score = task.kind.metrics[task.metric].constant
    return score(labels, len(task.classes)) if score else None
