"""Control of `experiments.language` by exact answers: does a language model need another rank to get them right than to
come close? Sums and differences of two numbers are a rule to learn, and where made-up people live are facts to keep.
The form of the answers alone brings next to nothing here.

Both take 600 steps of 8, as few are exact after 200 (`experiments.language_search`).
"""

from dataclasses import replace
from functools import partial

from experiments import language
from experiments.language_texts import path_of
from experiments.study import FULL, Plan

EXACT = ("task.metric=exact_match", "task.max_length=32")
sized = partial(language.sized, batch=8, test=500)


def plan() -> Plan:
    of_nats = language.plan()
    arms = of_nats.protocol.arms[:-1]  # rank 64 would cost a quarter of the time
    return replace(
        of_nats,
        protocol=replace(of_nats.protocol, arms=arms),
        factors={"task": tasks()},
        final={FULL: ("measure=k90",)},
        figures=("answer", "arms", "spectral", "trials"),
        afterwards={},
        control_of="language",
    )


def tasks() -> dict[str, tuple[str, ...]]:
    """Overrides by task. Sums are split as in no earlier run."""
    facts = (*language.ANSWERS, f"task.path={path_of('facts')}", "task.name=facts")
    return {
        "sums": ("task=arithmetic", "task.name=sums", *EXACT, *sized(4800), "task.split_seed=1"),
        "facts": (*facts, *EXACT, *sized(1600, passes=3)),
    }
