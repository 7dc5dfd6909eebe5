"""Three splits that share no content and no group, fixed by the data's hash and `task.split_seed`. Where a task is
memorised, they are the training examples three times."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from lorax_lab.config import TaskConfig
from lorax_lab.data.source import Example, Pools, content_key
from lorax_lab.errors import ConfigError

SHARE = 0.1
"""Share of the rows that test and validation each get where their numbers are not set."""

FEWEST = 2
"""Test examples of one's own data, at least: a score of one has no interval."""

Unit = list[Example]


def split(
    pools: Pools, config: TaskConfig, sha256: str
) -> tuple[tuple[list[Example], list[Example], list[Example]], dict[str, int]]:
    """Train, validation and test, and how many rows were left out and why.

    Test is taken first, then validation, then train from the rest, so that 500 training examples are the first 500 of
    1,500. Classes have the same shares in all three. With `memorise` nothing is set aside.

    Raises:
        ConfigError: fewer rows than are asked for; says how many there are and what to type.
    """
    pools, dropped = disjoint(pools)
    rng = np.random.default_rng([config.split_seed, int(sha256[:16], 16)])
    stratify = bool(pools.classes)
    _require_rows(pools, config, dropped)
    if config.memorise:
        train = list(chain(*order(pools.train, stratify, rng)))[: config.train_examples]
        return (train, train, train), dropped
    units = {role: order(getattr(pools, role) or [], stratify, rng) for role in ("test", "validation", "train")}
    parts = {}
    for role in ("test", "validation"):
        pool, source = getattr(pools, role), _source(pools, role)
        everything = max(1, round(SHARE * len(pools.train))) if pool is None else len(pool)
        parts[role], units[source] = carve(units[source], getattr(config, f"{role}_examples") or everything)
    train = list(chain(*units["train"]))[: config.train_examples]
    if not (train and parts["validation"] and parts["test"]):
        maker = f"task.group={config.group}" if config.group else f"task={config.name}"
        too_large = f"{maker} makes groups too large to fill three splits of {pools.where}"
        raise ConfigError(f"{too_large}; ask for more in task.test_examples and task.validation_examples")
    if config.path is not None and len(parts["test"]) < FEWEST:
        enough = f"{round((FEWEST - 0.5) / SHARE)} rows or more" if pools.test is None else "more test rows"
        one = f"{pools.where} has {len(pools.train)} rows for training, and one for test{_after(dropped)}"
        raise ConfigError(f"{one}; the score of one example has no interval; give it {enough}")
    return (train, parts["validation"], parts["test"]), dropped


def _after(dropped: dict[str, int]) -> str:
    lost = sum(dropped.values())
    return f" after {lost} unlabeled, blank, duplicate, conflicting or overlapping rows are left out" if lost else ""


def _source(pools: Pools, role: str) -> str:
    return "train" if getattr(pools, role) is None else role


def disjoint(pools: Pools) -> tuple[Pools, dict[str, int]]:
    """The same pools with each content once, in the order test, validation, train. Copies that agree on the label
    become one, copies that disagree are removed. What a pool has is left out of the later ones (`overlap`)."""
    dropped = Counter(unlabeled=pools.unlabeled, blank=pools.blank, duplicate=0, conflicting=0, overlap=0)
    contents: set[tuple[str, ...]] = set()
    groups: set[str | None] = set()
    left: dict[str, Any] = {}
    for role in ("test", "validation", "train"):
        pool: list[Example] | None = getattr(pools, role)
        if pool is not None:
            copies: dict[tuple[str, ...], list[Example]] = defaultdict(list)
            for example in pool:
                key = content_key(example)
                if key in contents or example.group in groups:
                    dropped["overlap"] += 1
                else:
                    copies[key].append(example)
            pool = _each_once(copies.values(), dropped)
            contents |= copies.keys()
            groups |= {example.group for example in pool if example.group is not None}
        left[role] = pool
    return replace(pools, **left), dict(dropped)


def _each_once(copies: Iterable[list[Example]], dropped: Counter[str]) -> list[Example]:
    once = []
    for same in copies:
        agree = len({example.label for example in same}) == 1
        once += same[:1] if agree else []
        dropped["duplicate" if agree else "conflicting"] += len(same) - agree
    return once


def order(examples: list[Example], stratify: bool, rng: np.random.Generator) -> list[Unit]:
    """The examples' groups (each ungrouped example is its own) in a random order. Every beginning of it has the shares
    of the classes: the i-th of a class's n groups stands at (i + ½) / n of the way."""
    units: dict[tuple[bool, str], Unit] = {}
    for i, example in enumerate(examples):
        key = (True, example.group) if example.group is not None else (False, str(i))
        units.setdefault(key, []).append(example)
    listed = list(units.values())
    shuffled = [listed[i] for i in rng.permutation(len(listed))]
    if not stratify:
        return shuffled
    sizes, seen = Counter(unit[0].label for unit in shuffled), Counter[float | str]()
    placed = []
    for unit in shuffled:
        label = unit[0].label
        placed.append(((seen[label] + 0.5) / sizes[label], unit))
        seen[label] += 1
    return [unit for _, unit in sorted(placed, key=lambda pair: pair[0])]


def carve(units: list[Unit], count: int) -> tuple[list[Example], list[Unit]]:
    """The first groups that fit into `count` examples, whole, and the groups that are left."""
    taken: list[Example] = []
    left: list[Unit] = []
    for unit in units:
        if len(taken) + len(unit) <= count:
            taken += unit
        else:
            left.append(unit)
    return taken, left


def _require_rows(pools: Pools, config: TaskConfig, dropped: dict[str, int]) -> None:
    roles = ("train",) if config.memorise else ("train", "test", "validation")
    for pool in roles:
        sizes = {role: getattr(config, f"{role}_examples") for role in roles if _source(pools, role) == pool}
        rows = len(getattr(pools, pool) or [])
        if rows < sum(size or 1 for size in sizes.values()):
            wanted = " ".join(f"task.{role}_examples={size or 'null'}" for role, size in sizes.items())
            everything = " ".join(f"task.{role}_examples=null" for role in sizes)
            too_few = f"{pools.where} has {rows} rows for {pool}{_after(dropped)}, too few for {wanted}"
            raise ConfigError(f"{too_few}; type smaller numbers, or {everything} for all rows")
