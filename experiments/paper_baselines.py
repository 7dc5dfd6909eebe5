"""In the place of the LoRA paper's Table 8: what a task can be solved with while no attention or feed-forward matrix is
updated."""

from experiments import paper
from experiments.command import main
from experiments.study import FULL, Plan
from lorax_lab.study.protocol import Arm, Protocol

USUAL = "task.pooling=own"


def plan() -> Plan:
    arms = (
        Arm(FULL, ("method=full",), 3e-5),
        Arm("head alone", ("method=head",), 1e-3),
        Arm("embeddings alone", ("method=embeddings",), 5e-4),
        Arm("norms and biases alone", ("method=norms_and_biases",), 5e-4),
        Arm("LoRA r=1", ("method=lora", "rank=1"), 4e-4),
    )
    pooled = {f"{name} with the usual head": (*overrides, USUAL) for name, overrides in paper.BEGUN.items()}
    linear = {name: (*overrides, *paper.COMMON[:1]) for name, overrides in paper.BEGUN.items()}
    protocol = Protocol(arms, rates=4, factor=3.0, extensions=1, loss_margin=0.03)  # one grid for either head
    factors = {"task": linear | pooled}
    return paper.plan((), protocol=protocol, factors=factors, common=paper.COMMON[1:], figures=paper.FIGURES)


if __name__ == "__main__":
    raise SystemExit(main())
