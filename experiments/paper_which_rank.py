"""Tables 6 and 15 of the LoRA paper: what rank, in which matrices? And its Figures 3, 4, 6 to 8 and its Table 7, where
LoRA adapts query and value alone, as it does there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from experiments import paper
from experiments.command import main
from experiments.study import FULL, Plan
from lorax_lab.study.protocol import Arm

if TYPE_CHECKING:
    from lorax_lab.afterwards.trained import Runs

QUESTION = """\
What rank does LoRA need in one, two or four types of attention matrix, in the feed-forward matrices and in all? The
LoRA paper found that rank 1 is enough for query and value together, and not for the query alone (Table 6). Beside it:
to what rank can the update of full fine-tuning be cut in the same matrices? And where LoRA adapts query and value
alone, as in the paper: which directions do ranks, seeds, W and its update share, and by how much is W amplified?"""
PREDICTION = """\
(2026-11-27, before the runs) In the query alone no rank matches full fine-tuning on sarcasm, and more rank helps by
less than a point from rank 4 on. In query and value rank 1 falls short of full fine-tuning by more than 2 points on
sarcasm, so that the paper's claim that rank 1 is enough there does not hold for it; it holds in the paper's own sense,
rank 1 within a point of rank 64 in the same matrices, on movie_reviews. Attention, feed-forward and all: the more
matrices, the smaller the rank that is enough, and in all of them r* is at most 4 on movie_reviews and 8 on sarcasm.
Unequal ranks for query and value, 12 and 4 or 4 and 12, are within half a point of 8 and 8. The full update loses less
than a point when its query matrices are cut to nothing, on both tasks: so what LoRA needs there says nothing of what
full fine-tuning does there. Cut in the feed-forward matrices it needs more directions than cut in the attention.
Refuted where k* of the query alone is above 0 on either task, or r* in all matrices above that in query and value.
(2026-11-28, before the runs: how this is decided, and more) k* of the query counts as above 0 where the cut to 0
surely loses more than a point; an r* that is not found counts as above every rank. And after the runs of
`paper_subspaces` and `paper_amplification`, where LoRA adapts all six types: in query and value alone φ(1, 1) of A at
rank 8 and 64 is higher than there (.03 in the query, .19 in the value), and still below .5 in the mean of either. Two
seeds of rank 64 do not share more of the query than of the value. φ(40, 4) of W and its update is below .2 at rank 4,
8 and 64. The 64 directions of rank 64 have less than one of W's top 40 more, by rows and beyond chance, than the 4 of
rank 4; by columns .5 to 3 more. W is less than 1.33 times as large in the top 4 directions of LoRA as in those of a
Gaussian. Refuted where φ(1, 1) is surely above .5 in the query or the value, or where W is surely more than 1.33
times as large: then what those studies found is of LoRA in all matrices."""
COST = """\
About 240 runs on sarcasm, of which two run side by side for one to four minutes, and the sets of 5 of them cut in
some minutes: three hours on 2 cores, by the time of the runs of `paper_subspaces`, less where runs of another study
are there. It grows by movie_reviews, at about as much."""

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
    """The grid."""
    arms = [arm for name in SETS for arm in _of_set(name)]
    return paper.plan(
        [*arms, _unequal(12, 4), _unequal(4, 12)],
        figures=("sets", *paper.SHARED, "amplification", *paper.FIGURES),
        afterwards={
            "sets": _sets,
            "similarities": paper.similarities(PAIRS, BOTH),
            "factors": paper.factors(OF_ARM, paper.SETS[BOTH]),
        },
    )


def _of_set(name: str) -> Iterator[Arm]:
    for rank in RANKS:
        own = SETS[name]
        yield paper.lora(rank) if name == EVERY else paper.lora(rank, f"{name} r={rank}", own, paper.lowest(own))


def _unequal(query: int, value: int) -> Arm:
    """LoRA of unequal ranks at the budget of query and value r=8."""
    overrides = ("method=lora", "rank=8", "method.target_modules=[query,value]")
    ranks = f"method.ranks=[query:{query},value:{value}]"
    return Arm(f"query r={query} and value r={value}", (*overrides, ranks), paper.LOWEST)


def _sets(runs: Runs) -> paper.Rows:
    from lorax_lab.afterwards.sets import sets

    return sets(runs, FULL, SETS, CUT)


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
