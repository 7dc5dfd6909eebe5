"""Control of the third edition: does AdaLoRA, which spreads a rank of 8 over the matrices while it trains (Zhang et al.
2023), do better than a rank of 8 in each? Its other runs are the edition's.
"""

from experiments.rank_sweep_2 import write_cloze
from experiments.rank_sweep_3 import (
    COMMON,
    EACH,
    FINAL,
    LOWEST_OF_FULL,
    LOWEST_OF_LORA,
    protocol_of_the_third_edition,
    tasks_of_the_third_edition,
)
from experiments.study import Plan, full, lora
from lorax_lab.study.protocol import Arm

TASKS = ("movie_reviews", "cloze")
ADALORA = ("method=peft/adalora", "rank=8", "method.tinit=20", "method.tfinal=60")
"""It cuts from step 20 until 60 steps before the end, of 188 and 450."""


def plan() -> Plan:
    arms = (
        full(LOWEST_OF_FULL),
        *(lora(rank, LOWEST_OF_LORA) for rank in (1, 8, 16, 24, 64)),
        Arm("AdaLoRA r=8", ADALORA, LOWEST_OF_LORA),
    )
    tasks = {name: words for name, words in tasks_of_the_third_edition().items() if name in TASKS}
    return Plan(
        protocol=protocol_of_the_third_edition(arms),
        factors={"task": tasks},
        common=COMMON,
        final=FINAL,
        figures=("arms", "trials", "cost"),
        control_of="rank_sweep_3",
        against=("LoRA r=8", "LoRA r=16"),
        prepare=lambda: write_cloze(EACH),
    )
