"""Control of the third edition: what LoRA's plateau lacks. From rank 8 on it does not get better, and stays short of
full fine-tuning, which also trains embeddings, norms and biases.
"""

from experiments.command import main
from experiments.rank_sweep_3 import FINAL, LOWEST_OF_FULL, LOWEST_OF_LORA, control_of_the_third_edition
from experiments.study import Plan, full, lora
from lorax_lab.study.protocol import Arm

NO_EMBEDDINGS, MATRICES = "full without embeddings", "full, matrices alone"
WIDTH = 384
"""The smaller side of every matrix: LoRA of this rank can make any update."""


def plan() -> Plan:
    arms = (
        full(LOWEST_OF_FULL),
        Arm(NO_EMBEDDINGS, ("method=full", "method.embeddings=false"), LOWEST_OF_FULL),
        Arm(MATRICES, ("method=full", "method.others=false"), LOWEST_OF_FULL),
        *(lora(rank, LOWEST_OF_LORA) for rank in (8, 64, WIDTH)),
        lora(8, LOWEST_OF_LORA, "method.others=true", name="LoRA r=8 with the rest"),
    )
    final = FINAL | dict.fromkeys((NO_EMBEDDINGS, MATRICES), ("measure=k90",))
    return control_of_the_third_edition(arms, ("arms", "answer", "spectral", "trials"), final)


if __name__ == "__main__":
    raise SystemExit(main())
