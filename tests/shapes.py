"""Holds the annotated shapes and types of lorax_lab.spectra to the real ones, where SHAPES is set (`conftest.py`)."""

import sys
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

NAMES = {name: getattr(jaxtyping, name) for name in ("Float", "Float32", "Float64")}
STRICT = BeartypeConf(is_pep484_tower=True)  # an int is a float, as for every type checker


def checked(annotated: Any) -> Any:
    """The function or class with its annotations checked; modules import their names for type checkers alone."""
    vars(sys.modules[annotated.__module__]).update(NAMES)
    return beartype(conf=STRICT)(annotated)
