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
    task_of_controls,
)
from experiments.study import Plan, full, lora


def plan() -> Plan:
    """The grid."""
    arms = (full(LOWEST_OF_FULL), *(lora(rank, LOWEST_OF_LORA) for rank in (1, 8, 64)))
    return Plan(
        protocol=protocol_of_the_third_edition(arms, chosen_by_loss="log_loss"),
        factors=task_of_controls(),
        common=COMMON,
        final=FINAL,
        figures=("losses", "answer", "spectral", "trials"),
        control_of="rank_sweep_3",
    )


if __name__ == "__main__":
    raise SystemExit(main())
