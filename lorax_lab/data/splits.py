"""Three splits that share no content and no group, fixed by the data's hash and `task.split_seed`. Where a task is
memorised, they are the training examples three times."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from lorax_lab.config import TaskConfig
from lorax_lab.data.source import Example, Pools, content_key
from lorax_lab.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

SHARE = 0.1
"""Share of the rows that test and validation each get where their numbers are not set."""

Unit = list[Example]


def split(
    pools: Pools, config: TaskConfig, sha256: str
) -> tuple[tuple[list[Example], list[Example], list[Example]], dict[str, int]]:
    """Train, validation and test, and how many rows were left out and why.

    Test is taken first, then validation, then train from the rest. So neither of the first two depends on
    `train_examples`, and 500 training examples are the first 500 of 1,500. Classes have the same shares in all three.
    With `memorise` nothing is set aside for validation and test, which are the training examples.

    Raises:
        ConfigError: fewer rows than are asked for; says how many there are and what to type.
    """
    import numpy as np

    if config.split_seed < 0:
        raise ConfigError(f"task.split_seed={config.split_seed} is not possible: 0 or more")
    pools, dropped = disjoint(pools)
    _require_rows(pools, config, dropped)
    rng = np.random.default_rng([config.split_seed, int(sha256[:16], 16)])
    stratify = bool(pools.classes)
    if config.memorise:
        train = [example for unit in order(pools.train, stratify, rng) for example in unit][: config.train_examples]
        return (train, train, train), dropped
    own_test = order(pools.test or [], stratify, rng)
    own_validation = order(pools.validation or [], stratify, rng)
    rest = order(pools.train, stratify, rng)
    sizes = asked(pools, config)
    if pools.test is None:
        test, rest = carve(rest, sizes["test"])
    else:
        test, _ = carve(own_test, sizes["test"])
    if pools.validation is None:
        validation, rest = carve(rest, sizes["validation"])
    else:
        validation, _ = carve(own_validation, sizes["validation"])
    train = [example for unit in rest for example in unit][: config.train_examples]
    if not (train and validation and test):
        maker = f"task.group={config.group}" if config.group else f"task={config.name}"
        too_large = f"{maker} makes groups too large to fill three splits of {pools.where}"
        raise ConfigError(f"{too_large}; ask for more in task.test_examples and task.validation_examples")
    return (train, validation, test), dropped


def asked(pools: Pools, config: TaskConfig) -> dict[str, int]:
    """How many examples validation and test should have; whole groups may fill less.

    Args:
        pools: `disjoint` ones.
    """
    share = max(1, round(SHARE * len(pools.train)))
    own = {"validation": pools.validation, "test": pools.test}
    everything = {role: share if pool is None else len(pool) for role, pool in own.items()}
    return {role: getattr(config, f"{role}_examples") or count for role, count in everything.items()}


def disjoint(pools: Pools) -> tuple[Pools, dict[str, int]]:
    """The same pools with each content once, in the order test, validation, train.

    Copies that agree on the label become one. Copies that disagree are all removed, since none of their labels can be
    trusted. Content and groups of a pool are left out of the later pools (`overlap`).
    """
    dropped = Counter(unlabeled=pools.unlabeled, blank=pools.blank, duplicate=0, conflicting=0, overlap=0)
    contents: set[tuple[str, ...]] = set()
    groups: set[str | None] = set()
    kept: dict[str, list[Example] | None] = {}
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
        kept[role] = pool
    train = kept["train"] or []
    return replace(pools, train=train, validation=kept["validation"], test=kept["test"]), dict(dropped)


def _each_once(copies: Iterable[list[Example]], dropped: Counter[str]) -> list[Example]:
    kept = []
    for same in copies:
        agree = len({example.label for example in same}) == 1
        kept += same[:1] if agree else []
        dropped["duplicate" if agree else "conflicting"] += len(same) - agree
    return kept


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
    lost = sum(dropped.values())
    after = f" after {lost} unlabeled, blank, duplicate, conflicting or overlapping rows are left out" if lost else ""
    carved = ["train"]
    for role in () if config.memorise else ("test", "validation"):
        own: list[Example] | None = getattr(pools, role)
        asked = getattr(config, f"{role}_examples")
        if own is None:
            carved.append(role)
        elif len(own) < (asked or 1):
            too_few = f"{pools.where} has {len(own)} rows of its own for {role}{after}, too few"
            known = f"task.{role}_examples={asked}; type task.{role}_examples=null for all"
            raise ConfigError(f"{too_few} for {known}, or a smaller number")
    keys = [f"task.{role}_examples" for role in carved]
    asked = {key: getattr(config, key.removeprefix("task.")) for key in keys}
    if len(pools.train) < sum(number or 1 for number in asked.values()):
        wanted = " ".join(f"{key}={'null' if number is None else number}" for key, number in asked.items())
        everything = " ".join(f"{key}=null" for key in keys)
        too_few = f"{pools.where} has {len(pools.train)} rows{after}, too few for {wanted}"
        raise ConfigError(f"{too_few}; type smaller numbers, or {everything} for all rows")
