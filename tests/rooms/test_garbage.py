"""When Python looks for garbage: never left off where it was on, nor on where it was off."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from lorax_lab.record.garbage import set_aside, uncollected


@pytest.fixture(params=[True, False])
def enabled(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether garbage is looked for before."""
    before = gc.isenabled()
    (gc.enable if request.param else gc.disable)()
    yield request.param
    (gc.enable if before else gc.disable)()


def test_it_is_as_before_afterwards(enabled: bool) -> None:
    @uncollected()
    def fail() -> None:
        assert not gc.isenabled()
        raise KeyError

    with uncollected():
        with pytest.raises(KeyError):
            fail()
        assert not gc.isenabled()
    assert gc.isenabled() == enabled
    with pytest.raises(KeyError):
        fail()
    assert gc.isenabled() == enabled


def test_what_is_set_aside_comes_back() -> None:
    def fail() -> None:
        with set_aside():
            assert gc.get_freeze_count() > 0
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert gc.get_freeze_count() == 0
