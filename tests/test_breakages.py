"""The list of breakages (`tests/faults/breakages.py`) fits the code: each breaks a place that is there, once."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("breakages", ROOT / "tests" / "faults" / "breakages.py")
assert SPEC is not None
assert SPEC.loader is not None
breakages = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = breakages  # dataclasses look their module up
SPEC.loader.exec_module(breakages)


@pytest.mark.parametrize("breakage", breakages.BREAKAGES, ids=lambda breakage: breakage.what)
def test_a_breakage_has_its_place_and_its_tests(breakage: Any) -> None:
    text = (ROOT / "lorax_lab" / breakage.file).read_text()
    assert text.count(breakage.old) == 1
    assert breakage.new != breakage.old
    for test in (part for part in breakage.tests.split() if part.startswith("tests/")):
        path, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / path).read_text()
