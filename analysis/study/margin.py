"""What the declared margin can tell: whether the head alone is within it, and the power that a study has at it."""

from __future__ import annotations

from . import comparison
from .comparison import seeds_of
from .records import Records
from .statistics import power


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
