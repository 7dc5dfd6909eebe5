"""How low is the rank of what a language model learns, and what does it forget? SmolLM2 learns within 200 steps of 8
what it is bad at, and each arm is scored again on sentences of Wikipedia, before and after.

It grows task by task. Turkish is text far from what the model was trained on: speeches and letters of 1906 to 1938,
which are in the public domain. There the embeddings may matter, so full fine-tuning also runs without them, and a LoRA
with them.

RULE for "LoRA forgets less" (`analysis.limits`): full fine-tuning surely raises the loss on Wikipedia more than LoRA of
rank 8 does, on each task. It is refuted where it surely raises it less on each. What holds at equal norm stands beside.
"""

import random
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.command import main
from experiments.study import FULL, UNGROUPED, Plan, composed, full, lora
from lorax_lab.afterwards.forgetting import forgetting
from lorax_lab.afterwards.trained import Runs
from lorax_lab.config import TaskConfig
from lorax_lab.data.assets import cache_folder, fetch
from lorax_lab.data.built_in import read_boolq
from lorax_lab.record.files import write_csv
from lorax_lab.study.protocol import Arm, Protocol

RANKS = (1, 8, 64)
COMMON = (
    *("model=smollm2", "train.precision=bf16", "train.batch_size=8", "train.epochs=1", "train.validations=1"),
    *("task.train_examples=1600", "task.validation_examples=200", "task.test_examples=500"),
)
TEXT = ("task=local", "task.kind=language_modeling", "task.label=text", "task.few_shot=0")
SHORTEST, LONGEST = 40, 100
"""Characters of a piece of text, which is one sentence or some: about 37 tokens of Turkish."""
SCORED_PIECES, SCORED_EXAMPLES = 200, 100
"""How many pieces of Wikipedia, and test examples of each task, are scored before and after."""


def plan() -> Plan:
    arms = (
        full(3e-5),
        Arm("full without embeddings", ("method=full", "method.embeddings=false"), 3e-5),
        *(lora(rank, 3e-4) for rank in RANKS),
        lora(8, 1e-4, "method.others=true", name="LoRA r=8, with all else trained"),
    )
    return Plan(
        protocol=Protocol(arms, factor=3.0, extensions=2, final_seeds=(0, 1, 2, 3), margin=0.05),
        factors={"task": tasks()},
        common=COMMON,
        final={FULL: ("measure=test_cuts",)},
        figures=("answer", "arms", "forgetting", "spectral", "trials"),
        afterwards={"forgetting": forgotten},
        prepare=prepare,
    )


def tasks() -> dict[str, tuple[str, ...]]:
    """Overrides by task, in the order in which the study grows."""
    turkish = (*TEXT, f"task.path={turkish_table()}", "task.group=speech", "task.group_near_duplicates=true")
    return {
        "turkish": (*turkish, "task.name=turkish", "task.max_length=96"),
        "spelling": ("task=reasoning", "task.subset=spell_backward", "task.metric=nats", "task.max_length=96"),
    }


def turkish_table() -> Path:
    """Where the pieces of the speeches are kept, each with its speech."""
    return cache_folder() / "turkish.csv"


def wikipedia_table() -> Path:
    """Where pieces of Wikipedia are kept."""
    return cache_folder() / "wikipedia.csv"


def prepare() -> None:
    """Write the table of Turkish, if it is not there."""
    if not turkish_table().is_file():
        rows = [(piece, speech) for speech, text in speeches() for piece in pieces(text)]
        write_csv(turkish_table(), pd.DataFrame(rows, columns=["text", "speech"]).drop_duplicates("text"))


def speeches() -> list[tuple[str, str]]:
    """Name and text of each Turkish speech or letter, without the second editions in modern words."""
    query = "SELECT speech_id, body FROM speech_texts WHERE lang = 'tr' AND speech_id LIKE 'atam-%' ORDER BY speech_id"
    with closing(sqlite3.connect(f"file:{fetch('speeches')}?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()


def pieces(text: str) -> list[str]:
    """As many whole sentences as fit into a piece; those that are too short or too long are left out.

    >>> pieces("Short. " + "A sentence that is longer than forty characters. " * 2)
    ['Short. A sentence that is longer than forty characters.', 'A sentence that is longer than forty characters.']
    """
    made = [""]
    for sentence in re.split(r"(?<=[.!?…]) ", " ".join(text.split())):
        longer = f"{made[-1]} {sentence}".strip()
        made[-1:] = [longer] if len(longer) <= LONGEST else [made[-1], sentence]
    return [piece for piece in made if SHORTEST <= len(piece) <= LONGEST]


def write_wikipedia() -> None:
    """Write the first piece of each passage of Wikipedia, if they are not there."""
    if not wikipedia_table().is_file():
        questions = read_boolq(composed(("task=boolq",)).task).train
        passages = {str(question.inputs["text_pair"]).partition(" -- ")[2] for question in questions}
        firsts = [piece for passage in sorted(passages) for piece in pieces(passage)[:1]]
        write_csv(wikipedia_table(), pd.DataFrame({"text": random.Random(0).sample(firsts, 2 * SCORED_PIECES)}))


def other_texts() -> dict[str, TaskConfig]:
    """What the loss is read on before and after: Wikipedia, and test examples of each task."""
    write_wikipedia()
    wikipedia = (*TEXT, f"task.path={wikipedia_table()}", "task.name=wikipedia", "task.max_length=96")
    texts: dict[str, tuple[str, ...]] = {"wikipedia": (*wikipedia, f"task.test_examples={SCORED_PIECES}")}
    texts |= {name: (*overrides, f"task.test_examples={SCORED_EXAMPLES}") for name, overrides in tasks().items()}
    few = ("task.train_examples=8", "task.validation_examples=8")
    return {name: composed((UNGROUPED, *overrides, *few)).task for name, overrides in texts.items()}


def forgotten(runs: Runs) -> Iterator[dict[str, Any]]:
    """`lorax_lab.afterwards.forgetting` of one task's runs."""
    return forgetting(runs, other_texts(), FULL)


if __name__ == "__main__":
    raise SystemExit(main())
