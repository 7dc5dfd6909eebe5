"""bf16 on a processor that has no fast products for it: what it costs is said before the first run."""

from __future__ import annotations

import pytest

from lorax_lab.launch import fastest
from lorax_lab.launch.compose import compose


@pytest.mark.parametrize(
    ("words", "ratio", "said"),
    [
        (["train.precision=bf16", "train.device=cpu"], 3.04, True),
        (["train.precision=bf16", "train.device=cpu"], 0.5, False),
        (["train.precision=bf16", "train.device=cuda"], 3.04, False),
        (["train.precision=fp32", "train.device=cpu"], 3.04, False),
    ],
)
def test_it_is_said_where_it_is_slower(
    words: list[str], ratio: float, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastest, "bf16_ratio", lambda: ratio)
    notes = fastest.notes([compose([]), compose(words)])
    assert bool(notes) == said
    if said:
        assert "3.0 times as long in bf16 as in fp32" in notes[0]
        assert "type train.precision=fp32" in notes[0]
