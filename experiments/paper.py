"""What the studies of the LoRA paper's own tables and figures have in common: tasks, grids and protocol.

Runs of the same configuration are trained once for all of them, if every study is declared before the first run:
`python -m experiments paper_which_rank --declare`, and so on; then the trials of all, `--only stage=trial`; then the
rest.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from experiments import study
from experiments.rank_sweep_2 import LARGE
from experiments.study import FULL, Plan
from lorax_lab.afterwards import amplification
from lorax_lab.afterwards import similarities as shared
from lorax_lab.afterwards.trained import Runs
from lorax_lab.study.protocol import Arm, Protocol

Rows = Iterable[dict[str, Any]]
TASKS = {name: (f"task={name}", *LARGE) for name in ("sarcasm", "movie_reviews")}
BEGUN = {"sarcasm": TASKS["sarcasm"]}
"""What every study begins with; each may grow by movie_reviews."""
COMMON = ("task.pooling=mean", "train.precision=fp32")
"""Products in fp32, since a processor without units for bf16 takes 40 times as long in it."""
LAYERS = range(6)
OF_THE_FEED_FORWARD = ("intermediate.dense", *(f"{layer}.output.dense" for layer in LAYERS))
"""`output.dense` alone would be the attention's too."""
SETS = {
    "query": ("query",),
    "query and value": ("query", "value"),
    "attention": ("query", "key", "value", "attention.output.dense"),
    "feed-forward": OF_THE_FEED_FORWARD,
}
"""Ends of the matrices' names, as `method.target_modules` has them. In the paper's words Wq; Wq, Wv; Wq, Wk, Wv, Wo."""
LOWEST = 1e-3
"""Of the learning rates, where LoRA adapts two types of matrix or more. Trials with one seed on sarcasm were best at
2e-3 for all and for the attention, at 1e-3 to 2e-3 for the feed-forward matrices, and at 4e-3 for the query alone."""
SHARED = ("layers_share",)
"""Of a study that compares directions."""
FIGURES = ("arms", "trials")
"""Of a study whose arms differ in more than their rank."""


def lowest(targets: Iterable[str]) -> float:
    """The lowest rate of a set of matrices; of one type it is twice that of more."""
    types = {target.lstrip("0123456789.") for target in targets}
    return 2 * LOWEST if len(types) == 1 else LOWEST


def lora(rank: int, name: str = "", targets: Iterable[str] = (), lowest: float = LOWEST) -> Arm:
    """LoRA of a rank on all matrices, or on those whose names end so."""
    only = ",".join(targets)
    return study.lora(rank, lowest, *([f"method.target_modules=[{only}]"] if only else []), name=name)


def plan(arms: Iterable[Arm], extensions: int = 1, **more: Any) -> Plan:
    """Full fine-tuning against these arms, whose grids grow so often at most; `more` are other fields of the plan."""
    protocol = Protocol((study.full(7e-5), *arms), extensions=extensions, loss_margin=0.03)
    usual: dict[str, Any] = {"factors": {"task": BEGUN}, "common": COMMON, "protocol": protocol}
    return Plan(**(usual | more))


def pairs(low: str, high: str) -> dict[str, tuple[str, str]]:
    """What Figures 3 and 6, 4 and 7, and 8 compare, and what the paper lacks: two arms by the pair's name. `low` is the
    arm of rank 8, `high` that of rank 64."""
    return {
        "r=8 and r=64": (low, high),
        "two seeds of r=64": (high, high),
        "two seeds of full": (FULL, FULL),
        "r=64 and full": (high, FULL),
        "W and r=64": ("W", high),
        "W and full": ("W", FULL),
    }


def similarities(pairs: Mapping[str, tuple[str, str]], adapted: str = "") -> Callable[[Runs], Rows]:
    """Which directions the arms of each pair share; where LoRA adapts one of `SETS` alone, in its matrices."""
    if not adapted:
        return lambda runs: shared.similarities(runs, pairs)
    return lambda runs: (row | {"adapted": adapted} for row in _within(shared.similarities(runs, pairs), SETS[adapted]))


def factors(ranks: Mapping[str, Sequence[int]], targets: Iterable[str] = ()) -> Callable[[Runs], Rows]:
    """How much the update amplifies W, in the matrices whose names end so, or in all. An update of a higher rank is cut
    to each of its arm's ranks."""
    return lambda runs: _within(amplification.amplifications(runs, ranks), targets)


def _within(rows: Rows, targets: Iterable[str]) -> Rows:
    """The rows of these matrices; full fine-tuning has others too."""
    ends = tuple(f".{target}" for target in targets) or ("",)
    return (row for row in rows if row["matrix"].endswith(ends))
