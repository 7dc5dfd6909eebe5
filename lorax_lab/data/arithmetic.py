"""Sums and differences of two numbers, made here from a fixed seed."""

from __future__ import annotations

import hashlib
import json
import random
from functools import lru_cache

from lorax_lab.config import TaskConfig
from lorax_lab.data.source import Example, Pools, Source

COUNT = 8000
LARGEST = 99


def read(config: TaskConfig) -> Pools:
    """Every problem. The two orders of a sum, which have one answer, are one group."""
    return Pools("arithmetic", (), list(problems()))


@lru_cache(maxsize=1)
def problems() -> tuple[Example, ...]:
    """`COUNT` different problems of numbers from 1 to `LARGEST`, as prompt and completion.

    >>> problems()[0].inputs["prompt"], problems()[0].label, problems()[0].group
    ('63 + 73 =', '136', '63 + 73')
    """
    draw, made = random.Random("arithmetic"), dict[str, Example]()
    while len(made) < COUNT:
        first, second = draw.randint(1, LARGEST), draw.randint(1, LARGEST)
        low, high = sorted((first, second))
        if draw.choice((True, False)):
            prompt, answer, group = f"{first} + {second} =", first + second, f"{low} + {high}"
        else:
            prompt, answer, group = f"{high} - {low} =", high - low, f"{high} - {low}"
        made[prompt] = Example({"prompt": prompt}, str(answer), group)
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
)
