"""The settings of a PEFT method: a dataclass made from PEFT's own, and PEFT's own made from it.

Every setting has PEFT's name. Those in the method's file in `conf/method/peft/` always count in run identity; the
others are left out of it where they stand at PEFT's default, so that a setting of a later PEFT renames no run.
"""

import dataclasses
import math
import re
import traceback
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError

from lorax_lab.config import MethodConfig
from lorax_lab.config.checks import require
from lorax_lab.config.defaults import method_defaults
from lorax_lab.errors import ConfigError, first_line
from lorax_lab.methods.peft_table import TABLE, Entry
from lorax_lab.record.variation import text

PREFIX = "peft/"
INSIDE = re.compile(r".*(_config|_pattern|_invocation_tokens|_token_indices)|use_(bdlora|qalora)|qalora_.*")
OTHERS = (
    "exclude_modules", "layers_to_transform", "modules_to_save", "bias", "lora_bias", "fan_in_fan_out",
    "megatron_core", "layer_replication", "target_parameters", "ensure_weight_tying", "save_projection", "save_indices",
    "sample_at_inference", "use_effective_conv2d", "runtime_offload_base_weight", "save_only_topk_weights",
    "save_precomputed_indices",
)  # fmt: skip
"""Settings that are no hyper-parameters of one matrix's update, or that the lab decides alike for every method: the
matrices, the head, and that biases are frozen."""
SEEDS = (
    "projection_prng_key", "random_loc_seed", "random_seed", "proj_seed", "projection_seed", "generator_seed",
)  # fmt: skip
"""Seeds of PEFT's own; null draws them from the run's seed."""
ABOVE_ZERO = ("lora_alpha", "alpha", "randlora_alpha", "psoft_alpha", "delora_lambda", "scaling")
LOWEST = {"deltaT": 1, "tinit": 0, "tfinal": 0}
"""Numbers that PEFT takes as they come: a scaling of 0 leaves ΔW at 0, and a step of 0 ends the run in an error."""
STARTS = (True, "gaussian", "orthogonal")
"""Values of init_lora_weights that leave W0 as it is and start at ΔW = 0; the others are methods of their own."""
EXAMPLE_RANK = 4
"""Stands for the rank where settings are checked without one."""


@dataclass
class PeftSettings(MethodConfig):
    """The settings of the PEFT method of that name; see `settings_of`."""

    @property
    def packages(self) -> tuple[str, ...]:
        """PEFT."""
        return ("peft",)

    @property
    def entry(self) -> Entry:
        """Its line in the table."""
        return TABLE[self.name.removeprefix(PREFIX)]

    @property
    def dials(self) -> dict[str, Any]:
        """Its settings by PEFT's names."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {key: value for key, value in values.items() if key not in ("name", "target_modules")}

    def __post_init__(self) -> None:
        super().__post_init__()
        hints = get_type_hints(config_class(self.name))
        for key, value in self.dials.items():
            if key == "init_lora_weights":
                allowed = f"allowed: {', '.join(map(text, STARTS))}; other starts are methods, as method=peft/pissa"
                require(value in STARTS, f"method.{key}", value, allowed)
            elif "Literal" in str(hints[key]):
                _check_choice(key, value, hints[key])
            elif isinstance(value, int | float) and not isinstance(value, bool):
                _check_number(key, value)
        self.peft(EXAMPLE_RANK, [])

    def __reduce__(self) -> tuple[Any, ...]:
        """By name: the class is made at run time, and pickle, which hands runs to workers, imports classes."""
        return _with_values, (self.name, {field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    def peft(self, rank: int | None, names: list[str], generator: torch.Generator | None = None, **more: Any) -> Any:
        """PEFT's own configuration of these matrices; a ConfigError has PEFT's reason and the key here."""
        given = self.dials
        for key in (key for key in SEEDS if key in given and given[key] is None):
            given[key] = int(torch.randint(2**31 - 1, (1,), generator=generator)) if generator is not None else 0
        given |= self.entry.fixed
        given |= {key: math.ceil(factor * (rank or 0)) for key, factor in self.entry.rank.items()}
        kind = config_class(self.name)
        try:
            return kind(target_modules=list(names), **given | more)
        except (ValueError, TypeError, AssertionError) as error:
            raise refusal(self, rank, error) from error


def _check_choice(key: str, value: Any, hint: Any) -> None:
    """Hold a setting to the values that PEFT's type lists, some of which PEFT itself takes as they come."""
    try:
        TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError as error:
        allowed = [detail["msg"].removeprefix("Input should be ") for detail in error.errors()]
        require(False, f"method.{key}", value, f"it is {', or '.join(allowed)}")


