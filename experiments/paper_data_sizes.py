"""Tables 16 and 17 of the LoRA paper: full fine-tuning and LoRA with few and with many examples."""

from __future__ import annotations

import sys
from dataclasses import replace

from experiments import paper
from experiments.command import main
from experiments.study import FULL, Plan

QUESTION = """\
How do r* and k* change with the number of training examples, from 100 to 10,000? The LoRA paper found that LoRA does
better than full fine-tuning at 100 examples and no worse at any size (Table 16)."""
PREDICTION = """\
(2026-11-27, before the runs) At 100 and 300 examples no rank is told from another: rank 1 matches full fine-tuning, or
the interval is wider than the margin. LoRA does not do better than full fine-tuning at 100 examples: no rank is surely
above it. At 1,000 examples rank 1 is short by 1 to 3 points, at 3,000 by 2, at 10,000 by 2 to 5, so that r* grows from
at most 1 to 8 or more; k* grows from at most 4 to 16 or more. Rank 64 matches at every size. Refuted where rank 1
matches at 10,000, or where r* falls from one size to the next larger.
(2026-11-28, before the runs: how this is decided) r* falls where its 95 % interval at the larger size lies wholly below
that at the smaller one; one that is not found counts as above every rank. A size at which no rank surely matches and
none surely falls short decides nothing. LoRA does better at 100 examples where the gain of rank 8 or 64 is surely above
half a point."""
COST = """\
About 150 runs, of which two run side by side for one to six minutes: two and a half hours on 2 cores, by the
time of the runs of `paper_subspaces`."""

RANKS = (1, 8, 64)
SECONDS = paper.SECONDS | {"final": 130.0}
"""Of final runs the mean over the arms. Full fine-tuning takes one core for 690 seconds, of which 520 are its cuts and
controls; LoRA takes 75."""
EPOCHS = {100: 30, 300: 10, 1000: 3, 3000: 1, 10_000: 1}
"""By the number of training examples: some 188 steps up to 3,000, and 625 at 10,000."""


def plan() -> Plan:
    """The grid."""
    sizes = {f"{count} examples": _size(count) for count in EPOCHS}
    plan = paper.plan(
        (paper.lora(rank) for rank in RANKS),
        factors={"examples": sizes},
        seconds=SECONDS,
        final={FULL: ("measure=controls",)},
        figures=("answer", "sizes", "cost", "functional", "trials"),
    )
    return replace(plan, protocol=replace(plan.protocol, extensions=2))


def _size(count: int) -> tuple[str, ...]:
    own = {3000: ()}.get(count, (f"train.epochs={EPOCHS[count]}",))
    split = ("task.validation_examples=1000", "task.test_examples=2000")
    return ("task=sarcasm", f"task.train_examples={count}", *split, *own)


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
