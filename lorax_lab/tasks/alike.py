"""Training inputs that the model cannot tell apart, although their texts differ."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lorax_lab.errors import ConfigError, cut

if TYPE_CHECKING:
    from lorax_lab.tasks.split import Split

MANY = 0.5
"""The share of the training inputs from which on it is said that they are alike."""
LONGER = 4
"""How many times longer than the set one the proposed `task.max_length` is."""


def alike(split: Split, limit: int | None) -> list[str]:
    """What is to be said where more than half of the training inputs are the same tokens.

    Args:
        split: the training examples.
        limit: how many tokens the model reads; None where nothing bounds them.

    Raises:
        ConfigError: all of them are, so that nothing can be learned.
    """
    seen, kind = split.task.kind.seen, split.task.kind
    if seen is None or not split.task.train[0].inputs:
        return []
    inputs = [tuple(seen(row)) for row in split.rows]
    unk, special = getattr(split.processor, "unk_token_id", None), set(split.processor.all_special_ids)
    unknown = [unk in ids and special.issuperset(ids) for ids in inputs]
    keys = [() if strange else ids for ids, strange in zip(inputs, unknown, strict=True)]
    key, count = Counter(keys).most_common(1)[0]
    if count <= MANY * len(keys):
        return []
    first = keys.index(key)
    name, text = next(iter(split.task.train[first].inputs.items()))
    if unknown[first]:
        what, instead = "have no token that the tokenizer knows", f"name another model, or column in task.{name}"
    else:
        most = getattr(split.task.config, "max_length", None)
        what = "are the same tokens to the model"
        instead = _instead(most if most == kind.size(split.rows[first]) else None, limit, name)
    if count == len(keys):
        all_of = f"all {count} training inputs of task={split.task.config.name} {what}"
        raise ConfigError(f"{all_of}, and there is nothing to learn; {instead}")
    share = f"{count} of {len(keys)} training inputs ({count / len(keys):.0%}) {what}"
    return [f"{share}, such as {cut(text, 40)!r}; {instead}"]


def _instead(at: int | None, limit: int | None, name: str) -> str:
    """What to type where texts that differ are the same tokens.

    Args:
        at: the `task.max_length` at which they are cut; None where they are not.
    """
    if at is None:
        return f"name another column in task.{name}, or a model whose tokenizer tells these texts apart"
    longer = min(LONGER * at, limit or LONGER * at)
    if longer <= at:
        return f"they are cut at task.max_length={at}, all that the model reads: put what differs first"
    return f"they are cut at task.max_length={at}; type task.max_length={longer}"
