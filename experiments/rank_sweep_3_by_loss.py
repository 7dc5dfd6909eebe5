"""Control of the third edition: rates are chosen by log loss on validation, not by accuracy. Trials, and final runs
whose rate is the same, are those of the edition.
"""

from experiments.command import main
from experiments.rank_sweep_3 import LOWEST_OF_FULL, LOWEST_OF_LORA, control_of_the_third_edition
from experiments.study import Plan, full, lora


def plan() -> Plan:
    arms = (full(LOWEST_OF_FULL), *(lora(rank, LOWEST_OF_LORA) for rank in (1, 8, 64)))
    return control_of_the_third_edition(arms, ("losses", "answer", "spectral", "trials"), chosen_by_loss="log_loss")


if __name__ == "__main__":
    raise SystemExit(main())
