"""Tables 16 and 17 of the LoRA paper: full fine-tuning and LoRA with few and with many examples."""

from experiments import paper
from experiments.command import main
from experiments.study import FULL, Plan

RANKS = (1, 8, 64)
EPOCHS = {100: 30, 300: 10, 1000: 3, 3000: 1, 10_000: 1}
"""By the number of training examples: some 188 steps up to 3,000, and 625 at 10,000."""


def plan() -> Plan:
    sizes = {f"{count} examples": _size(count) for count in EPOCHS}
    return paper.plan(
        (paper.lora(rank) for rank in RANKS),
        extensions=2,
        factors={"examples": sizes},
        final={FULL: ("measure=controls",)},
        figures=("answer", "sizes", "cost", "functional", "trials"),
    )


def _size(count: int) -> tuple[str, ...]:
    length = {3000: ()}.get(count, (f"train.epochs={EPOCHS[count]}",))
    split = ("task.validation_examples=1000", "task.test_examples=2000")
    return ("task=sarcasm", f"task.train_examples={count}", *split, *length)


if __name__ == "__main__":
    raise SystemExit(main())
