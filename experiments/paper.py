"""What the studies of the LoRA paper's own tables and figures have in common: tasks, grids and protocol.

Runs of the same configuration are trained once for all of them, if every study is declared before the first run:
`python -m experiments.paper_which_rank --declare`, and so on; then the trials of all, `--only stage=trial`; then the
rest.
"""

from __future__ import annotations

from collections.abc import Iterable

from experiments.rank_sweep_2 import LARGE
from lorax_lab.study.protocol import Arm, Protocol

TASKS = {name: (f"task={name}", *LARGE) for name in ("sarcasm", "movie_reviews")}
BEGUN = {"sarcasm": TASKS["sarcasm"]}
"""What every study begins with; each may grow by movie_reviews."""
COMMON = ("task.pooling=mean", "train.precision=fp32")
"""Products in fp32, since a processor without units for bf16 takes 40 times as long in it."""
FULL = "full"
SECONDS = {"trial": 40.0, "final": 55.0}
"""Of a run on 2 cores without units for bf16, of which two run side by side: what `paper_subspaces` took."""
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
SHARED = ("ranks_share", "ranks_by_layer", "seeds_share", "seeds_by_layer", "base_shares", "layers_share")
"""Of a study that compares directions."""
FIGURES = ("arms", "trials")
"""Of a study whose arms differ in more than their rank."""


def full() -> Arm:
    """Full fine-tuning."""
    return Arm(FULL, ("method=full",), 7e-5)


def lowest(targets: Iterable[str]) -> float:
    """The lowest rate of a set of matrices; of one type it is twice that of more."""
    types = {target.lstrip("0123456789.") for target in targets}
    return 2 * LOWEST if len(types) == 1 else LOWEST


def lora(rank: int, name: str = "", targets: Iterable[str] = (), lowest: float = LOWEST) -> Arm:
    """LoRA of a rank on all matrices, or on those whose names end so."""
    only = tuple(targets)
    overrides = ("method=lora", f"rank={rank}", *((f"method.target_modules=[{','.join(only)}]",) if only else ()))
    return Arm(name or f"LoRA r={rank}", overrides, lowest)


def protocol(arms: Iterable[Arm]) -> Protocol:
    """Three rates for every arm, a factor of two apart, and five fresh seeds."""
    return Protocol(
        arms=(full(), *arms),
        reference=FULL,
        rates=3,
        factor=2.0,
        selection_seeds=(100,),
        final_seeds=(0, 1, 2, 3, 4),
        margin=0.02,
        extensions=1,
        loss_margin=0.03,
    )
