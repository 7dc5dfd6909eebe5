"""Tables 6 and 15 of the LoRA paper: what rank, in which matrices? And its Figures 3, 4, 6 to 8 and its Table 7, where
LoRA adapts query and value alone, as it does there."""

from collections.abc import Iterator

from experiments import paper
from experiments.study import FULL, Plan
from lorax_lab.afterwards.sets import sets
from lorax_lab.study.protocol import Arm

RANKS = (1, 2, 4, 8, 64)
CUT = (0, 1, 2, 4, 8, 16, 32, 64)
"""Numbers of directions to which the full update is cut in each set of matrices; no step is more than a doubling."""
EVERY = "all"
SETS = paper.SETS | {EVERY: ("all-linear",)}
BOTH = "query and value"
"""The set that the paper adapts in its figures and in Table 7."""
R4, R8, R64 = (f"{BOTH} r={rank}" for rank in (4, 8, 64))
PAIRS = paper.pairs(R8, R64) | {"W and r=4": ("W", R4), "W and r=8": ("W", R8)}
OF_ARM = {FULL: (4, 64), R4: (4,), R64: (64,)}
"""Numbers of directions whose amplification is measured, by arm."""


def plan() -> Plan:
    arms = [arm for name in SETS for arm in _of_set(name)]
    return paper.plan(
        [*arms, _unequal(12, 4), _unequal(4, 12)],
        figures=("sets", *paper.SHARED, "amplification", *paper.FIGURES),
        afterwards={
            "sets": lambda runs: sets(runs, FULL, SETS, CUT),
            "similarities": paper.similarities(PAIRS, BOTH),
            "factors": paper.factors(OF_ARM, paper.SETS[BOTH]),
        },
    )


def _of_set(name: str) -> Iterator[Arm]:
    targets = SETS[name]
    for rank in RANKS:
        named = (f"{name} r={rank}", targets, paper.lowest(targets))
        yield paper.lora(rank) if name == EVERY else paper.lora(rank, *named)


def _unequal(query: int, value: int) -> Arm:
    """LoRA of unequal ranks at the budget of query and value r=8."""
    overrides = ("method=lora", "rank=8", "method.target_modules=[query,value]")
    ranks = f"method.ranks=[query:{query},value:{value}]"
    return Arm(f"query r={query} and value r={value}", (*overrides, ranks), paper.LOWEST)
