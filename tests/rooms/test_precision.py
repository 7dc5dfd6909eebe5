"""The precision that a run records is the one that it computes in, when it trains and when it is scored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Lab
from torch import nn

from lorax_lab.record.record import scan

DTYPES = {"fp32": {torch.float32}, "bf16": {torch.bfloat16}}


@pytest.mark.parametrize("precision", DTYPES)
def test_a_run_multiplies_in_what_it_records(
    precision: str, small_run: list[str], lab_here: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By torch's kernel, since oneDNN's puts another class in the place of nn.Linear."""
    seen: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    forward = nn.Linear.forward

    def watched(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        out = forward(self, x)
        seen[self.training].add(out.dtype)
        return out

    monkeypatch.setattr(nn.Linear, "forward", watched)
    result = lab_here(
        *small_run, f"train.precision={precision}", "method=full", "train.kernel=torch", "reference=false"
    )
    assert result.returncode == 0, result.stderr
    (record,) = scan(Path(small_run[-1].removeprefix("runs_dir=")))[0].values()
    assert record.config["train"]["precision"] == precision
    assert seen == {True: DTYPES[precision], False: DTYPES[precision]}
