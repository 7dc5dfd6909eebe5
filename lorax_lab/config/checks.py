"""Checks that settings share: each refuses a value with its key, what is allowed and what to type."""

from __future__ import annotations

import math

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
