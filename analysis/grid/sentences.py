"""What a grid supports, and what it cannot, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lorax_lab.record.direction import oriented

from ..study.markdown import listed
from ..study.statistics import Interval
from ..study.validator import LEAST_SEEDS
from .arms import OTHER_SEEDS, TRIALS, Scored
from .columns import OPTIONAL
from .comparison import NO_FULL, Comparison, Group, against_full, star, together
from .table import FULL, Grid

FEW = 3
"""Comparisons that a sentence names; of more it names the arms."""


def unsaid(grid: Grid) -> list[str]:
    """What the table does not say, and what therefore holds."""
    lines = [f"No column `{name}`: {OPTIONAL[name]}." for name in grid.lacking]
    if grid.unread:
        columns = listed(f"`{name}`" for name in grid.unread)
        lines.append(
            f"No rule reads the column{'s' * (len(grid.unread) > 1)} {columns}: what they say counts as equal."
        )
    return lines


def rests_on(group: Group) -> list[str]:
    """What the scores of a group rest on, and what their intervals do not cover."""
    lines = []
    apart = "No stage tells trials from final runs."
    if group.stage:
        apart = f"Every row has the stage `{group.stage}`, so that trials are not told from final runs."
    if any(arm.chosen_by == OTHER_SEEDS for arm in group.arms):
        on = f" ({group.splits[0]})" if group.splits[0] else ""
        lines.append(
            f"{apart} So each seed is scored at the rate that the other seeds choose, "
            f"and a score is the mean over the seeds left out. The examples{on} choose the rates and score them too."
        )
    elif group.stage:
        lines.append(apart)
    if group.staged and not group.splits[0]:
        lines.append("Whether trials and final runs are scored on the same examples is not known.")
    if any(each.gain for each in group.comparisons):
        wider = "" if group.staged else ", made wider since seeds left out share what chose their rates"
        lines.append(
            f"Intervals are 95 %, each by itself, Student's over paired seeds{wider}. They do not cover the test "
            "examples: other examples may decide otherwise."
        )
    paired = {each.gain.count for each in group.comparisons if each.gain}
    if few := sorted(count for count in paired if 0 < count < LEAST_SEEDS):
        lines.append(f"{listed(few)} seeds, fewer than the {LEAST_SEEDS} of our own studies: the interval is wider.")
    return lines


def failures(group: Group) -> list[str]:
    """The runs that failed, by arm. None is left out: a rate with one is not chosen, an arm scored by one has no
    score."""
    return [f"{arm.arm}: {'; '.join(arm.failures)}" for arm in group.arms if arm.failures]


def uncounted(group: Group) -> list[str]:
    """The rates that do not count as tried."""
    return [
        f"{arm.arm}: {listed(f'{rate:g}' for rate in arm.uncounted)} {'does' if len(arm.uncounted) == 1 else 'do'} not "
        "count as tried, for want of a row of every seed"
        for arm in group.arms
        if arm.uncounted
    ]


def unused(group: Group) -> list[str]:
    """Final runs that score nothing, since their trials choose another rate."""
    return [
        f"{arm.arm}: final runs at {listed(f'{rate:g}' for rate in arm.elsewhere)} are not read; its trials choose "
        f"{arm.best:g}"
        for arm in group.arms
        if arm.elsewhere and arm.best is not None
    ]


def supports(group: Group, higher_is_better: bool, margin: float | None) -> list[str]:
    """What can be told: first r*, then each fair comparison; then what cannot, by its reasons."""
    stars = [_star(group, method, margin) for method in group.methods]
    fair = [each for each in group.comparisons if each.fair]
    with_full = [_against_full(each, margin) for each in fair if each.with_full]
    others = _others([each for each in fair if not each.with_full])
    apart = together(group.comparisons).items()
    unfair = [_unfair(list(reasons), found, higher_is_better) for reasons, found in apart]
    return [*stars, *with_full, *others, *unfair]


def _star(group: Group, method: str, margin: float | None) -> str:
    of_method = [each for each in against_full(group) if each.first.arm.method == method]
    unfair = [each for each in of_method if not each.fair]
    if any(NO_FULL in each.reasons for each in unfair):
        return f"r* of {method} cannot be told: {NO_FULL}."
    if unfair:
        count = f"{len(unfair)} of {len(of_method)} comparisons with {FULL}"
        return f"r* of {method} cannot be told: {count} {'is' if len(unfair) == 1 else 'are'} not fair."
    if margin is None:
        return f"r* of {method} cannot be told: no margin is given, by which a score may be worse (`--margin`)."
    found = star(group, method, margin)
    assert found is not None
    seeds = len(of_method[0].first.scores)
    lowest = min(each.first.arm.rank or 0 for each in of_method)
    least = ", the lowest tried" if found.size == lowest else ""
    return f"r* of {method} is {found}{least}, at the margin {margin:g}, over {seeds} paired seeds{_same(group)}."


def _same(group: Group) -> str:
    return ", on examples that chose the rates too" if group.arms[0].chosen_by != TRIALS else ""


def _against_full(each: Comparison, margin: float | None) -> str:
    assert each.second is not None
    assert each.gain is not None
    first, second = each.first, each.second.arm
    if first.lost:
        seeds = [seed for seed in first.lost if seed is not None]
        return f"{first.arm} falls short of {second}: its run with seed {listed(seeds)} failed."
    if margin is None:
        return f"{first.arm} against {second}: {difference(each.gain)}."
    return f"{first.arm} {_by_margin(each.gain, margin)} of {second}: {difference(each.gain)}."


def _others(fair: list[Comparison]) -> list[str]:
    """The fair comparisons without full, those of one outcome together."""
    outcomes: dict[str, list[str]] = {"worse": [], "better": [], "": []}
    for each in fair:
        assert each.second is not None
        assert each.gain is not None
        outcome = "worse" if each.gain.high < 0 else "better" if each.gain.low > 0 else ""
        outcomes[outcome].append(f"{each.first.arm} {'than' if outcome else 'and'} {each.second.arm}")
    told = f" (each by itself, of {len(fair)} pairs)" if len(fair) > 1 else ""
    lines = [f"Surely {how}{told}: {', '.join(outcomes[how])}." for how in ("worse", "better") if outcomes[how]]
    return lines + ([f"Neither is surely better: {', '.join(outcomes[''])}."] if outcomes[""] else [])


def _by_margin(gain: Interval, margin: float) -> str:
    if gain.low > -margin:
        return "is within the margin"
    return "falls short by more than the margin" if gain.high < -margin else "is not surely within the margin"


def difference(gain: Interval) -> str:
    """A gain in words that its interval allows.

    >>> difference(Interval(-0.02, -0.03, -0.01, 5)), difference(Interval(0.0, -0.01, 0.01, 5))
    ('worse by 0.0200 [0.0100, 0.0300]', 'neither is surely better, gain 0.0000 [-0.0100, 0.0100]')
    """
    if gain.high < 0:
        return f"worse by {gain.oriented(False)}"
    return f"better by {gain}" if gain.low > 0 else f"neither is surely better, gain {gain}"


def _unfair(reasons: Sequence[str], found: list[Comparison], higher_is_better: bool) -> str:
    """That a set of comparisons cannot be told, with the greatest difference that seems to be there."""
    which = f"Which is better cannot be told of {_pairs(found)}: {'; '.join(reasons)}."
    seen = [(abs(each.first.shown - each.second.shown), each.first, each.second) for each in found if each.second]
    known = [pair for pair in seen if not math.isnan(pair[0])]
    if not known:
        return which
    _, first, second = max(known, key=lambda pair: pair[0])
    return f"{which} So it cannot be told that {_seems(first, second, higher_is_better)}."


def _seems(first: Scored, second: Scored, higher_is_better: bool) -> str:
    ahead = oriented(first.shown - second.shown, higher_is_better) > 0
    one, other = f"{first.shown:.4g}", f"{second.shown:.4g}"
    how = "differs from" if one == other else f"is {'better' if ahead else 'worse'} than"
    return f"{first.arm} ({one}) {how} {second.arm} ({other})"


def _pairs(found: list[Comparison]) -> str:
    if len(found) <= FEW:
        return listed(each.name for each in found)
    firsts = [str(each.first.arm) for each in found]
    seconds = [str(each.second.arm if each.second else FULL) for each in found]
    return f"{len(found)} pairs of {listed(dict.fromkeys([*firsts, *seconds]))}"
