"""Control of the third edition: subspaces whose projection is isometric, as in the papers. With few numbers a weight
then moves by a small share of the learning rate, and the head by all of it.
"""

from experiments.command import main
from experiments.rank_sweep_3 import DIMENSIONS, LOWEST_OF_FULL, LOWEST_OF_LORA, control_of_the_third_edition
from experiments.study import Plan, full, lora
from lorax_lab.study.protocol import Arm

LOWEST = dict(zip(DIMENSIONS, (1e-2, 9e-2, 3e-2, 3e-3, 5e-4), strict=True))
"""Lowest learning rates of the grids."""


def plan() -> Plan:
    """The grid. Full fine-tuning and LoRA of rank 8 are the edition's."""
    arms = (full(LOWEST_OF_FULL), lora(8, LOWEST_OF_LORA), *map(isometric, DIMENSIONS))
    return control_of_the_third_edition(arms, ("answer", "trials"))


def isometric(dimension: int) -> Arm:
    """A random subspace of all adapted matrices, where P z has the norm of z."""
    overrides = ("method=subspace", f"method.dimension={dimension}", "method.scale=norm")
    return Arm(f"isometric subspace d={dimension}", overrides, LOWEST[dimension])


if __name__ == "__main__":
    raise SystemExit(main())
