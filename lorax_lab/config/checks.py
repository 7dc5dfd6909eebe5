"""Checks that settings share: each refuses a value with its key, what is allowed and what to type."""

from __future__ import annotations

import math
import os
import re

from lorax_lab.errors import ConfigError, cut, suggest


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
    """The value can name a file or folder, be it there or not: it is not empty, and no part of it is too long."""
    parts = [] if value is None else os.fsencode(value).split(b"/")
    ok = value is None or (bool(value.strip()) and len(value) < 4000 and max(map(len, parts)) <= 255)
    shown = value if value is None or len(value) < 100 else f"{cut(value, 100)}…"
    require(ok, key, shown, f"it is a path with names of 1 to 255 bytes; for instance {key}={example}")


def require_name(key: str, value: str | None, optional: bool = False) -> None:
    """The value is a name that Weights & Biases takes."""
    ok = (optional and value is None) or (isinstance(value, str) and bool(re.fullmatch(r"[^/\\#?%:\s]{1,128}", value)))
    require(ok, key, value, f"it has 1 to 128 signs, none of / \\ # ? % : and no space; for instance {key}=lorax_lab")


def require_file_name(key: str, value: str) -> None:
    """The value is a name under which Trackio keeps a file: it leaves other signs out, so `a+b` would be `ab`."""
    typed = re.sub(r"[^\w-]+", "-", value).strip("-") or "lorax_lab"
    allowed = f"Trackio takes letters, digits, - and _; for instance {key}={typed}"
    require(bool(re.fullmatch(r"[\w-]+", value)), key, value, allowed)
