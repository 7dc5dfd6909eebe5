"""Sums and differences of two or three numbers, made here from a fixed seed."""

from __future__ import annotations

import hashlib
import json
import random
from functools import lru_cache

from lorax_lab.config import TaskConfig
from lorax_lab.data.cards import Card
from lorax_lab.data.examples import Example, Pools
from lorax_lab.data.source import Source

COUNT = 8000
LARGEST = 20


def read(config: TaskConfig) -> Pools:
    """Every problem. Problems with the same terms in another order, which have one answer, are one group."""
    return Pools("arithmetic", (), list(problems()))


@lru_cache(maxsize=1)
def problems() -> tuple[Example, ...]:
    """`COUNT` different problems of numbers from 1 to `LARGEST`, as prompt and completion.

    >>> problems()[0].inputs["prompt"], problems()[0].label, problems()[0].group
    ('19 - 1 + 9 =', '27', '-1 +9 +19')
    """
    draw, made = random.Random("arithmetic"), dict[str, Example]()
    while len(made) < COUNT:
        first, *others = [draw.randint(1, LARGEST) for _ in range(draw.choice((2, 3)))]
        terms = [first, *(number * draw.choice((1, -1)) for number in others)]
        prompt = " ".join([str(first), *(f"{'-' if term < 0 else '+'} {abs(term)}" for term in terms[1:]), "="])
        group = " ".join(f"{term:+}" for term in sorted(terms))
        made[prompt] = Example({"prompt": prompt}, str(sum(terms)), group)
    return tuple(made.values())


def data_sha256(config: TaskConfig) -> str:
    """The hash of the problems."""
    content = [[example.inputs["prompt"], example.label] for example in problems()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


SOURCE = Source(
    read,
    data_sha256,
    labels=("texts",),
    inputs={"prompt": "text"},
    card=Card(
        what="sums and differences of two or three numbers up to 20",
        rows=COUNT,
        examples=COUNT,
        classes=(),
        largest=0.023,
        metrics=("nats",),
        licence="made by the lab",
        source="`lorax_lab/data/arithmetic.py`",
    ),
)
