"""Every method of PEFT that changes weight matrices, as methods of the lab: `peft/lora`, `peft/oft` and so on.

What they are is in `peft_table.py`, what they do to a model in `peft_model.py`.
"""

from __future__ import annotations

import math
import warnings
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from lorax_lab.errors import ConfigError
from lorax_lab.methods import lora, peft_adalora, peft_model
from lorax_lab.methods.adapters import WEIGHTS
from lorax_lab.methods.method import Method, Shapes
from lorax_lab.methods.peft_model import REFUSALS, calm, drawn_from, turned
from lorax_lab.methods.peft_settings import PREFIX, PeftSettings, refusal, settings_of
from lorax_lab.methods.peft_table import LEFT_OUT, TABLE, Entry
from lorax_lab.models import Turned, is_read, like

INSTEAD = "type method=lora, or method.target_modules=[in_proj]"
CHANGED = r"Invalid .*Adjusted|The symmetric initialization can NOT be performed"
"""Warnings of PEFT that it takes another value or another start than the one that was set."""


def check(settings: PeftSettings, rank: int | None, shapes: Shapes) -> None:
    """PEFT is asked to adapt, run and merge one matrix of each shape, so that nothing is refused once runs train.

    Raises:
        ConfigError: PEFT cannot; the message has its reason and names the matrix.
    """
    if settings.entry.rank:
        lora.check(lora.LoraConfig(), rank, shapes)
    settings.check_ends(list(shapes))
    if read := next((name for name in shapes if is_read(name)), None):
        passed_by = f"Mamba reads the weight of {read} itself and would pass by a layer of PEFT"
        raise ConfigError(f"method={settings.name} is not possible for {read}: {passed_by}; {INSTEAD}")
    first_of = {(tuple(shape), isinstance(shape, Turned)): name for name, shape in reversed(shapes.items())}
    for name in reversed(first_of.values()):
        _try(settings, rank, name, shapes[name])


def _try(settings: PeftSettings, rank: int | None, name: str, shape: tuple[int, int]) -> None:
    """Adapt, run and merge one matrix. A start that takes an SVD is left out of it where another is as telling."""
    from peft import PeftModel

    draw = torch.Generator().manual_seed(0)
    config = settings.peft(rank, [name], draw, **{**turned(settings, {name: shape}), **settings.entry.quick})
    try:
        with drawn_from(draw), calm(), torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("error", message=CHANGED)
            model = _alone(name, shape)
            PeftModel(model, config)
            layer: Any = model.get_submodule(name)
            layer(torch.zeros(2, shape[1]))
            layer.merge()
    except REFUSALS as error:
        where = f" for {name}, {shape[0]} × {shape[1]}{' (stored as Conv1D)' * isinstance(shape, Turned)}"
        raise refusal(settings, rank, error, where) from error


def _alone(name: str, shape: tuple[int, int]) -> nn.Module:
    model = inside = nn.Module()
    *path, last = name.split(".")
    for part in path:
        inside.add_module(part, nn.Module())
        inside = inside.get_submodule(part)
    inside.add_module(last, like(shape))
    return model


def most_rank(settings: PeftSettings, rank: int | None, shape: tuple[int, int]) -> int:
    """The rank of ΔW at most: that of the table, or the smaller side."""
    most = settings.entry.most
    return min(shape) if most is None else math.ceil(min(most(settings, rank or 0), *shape))


def refused(name: str) -> str | None:
    """Why `peft/<name>` is left out, None where it is not."""
    reason = LEFT_OUT.get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
    return reason and f"method={name} is not possible: {reason}; docs/methods.md lists those that are"


class PeftMethod(Method[PeftSettings]):
    """A method of PEFT. Its settings are PEFT's own, so PEFT is imported when they are first asked for."""

    name: str

    def __init__(self, name: str, entry: Entry) -> None:
        parts: dict[str, Any] = {
            "name": name, "weights": WEIGHTS, "attach": peft_model.attach, "updates": peft_model.updates,
            "export": peft_model.export, "merge": peft_model.merge, "unmerge": peft_model.unmerge, "check": check,
            "load": partial(peft_model.load, name, entry),
            "saved_updates": partial(peft_model.saved_updates, name, entry), "start": entry.start,
            "update_rank": "full" if entry.most is None else "bounded", "most_rank": most_rank,
            "update_dtype": entry.computed_in, "has_rank": bool(entry.rank),
        }  # fmt: skip
        if entry.stepped:
            parts |= {"penalty": peft_adalora.penalty, "stepped": peft_adalora.stepped, "plans_steps": True}
        for key, value in parts.items():
            object.__setattr__(self, key, value)

    @cached_property
    def settings(self) -> type[PeftSettings]:
        """The dataclass of its settings."""
        return settings_of(self.name)


METHODS: dict[str, Method[Any]] = {PREFIX + name: PeftMethod(PREFIX + name, entry) for name, entry in TABLE.items()}