def _check_number(key: str, value: float) -> None:
    name = f"method.{key}"
    require(math.isfinite(value), name, value, "it is a finite number")
    if key.endswith("dropout"):
        require(0 <= value < 1, name, value, f"0 ≤ dropout < 1, for instance {name}=0.1")
    if key in ABOVE_ZERO:
        require(value > 0, name, value, "it is a number above 0")
    if key in LOWEST:
        require(value >= LOWEST[key], name, value, f"it is a number of {LOWEST[key]} or more")


def refusal(settings: PeftSettings, rank: int | None, error: Exception, where: str = "") -> ConfigError:
    """PEFT's reason as an error that names the key here."""
    asserted = isinstance(error, AssertionError) and not str(error)
    reason = str(traceback.extract_tb(error.__traceback__)[-1].line) if asserted else first_line(error).rstrip(".")
    ranks, dials = settings.entry.rank, settings.dials
    longest_first = sorted([*dials, *ranks], key=len, reverse=True)
    named = [key for key in longest_first if re.search(rf"\b{re.escape(key).replace('_', '[_ ]')}\b", reason)]
    keys = [f"rank={rank}" if key in ranks else f"method.{key}={dials[key]}" for key in named]
    first = keys[0] if keys else f"method={settings.name}"
    cure = "; type method=lora, or name other method.target_modules" if where else ""
    return ConfigError(f"{first} is not possible{where}: PEFT says: {reason}{cure}")


def config_class(name: str) -> Any:
    """PEFT's class of a method's settings; a ConfigError says that the installed PEFT lacks it."""
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    classes = {kind.value: config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    wanted = TABLE[name.removeprefix(PREFIX)].type
    if wanted not in classes:
        raise ConfigError(f"method={name} is not in the installed PEFT {peft.__version__}: type pip install -U peft")
    return classes[wanted]


@cache
def settings_of(name: str) -> type[PeftSettings]:
    """The dataclass of a method's settings: those in its file first, then PEFT's others at PEFT's defaults."""
    entry, set_here = TABLE[name.removeprefix(PREFIX)], method_defaults(name)
    theirs = {field.name: field for field in dataclasses.fields(config_class(name))}
    hints = get_type_hints(config_class(name))
    fields: list[tuple[str, Any, Any]] = [("name", str, dataclasses.field(default=name))]
    for key in (key for key in set_here if key not in ("name", "target_modules")):
        assert key in theirs, f"{name} has no {key} in PEFT"
        value = set_here[key]
        default: Any = {"default_factory": value.copy} if isinstance(value, list) else {"default": value}
        fields.append((key, _plain(hints[key], value), dataclasses.field(**default)))
    for key, field in theirs.items():
        if key not in (*set_here, *entry.fixed, *entry.rank) and _is_dial(field):
            neutral = dataclasses.field(default=field.default, metadata={"neutral": field.default})
            fields.append((key, _plain(hints[key], field.default), neutral))
    return dataclasses.make_dataclass("PeftSettings", fields, bases=(PeftSettings,), namespace={"__module__": __name__})


def _with_values(name: str, values: dict[str, Any]) -> PeftSettings:
    return settings_of(name)(**values)


def _is_dial(field: Any) -> bool:
    """Whether a field of PEFT's settings is a hyper-parameter that can be typed."""
    from peft import PeftConfig

    common = {shared.name for shared in dataclasses.fields(PeftConfig)} | {*OTHERS}
    plain = isinstance(field.default, bool | int | float | str | None)
    return plain and field.name not in common and not INSIDE.fullmatch(field.name)


def _plain(hint: Any, default: Any) -> Any:
    """The hint where it is one plain type, else anything: PEFT checks it."""
    return hint if hint in (bool, int, float, str) and default is not None else Any
