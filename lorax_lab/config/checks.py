"""Checks that settings share: each refuses a value with its key, what is allowed and what to type.

A field of the configuration declares its check in its metadata (`POSITIVE`, `FROM_ZERO`, `one_of`).
"""

import dataclasses
import math
import re
from typing import Any

from lorax_lab.errors import ConfigError, suggest

POSITIVE: dict[str, Any] = {"above": 0.0}
"""Metadata of a number above 0; it may be null where its type says so."""
FROM_ZERO: dict[str, Any] = {"from": 0.0}
"""Metadata of a number that is 0 or more; it may be null where its type says so."""


def one_of(*choices: str) -> dict[str, Any]:
    """Metadata of a text that is one of these."""
    return {"choices": choices}


def check_fields(settings: Any, section: str) -> None:
    """Hold every setting to what its field declares."""
    for field in dataclasses.fields(settings):
        value, key = getattr(settings, field.name), f"{section}{field.name}"
        if "choices" in field.metadata:
            require_choice(key, value, field.metadata["choices"])
        elif "above" in field.metadata and value is not None and not (math.isfinite(value) and value > 0):
            require(False, key, value, "it is a number above 0")
        elif "from" in field.metadata and value is not None and not (math.isfinite(value) and value >= 0):
            require(False, key, value, "it is 0 or more")


def require(ok: bool, key: str, value: object, allowed: str) -> None:
    """Raise a `ConfigError` that names the key and its value unless `ok`; `allowed` says what is possible."""
    if not ok:
        raise ConfigError(f"{key}={value} is not possible: {allowed}")


def require_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """The value is one of those allowed."""
    require(value in allowed, key, value, suggest(str(value), allowed))


def require_path(key: str, value: str | None, example: str) -> None:
    """The value can name a file or folder, be it there or not."""
    require(value is None or bool(value.strip()), key, value, f"it is a path; for instance {key}={example}")


def require_name(key: str, value: str | None, optional: bool = False) -> None:
    """The value is a name that Weights & Biases takes."""
    ok = (optional and value is None) or (isinstance(value, str) and bool(re.fullmatch(r"[^/\\#?%:\s]{1,128}", value)))
    require(ok, key, value, f"it has 1 to 128 signs, none of / \\ # ? % : and no space; for instance {key}=lorax_lab")
