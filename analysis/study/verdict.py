"""The declared verdict: per task and type of matrix, is the update of low rank by the study's own margin and line? From
the records alone. The share that is kept (`share`) is the answer of pages; this is what a study had promised."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from lorax_lab.record.statistics import Smallest

from . import comparison, update
from .records import KEPT, Records

SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"


@dataclass(frozen=True)
class Ruling:
    """The conclusion for one task and one type of matrix (`all` for every matrix at once)."""

    task: str
    module: str
    verdict: str
    k_star: Smallest
    r_star: Smallest | None = None
    """For all matrices only, since LoRA was trained on all of them."""
    by_loss: Smallest | None = None
    """r* by the log loss on test, for all matrices only; None where it has no declared margin."""
    on_test: bool = True
    """Whether k* is decided on examples that chose nothing."""


@lru_cache(maxsize=KEPT)
def rulings(records: Records) -> list[Ruling]:
    """One per task and type of matrix, the whole first."""
    made = []
    for task in records.conditions:
        r_star = comparison.enough(records, task)
        ruling = _ruling(records, task, update.ALL, [r_star] if r_star else [])
        made.append(replace(ruling, r_star=r_star, by_loss=comparison.enough_by_loss(records, task)))
        modules = update.modules(update.functional(records, task))
        made += [_ruling(records, task, module) for module in modules if len(modules) > 1]
    return made


def _ruling(records: Records, task: str, module: str, r_stars: Sequence[Smallest] = ()) -> Ruling:
    k_star = update.functional_rank(records, task, module)
    verdict = rule([k_star, *r_stars], low_rank(records, task), comparison.head_is_enough(records, task))
    return Ruling(task, module, verdict, k_star, on_test=update.is_on_test(records, task, module=module))


def rule(evidence: list[Smallest], low: int, solved: bool = False) -> str:
    """Supported where every rank is surely at most `low`, not supported where one is surely above it: a size of `low`
    or more was tried and falls short. Undecided where no direction at all may be enough, since then the score cannot
    distinguish ranks; also where it is `solved` without an update, since the head alone may be enough."""
    if solved:
        return UNDECIDED
    if any((rank.low if rank.low is not None else (rank.tried or 0) + 1) > low for rank in evidence):
        return NOT_SUPPORTED
    if any(rank.low == 0 for rank in evidence):
        return UNDECIDED
    return SUPPORTED if all(rank.high is not None and rank.high <= low for rank in evidence) else UNDECIDED


def low_rank(records: Records, task: str) -> int:
    """The largest rank that is called low: a sixteenth of the smallest side of a matrix."""
    line = update.lines_of(records, task)[0]
    return int(min(min(row["shape"]) for row in line["matrices"].values()) / 16)


def of_tasks(records: Records) -> list[Ruling]:
    """The rulings of all matrices at once, one for each task."""
    return [ruling for ruling in rulings(records) if ruling.module == update.ALL]
