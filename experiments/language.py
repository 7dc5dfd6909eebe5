"""How low is the rank of what a language model learns, and what does it forget? SmolLM2 learns within 200 steps what it
is bad at. Each arm is scored again on sentences of Wikipedia, before and after, where it learned Turkish or
spelling.

It grows task by task, by what `experiments.language_search` finds. `experiments.language_answers` counts exact answers,
and `experiments.language_parts` asks which part of the model learns Turkish.

RULE for "LoRA forgets less" (`analysis.limits`): full fine-tuning surely raises the loss on Wikipedia more than LoRA of
rank 8 does, on each of the two tasks. It is refuted where it surely raises it less on each. What holds at equal norm
stands beside.
"""

from collections.abc import Iterator
from typing import Any

from experiments.language_texts import path_of, prepare
from experiments.study import FULL, UNGROUPED, Plan, composed, full, lora
from lorax_lab.afterwards.forgetting import forgetting
from lorax_lab.afterwards.trained import Runs
from lorax_lab.config import TaskConfig
from lorax_lab.study.protocol import Protocol

RANKS = (1, 8, 64)
LOWEST_OF_FULL, LOWEST_OF_LORA, MARGIN = 9e-5, 9e-4, 0.05
COMMON = ("model=smollm2", "train.precision=fp32", "train.validations=1", "task.kind=language_modeling")
TURKISH, SPELLING = "turkish", "spelling"
SCORED_PIECES, SCORED_EXAMPLES = 200, 50
"""How many pieces of Wikipedia, and test examples of Turkish and of spelling, are scored before and after."""


def plan() -> Plan:
    arms = (full(LOWEST_OF_FULL), *(lora(rank, LOWEST_OF_LORA) for rank in RANKS))
    return Plan(
        protocol=Protocol(arms, factor=3.0, extensions=2, margin=MARGIN),
        factors={"task": tasks()},
        common=COMMON,
        final={FULL: ("measure=test_cuts",)},
        figures=("answer", "arms", "forgetting", "spectral", "trials"),
        afterwards={"forgetting": forgotten},
        prepare=prepare,
    )


def sized(examples: int = 800, passes: int = 1, batch: int = 4, test: int = 300) -> tuple[str, ...]:
    """How much a run trains on, and how much it is scored on."""
    held_out = ("task.validation_examples=200", f"task.test_examples={test}")
    return (f"train.batch_size={batch}", f"train.epochs={passes}", f"task.train_examples={examples}", *held_out)


TEXT = ("task=local", "task.label=text", "task.max_length=96", "task.few_shot=0", *sized())
ANSWERS = ("task=local", "task.prompt=prompt", "task.label=answer")


def tasks() -> dict[str, tuple[str, ...]]:
    """Overrides by task, in the order in which the study grows."""
    turkish = (f"task.path={path_of(TURKISH)}", "task.group=speech", "task.group_near_duplicates=true")
    return {
        TURKISH: (*TEXT, *turkish, "task.name=turkish"),
        SPELLING: (
            *("task=reasoning", "task.subset=spell_backward", "task.name=spelling"),
            *("task.metric=nats", "task.max_length=96", *sized()),
        ),
        "instructions": (
            *(*ANSWERS, f"task.path={path_of('instructions')}", "task.name=instructions", "task.chat=true"),
            *("task.group_near_duplicates=true", "task.metric=nats", "task.max_length=192"),
            *sized(400, batch=2, test=150),
        ),
    }


def scored() -> dict[str, TaskConfig]:
    """What the loss is read on before and after."""
    wikipedia = (f"task.path={path_of('wikipedia')}", "task.name=wikipedia", f"task.test_examples={SCORED_PIECES}")
    texts: dict[str, tuple[str, ...]] = {"wikipedia": (*TEXT, *wikipedia)}
    for name in (TURKISH, SPELLING):
        texts[name] = (*tasks()[name], f"task.test_examples={SCORED_EXAMPLES}")
    few = ("task.train_examples=8", "task.validation_examples=8")
    return {name: composed((UNGROUPED, *COMMON, *overrides, *few)).task for name, overrides in texts.items()}


def forgotten(runs: Runs) -> Iterator[dict[str, Any]]:
    """`lorax_lab.afterwards.forgetting` of the runs on Turkish or spelling; of no other, as it takes an hour."""
    if next(iter(runs.values())).config.task.name in (TURKISH, SPELLING):
        yield from forgetting(runs, scored(), FULL)
