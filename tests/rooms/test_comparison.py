"""A run whose reference failed is compared later, with the numbers it would have had; until then the sweep fails."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from conftest import launched, ran
from here import store_of
from safetensors.torch import load_file

from lorax_lab import train
from lorax_lab.record.record import Record, scan


def of_method(overrides: list[str], method: str) -> tuple[Path, Record]:
    ((folder, record),) = [(f, r) for f, r in scan(store_of(overrides))[0].items() if r.method == method]
    return folder, record


def without_room(model: Any, *args: Any, inner: Any = train.train, **kwargs: Any) -> Any:
    """Training, for which the disk is full where all of the model trains."""
    if all(parameter.requires_grad for parameter in model.parameters()):
        raise OSError(28, "No space left on device")
    return inner(model, *args, **kwargs)


def numbers(record: Record) -> str:
    """All that a run found but for what it cost and when the comparison was made."""
    result = dataclasses.asdict(record.completed)
    kept = {key: value for key, value in result.items() if key not in ("time", "memory", "files", "comparison")}
    return json.dumps(kept, sort_keys=True)


@pytest.mark.parametrize("method", ["lora", "peft/boft"])
def test_a_reference_that_comes_later_gives_the_same_numbers(tiny: list[str], tmp_path: Path, method: str) -> None:
    rank = [] if method == "peft/boft" else ["rank=2"]
    overrides = [*tiny, "train.max_steps=2", f"method={method}", *rank]
    at_once = [f"runs_dir={tmp_path / 'at-once'}" if o.startswith("runs_dir=") else o for o in overrides]
    ran(*at_once)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "train", without_room)
        broken = launched(*overrides)
    assert broken.returncode == 1
    assert "reference=false" in broken.stdout
    folder, record = of_method(overrides, method)
    assert record.completed.reference is None
    weights = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    again = ran(*overrides)
    assert "1 of 2 already recorded" in again
    assert "1 of them not compared with the reference" in again
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns == weights
    _, repaired = of_method(overrides, method)
    assert numbers(repaired) == numbers(of_method(at_once, method)[1])
    assert repaired.completed.comparison.code == repaired.code
    assert repaired.written == record.written


def test_directions_that_a_file_leaves_out_are_counted(tiny: list[str], tmp_path: Path) -> None:
    """AdaLoRA's file has fewer directions than what was measured: the others are zero."""
    overrides = [*tiny, "method=peft/adalora", "rank=2", "train.max_steps=8", "train.epochs=8"]
    shares = []
    for place, first in ((tmp_path / "a", []), (tmp_path / "b", ["reference=false"])):
        here = [override for override in overrides if not override.startswith("runs_dir=")] + [f"runs_dir={place}"]
        for more in (first, []):
            ran(*here, *more)
        folder, record = of_method(here, "peft/adalora")
        saved = load_file(folder / "adapter_model.safetensors")
        assert min(len(tensor) for name, tensor in saved.items() if name.endswith("lora_A")) < 3
        captured = [value for matrix in record.completed.matrices.values() for value in vars(matrix.captured).values()]
        shares.append([math.nan if value is None else value for value in captured])
    assert shares[0] == pytest.approx(shares[1], rel=1e-9, nan_ok=True)
