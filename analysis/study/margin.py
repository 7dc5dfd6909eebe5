"""What the declared margin is worth: its share of what fine-tuning brings, and the power that a study has at it."""

from __future__ import annotations

from dataclasses import dataclass

from . import comparison, update
from .comparison import seeds_of
from .records import Records, score_of
from .statistics import Interval, power, t_interval


@dataclass(frozen=True)
class OverHead:
    """What the reference brings over the head alone: all that it trains besides, embeddings, norms and biases too.

    Attributes:
        gain: of the reference, above 0 is better.
        split: that both are scored on.
        head: the arm that trains the head alone.
        instead: what stands for it where there is none. The update cut to nothing (`k = 0`) was trained beside an
            update, so that it may do worse than a head that was trained alone, and the gain is then too large.
    """

    gain: Interval
    split: str = "test"
    head: str = ""
    instead: str = ""

    def share(self, margin: float) -> float | None:
        """The margin as a share of the gain; None where the gain is not surely above 0."""
        return margin / self.gain.mean if self.gain.low > 0 else None


def over_head(records: Records, task: str) -> OverHead | None:
    """Over the arm that trains the head alone, on test. Without one, over the model before training, where the runs
    scored it on test; else over the update cut to nothing (k = 0).

    None where there is none of these, or a cut leaves some matrices whole.
    """
    if arm := head_arm(records, task):
        return OverHead(comparison.gains(records, task)[arm].oriented(False), head=arm)
    if gain := _over_untrained(records, task):
        return OverHead(gain, instead="untrained")
    if not update.has_cuts(records) or not update.changes_all(records, task):
        return None
    split = "test" if update.is_on_test(records, task) else "validation"
    return OverHead(update.gains(records, task)[0].oriented(False), split, instead="k = 0")


def _over_untrained(records: Records, task: str) -> Interval | None:
    """The reference's gain over the model before training, whose score is one number: the interval is over seeds."""
    lines, reference = update.lines_of(records, task), records.protocol.reference
    before = [line.get("baselines", {}).get(f"untrained/{line['metric']}") for line in lines]
    if comparison.is_lost(records, task, reference) or not before or None in before:
        return None
    gains = [score_of(line, "test") - score for line, score in zip(lines, before, strict=True)]
    return t_interval(gains).oriented(records.higher_is_better(task))


def head_is_enough(records: Records, task: str, margin: float | None = None) -> bool:
    """Whether the head alone is not surely short of a match, by the declared margin unless another is given. The score
    then distinguishes no ranks."""
    arm = head_arm(records, task)
    allowed = records.protocol.margin if margin is None else margin
    return arm is not None and comparison.gains(records, task)[arm].high >= -allowed


def head_arm(records: Records, task: str) -> str | None:
    """The first arm that trains the reference's head and nothing of the body, by the parameters of its runs, none of
    which diverged."""
    reference = seeds_of(records, task, records.protocol.reference).values()
    heads = {(0, line["parameters"]["head"]) for line in reference}
    for arm in (arm.name for arm in records.protocol.arms if arm.name != records.protocol.reference):
        lines = seeds_of(records, task, arm).values()
        counts = {(line["parameters"]["adapter"], line["parameters"]["head"]) for line in lines}
        if counts and counts <= heads and not comparison.is_lost(records, task, arm):
            return arm
    return None


def powers(records: Records, task: str) -> dict[str, tuple[float, float]]:
    """For each arm but the reference, the chances that the study finds it within the margin where its true difference
    is 0, and where it is half the margin worse, at its own components of variance. An arm of which a final run diverged
    has none."""
    margin, by_arm = records.protocol.margin, comparison.compared(records, task)
    return {
        arm: (power(difference, margin, 0.0), power(difference, margin, -margin / 2))
        for arm, difference in by_arm.items()
        if not comparison.is_lost(records, task, arm)
    }
