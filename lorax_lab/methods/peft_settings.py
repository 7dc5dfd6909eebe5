"""The settings of a PEFT method: a dataclass made from PEFT's own, and PEFT's own made from it.

Every setting has PEFT's name. Those in the method's file in `conf/method/peft/` always count in run identity; the
others are left out of it where they stand at PEFT's default, so that a setting of a later PEFT renames no run.
"""

from __future__ import annotations

import dataclasses
import math
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import torch

from lorax_lab.config import MethodConfig
from lorax_lab.config.checks import require
from lorax_lab.config.defaults import method_defaults
from lorax_lab.errors import ConfigError, first_line, suggest
from lorax_lab.methods.peft_table import TABLE, Entry
from lorax_lab.models import short_name

PREFIX = "peft/"
OURS = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "bias")
"""What the lab decides alike for every method: the matrices, the head, and that biases are frozen."""
INSIDE = re.compile(r".*(_config|_pattern|_invocation_tokens|_token_indices)|use_(bdlora|qalora)|qalora_.*")
OTHERS = (
    "fan_in_fan_out", "inference_mode", "megatron_core", "layer_replication", "target_parameters",
    "ensure_weight_tying", "lora_bias", "total_step", "save_projection", "save_indices", "sample_at_inference",
    "use_effective_conv2d", "runtime_offload_base_weight", "save_only_topk_weights", "save_precomputed_indices",
)  # fmt: skip
"""Settings that are no hyper-parameters of one matrix's update, or that the lab sets."""
SEEDS = (
    "projection_prng_key", "random_loc_seed", "random_seed", "proj_seed", "projection_seed", "generator_seed",
)  # fmt: skip
"""Seeds of PEFT's own; null draws them from the run's seed."""
ENDS = {"feedforward_modules"}
"""Settings that list ends of names, some of the targets."""
RANGES = {
    **dict.fromkeys(("lora_alpha", "alpha", "randlora_alpha", "psoft_alpha", "delora_lambda", "scaling"), "above 0"),
    "deltaT": "of 1 or more", "tinit": "of 0 or more", "tfinal": "of 0 or more",
}  # fmt: skip
"""Numbers that PEFT takes as they come: a scaling of 0 leaves ΔW at 0, and a step of 0 ends the run in an error."""
IN_RANGE: dict[str, Callable[[float], bool]] = {
    "above 0": lambda value: value > 0,
    "of 1 or more": lambda value: value >= 1,
    "of 0 or more": lambda value: value >= 0,
}
BAD_STARTS: dict[str, tuple[dict[str, bool], str]] = {
    "peft/tinylora": ({"init_weights": False}, "PEFT then starts from numbers that nobody drew"),
    "peft/hra": (
        {"apply_GS": True, "init_weights": True},
        "the start is of pairs of equal vectors, and what is left of the second one is rounding; "
        "type method=peft/hra method.apply_GS=true method.init_weights=false",
    ),
}
"""Settings with which PEFT starts from what memory happens to hold, or from rounding errors; and why."""
STARTS = (True, "gaussian", "orthogonal")
"""Values of init_lora_weights that leave W0 as it is and start at ΔW = 0; the others are methods of their own."""
EXAMPLE_RANK = 4
"""Stands for the rank where settings are checked without one."""


@dataclass
class PeftSettings(MethodConfig):
    """The settings of the PEFT method of that name; see `settings_of`."""

    PACKAGES: ClassVar[tuple[str, ...]] = ("peft",)

    @property
    def entry(self) -> Entry:
        """Its line in the table."""
        return TABLE[self.name.removeprefix(PREFIX)]

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, allowed in _choices(self.name).items():
            if hasattr(self, key):
                value = getattr(self, key)
                require(value in allowed, f"method.{key}", value, f"allowed: {', '.join(map(_typed, allowed))}")
        self._check_numbers()
        for key in ENDS & {field.name for field in dataclasses.fields(self)}:
            ends = getattr(self, key)
            ok = isinstance(ends, list) and all(isinstance(end, str) for end in ends)
            require(ok, f"method.{key}", ends, f"a list of names, for instance 'method.{key}=[output.dense]'")
        start = getattr(self, "init_lora_weights", True)
        others = f"allowed: {', '.join(map(_typed, STARTS))}; other starts are methods, as method=peft/pissa"
        require(start in STARTS, "method.init_lora_weights", start, others)
        self.peft(EXAMPLE_RANK, [])

    def _check_numbers(self) -> None:
        for field in dataclasses.fields(self):
            key, value = f"method.{field.name}", getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            require(math.isfinite(value), key, value, "it is a finite number")
            if field.name.endswith("dropout"):
                require(0 <= value < 1, key, value, f"0 ≤ dropout < 1, for instance {key}=0.1")
            if allowed := RANGES.get(field.name):
                require(IN_RANGE[allowed](value), key, value, f"it is a number {allowed}")
        if (bad := BAD_STARTS.get(self.name)) and all(getattr(self, key) is value for key, value in bad[0].items()):
            typed = " ".join(f"method.{key}={_typed(value)}" for key, value in bad[0].items())
            raise ConfigError(f"{typed} is not possible: {bad[1]}")

    def check_ends(self, names: list[str]) -> None:
        """Raises a `ConfigError` unless each setting of `ENDS` names some of these matrices."""
        for key in ENDS & {field.name for field in dataclasses.fields(self)}:
            for end in getattr(self, key):
                known = sorted({short_name(name) for name in names})
                ok = any(f".{name}".endswith(f".{end}") for name in names)
                require(ok, f"method.{key}", end, f"it is the end of no target's name; {suggest(end, known)}")

    def peft(self, rank: int | None, names: list[str], generator: torch.Generator | None = None, **more: Any) -> Any:
        """PEFT's own configuration of these matrices.

        Raises:
            ConfigError: PEFT refuses a value; the message has PEFT's reason and the key here.
        """
        ours = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        given = {key: value for key, value in ours.items() if key not in ("name", "target_modules")}
        for key in SEEDS:
            if key in given and given[key] is None:
                given[key] = _draw(generator)
        for key in ENDS & given.keys():
            given[key] = [name for name in names if any(f".{name}".endswith(f".{end}") for end in given[key])]
        given |= self.entry.fixed
        given |= {key: math.ceil(factor * (rank or 0)) for key, factor in self.entry.rank.items()}
        kind = config_class(self.name)
        if "total_step" in kind.__dataclass_fields__:
            more = {"total_step": 2**31} | more  # the loop says how many there are
        try:
            return kind(target_modules=list(names), **given | more)
        except (ValueError, TypeError, AssertionError) as error:
            raise refusal(self, rank, error) from error


