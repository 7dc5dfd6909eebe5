"""Checks that settings share: each refuses a value with its key, what is allowed and what to type."""

from __future__ import annotations

import math
import re

from lorax_lab.errors import ConfigError, suggest


def require(ok: bool, key: str, value: object, allowed: str) -> None:
    """Raise a `ConfigError` that names the key and its value unless `ok`; `allowed` says what is possible."""
    if not ok:
        raise ConfigError(f"{key}={value} is not possible: {allowed}")


def require_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """The value is one of those allowed."""
    require(value in allowed, key, value, suggest(str(value), allowed))


def require_positive(key: str, value: float | None, optional: bool = False) -> None:
    """The value is a finite number above 0, or None where it is optional."""
    ok = (optional and value is None) or (value is not None and math.isfinite(value) and value > 0)
    example = f"for instance {key}={'1e-4' if key.endswith('rate') else 16}"
    require(ok, key, value, f"it is a number above 0; {example}")


def require_path(key: str, value: str | None, example: str) -> None:
    """The value can name a file or folder, be it there or not."""
    require(value is None or bool(value.strip()), key, value, f"it is a path; for instance {key}={example}")


def require_name(key: str, value: str | None, optional: bool = False) -> None:
    """The value is a name that Weights & Biases takes."""
    ok = (optional and value is None) or (isinstance(value, str) and bool(re.fullmatch(r"[^/\\#?%:\s]{1,128}", value)))
    require(ok, key, value, f"it has 1 to 128 signs, none of / \\ # ? % : and no space; for instance {key}=lorax_lab")
