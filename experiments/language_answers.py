"""Control of `experiments.language` by exact answers: does a language model need another rank to get them right than to
come close? Sums and differences of two numbers are a rule to learn, and where made-up people live are facts to keep.
The form of the answers alone brings next to nothing here.

Both take 600 steps of 8, as few are exact after 200 (`experiments.language_search`).
"""

from dataclasses import replace

from experiments import language
from experiments.command import main
from experiments.language_texts import path_of
from experiments.study import Plan

EXACT = ("task.metric=exact_match", "task.max_length=32")


def plan() -> Plan:
    return replace(
        language.plan(),
        factors={"task": tasks()},
        figures=("answer", "arms", "spectral", "trials"),
        afterwards={},
        control_of="language",
    )


def tasks() -> dict[str, tuple[str, ...]]:
    """Overrides by task. Sums are split as in no earlier run."""
    facts = (*language.ANSWERS, f"task.path={path_of('facts')}", "task.name=facts")
    return {
        "sums": ("task=arithmetic", "task.name=sums", *EXACT, *language.sized(4800), "task.split_seed=1"),
        "facts": (*facts, *EXACT, *language.sized(passes=3)),
    }


if __name__ == "__main__":
    raise SystemExit(main())
