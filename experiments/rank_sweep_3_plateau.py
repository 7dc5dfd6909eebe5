"""Control of the third edition: what LoRA's plateau lacks. From rank 8 on it does not get better, and stays short of
full fine-tuning, which also trains embeddings, norms and biases.
"""

from __future__ import annotations

from experiments.command import main
from experiments.rank_sweep_3 import (
    COMMON,
    FINAL,
    LOWEST_OF_FULL,
    LOWEST_OF_LORA,
    protocol_of_the_third_edition,
    tasks_of_the_third_edition,
    write_clozes,
)
from experiments.study import Plan, full, lora
from lorax_lab.study.protocol import Arm

QUESTION = """
Does what LoRA lacks against full fine-tuning vanish where both train the same weights: embeddings, norms and biases in
both, or in neither? Does it vanish where LoRA's rank is that of any matrix, 384?
"""
PREDICTION = """
(2026-11-30, before the runs.) In the second edition ranks 8, 16 and 64 stay .003 to .004 below full fine-tuning, and a
larger rank does not help. I expect that what is trained besides explains it: full fine-tuning of the matrices alone is
within .003 of rank 64 on both tasks in the mean, and rank 8 with the rest is better than rank 8 on both. This is
refuted where the matrices alone are surely better than rank 64 by more than .003, or rank 8 surely better than rank 8
with the rest. Rank 384 is within .003 of rank 64 on sarcasm; where it is surely better, rank is what LoRA lacks.
Power by the second edition's variances: a difference of .005 to full fine-tuning is sure in .36 to .43 of such studies
on sarcasm, .16 to .20 on cloze; between two ranks in .95 on sarcasm.
"""
COST = """
Runs of full fine-tuning and of ranks 8 and 64 are those of the third edition; four arms of 14 runs or more are its own:
about 40 minutes for sarcasm and an hour and a quarter for cloze_96 on 2 cores of an Intel Xeon (family 6, model 207).
"""
TASKS = ("sarcasm", "cloze_96")
NO_EMBEDDINGS, MATRICES = "full without embeddings", "full, matrices alone"
WIDTH = 384
"""The smaller side of every matrix: LoRA of this rank can make any update."""


def plan() -> Plan:
    """The grid."""
    arms = (
        full(LOWEST_OF_FULL),
        Arm(NO_EMBEDDINGS, ("method=full", "method.embeddings=false"), LOWEST_OF_FULL),
        Arm(MATRICES, ("method=full", "method.others=false"), LOWEST_OF_FULL),
        *(lora(rank, LOWEST_OF_LORA) for rank in (8, 64, WIDTH)),
        lora(8, LOWEST_OF_LORA, "method.others=true", name="LoRA r=8 with the rest"),
    )
    tasks = tasks_of_the_third_edition()
    return Plan(
        protocol=protocol_of_the_third_edition(arms),
        factors={"task": {name: tasks[name] for name in TASKS}},
        common=COMMON,
        final=FINAL | dict.fromkeys((NO_EMBEDDINGS, MATRICES), ("measure=k90",)),
        control_of="rank_sweep_3",
        prepare=write_clozes,
    )


if __name__ == "__main__":
    raise SystemExit(main())
