"""The pulse: how long a step or a batch may take follows from those of its kind before it, whatever comes between."""

from statistics import median
from types import SimpleNamespace
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from lorax_lab.pulse import Pulse

BEATS = st.lists(st.tuples(st.sampled_from(["step", "batch"]), st.integers(1, 10_000), st.booleans()), max_size=12)
"""Kind, seconds that it takes, and whether a rest follows, as a checkpoint does."""


@given(BEATS)
def test_twenty_medians_are_allowed_and_a_rest_has_no_limit_and_no_part_in_them(
    beats: list[tuple[str, int, bool]],
) -> None:
    pulse, clock, heard = Pulse(), SimpleNamespace(now=0.0), list[float | None]()
    pulse.listener = heard.append
    seconds_of: dict[str, list[int]] = {"step": [], "batch": []}
    with patch("lorax_lab.pulse.time", SimpleNamespace(monotonic=lambda: clock.now)):
        for kind, seconds, rests in beats:
            pulse.beat(kind)
            earlier = seconds_of[kind]
            assert heard[-1] == (max(20 * median(earlier), 300) if earlier else 3600)
            clock.now += seconds
            earlier.append(seconds)
            if rests:
                pulse.rest()
                assert heard[-1] is None
                clock.now += 1e6
        pulse.begin()
        for kind in seconds_of:
            pulse.beat(kind)
            assert heard[-1] == 3600
