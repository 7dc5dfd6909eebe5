"""Control of the third edition: rates are chosen by log loss on validation, not by accuracy. Trials, and final runs
whose rate is the same, are those of the edition.
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

QUESTION = """
Where rates are chosen by log loss, does LoRA reach the log loss of full fine-tuning, and from which rank on?
"""
PREDICTION = """
(2026-11-30, before the runs.) By log loss lower rates are chosen, for full fine-tuning more so than for LoRA, since it
is the sooner sure of wrong answers. Then no rank is surely better in log loss than full fine-tuning, as LoRA was in 8
of 27 conditions that chose by accuracy. This is refuted on a task where some rank surely is. Rank 8 has at most .03
nats more than full fine-tuning on sarcasm and movie_reviews; rank 1 more than that on both clozes.
"""
COST = """
Trials are those of the third edition; final runs are new only where the rate is another one: at most 32 a task, 20 to
40 minutes on 2 cores of an Intel Xeon (family 6, model 207).
"""
TASKS = ("sarcasm", "cloze_96", "movie_reviews", "cloze")


def plan() -> Plan:
    """The grid."""
    arms = (full(LOWEST_OF_FULL), *(lora(rank, LOWEST_OF_LORA) for rank in (1, 8, 64)))
    tasks = tasks_of_the_third_edition()
    return Plan(
        protocol=protocol_of_the_third_edition(arms, chosen_by_loss="log_loss"),
        factors={"task": {name: tasks[name] for name in TASKS}},
        common=COMMON,
        final=FINAL,
        control_of="rank_sweep_3",
        prepare=write_clozes,
    )


if __name__ == "__main__":
    raise SystemExit(main())