def refusal(settings: PeftSettings, rank: int | None, error: Exception, where: str = "") -> ConfigError:
    """PEFT's reason as an error that names the key here."""
    asserted = isinstance(error, AssertionError) and not str(error)
    reason = str(traceback.extract_tb(error.__traceback__)[-1].line) if asserted else first_line(error).rstrip(".")
    ranks = settings.entry.rank
    own = [field.name for field in dataclasses.fields(settings) if field.name not in ("name", "target_modules")]
    longest_first = sorted([*own, *ranks], key=len, reverse=True)
    named = [key for key in longest_first if re.search(rf"\b{re.escape(key).replace('_', '[_ ]')}\b", reason)]
    keys = [f"rank={rank}" if key in ranks else f"method.{key}={getattr(settings, key)}" for key in named]
    first = keys[0] if keys else f"method={settings.name}"
    cure = "; type method=lora, or name other method.target_modules" if where else ""
    return ConfigError(f"{first} is not possible{where}: PEFT says: {reason}{cure}")


def config_class(name: str) -> Any:
    """PEFT's class of a method's settings.

    Raises:
        ConfigError: the installed PEFT lacks the method.
    """
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    wanted = TABLE[name.removeprefix(PREFIX)].type
    for kind, found in PEFT_TYPE_TO_CONFIG_MAPPING.items():
        if kind.value == wanted:
            return found
    raise ConfigError(f"method={name} is not in PEFT {peft.__version__}, which is installed; update PEFT: 0.21 has it")


@cache
def settings_of(name: str) -> type[PeftSettings]:
    """The dataclass of a method's settings: those in its file first, then PEFT's others at PEFT's defaults.

    Raises:
        ConfigError: as `config_class`.
    """
    entry, set_here = TABLE[name.removeprefix(PREFIX)], method_defaults(name)
    known = {field.name: field for field in dataclasses.fields(config_class(name))}
    hints = get_type_hints(config_class(name))
    fields: list[tuple[str, Any, Any]] = [("name", str, dataclasses.field(default=name))]
    for key in (key for key in set_here if key not in ("name", "target_modules")):
        assert key in known, f"{name} has no {key} in PEFT"
        value = set_here[key]
        made: Any = {"default_factory": value.copy} if isinstance(value, list) else {"default": value}
        fields.append((key, _plain(hints[key], value), dataclasses.field(**made)))
    for key, own in known.items():
        if key not in set_here and key not in (*entry.fixed, *entry.rank) and _is_dial(own):
            kept = dataclasses.field(default=own.default, metadata={"neutral": own.default})
            fields.append((key, _plain(hints[key], own.default), kept))
    return dataclasses.make_dataclass("PeftSettings", fields, bases=(PeftSettings,), namespace={"__module__": __name__})


def _is_dial(field: Any) -> bool:
    """Whether a field of PEFT's settings is a hyper-parameter that can be typed."""
    from peft import PeftConfig

    common = {own.name for own in dataclasses.fields(PeftConfig)} | {*OURS, *OTHERS}
    plain = isinstance(field.default, bool | int | float | str | None)
    return plain and field.name not in common and not INSIDE.fullmatch(field.name)


def _plain(hint: Any, default: Any) -> Any:
    """The hint where it is one plain type, else anything: PEFT checks it."""
    return hint if hint in (bool, int, float, str) and default is not None else Any


@cache
def _choices(name: str) -> dict[str, tuple[Any, ...]]:
    """The settings of which PEFT's type lists the values, alone or beside true, false and null."""
    listed = {key: _listed(hint) for key, hint in get_type_hints(config_class(name)).items()}
    return {key: values for key, values in listed.items() if values and key != "init_lora_weights"}


def _listed(hint: Any) -> tuple[Any, ...]:
    """
    >>> _listed(Literal["full", "low"]), _listed(bool | Literal["bat"] | None), _listed(int | None)
    (('full', 'low'), (True, False, 'bat', None), ())
    """
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if not any(get_origin(part) is Literal for part in parts):
        return ()
    plain: dict[Any, tuple[Any, ...]] = {bool: (True, False), NoneType: (None,)}
    if any(part not in plain and get_origin(part) is not Literal for part in parts):
        return ()
    return tuple(value for part in parts for value in plain.get(part, get_args(part)))


def _draw(generator: torch.Generator | None) -> int:
    return int(torch.randint(2**31 - 1, (1,), generator=generator)) if generator is not None else 0


def _typed(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
