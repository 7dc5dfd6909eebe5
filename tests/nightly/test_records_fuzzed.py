"""The validator against mutated records: what survives is named, and nothing does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mutations import Mutation, into, moved, mutations
from synthetic import COMMIT
from tampered import Lines, of, whole, with_lines

from analysis.constant import MAJORITY
from analysis.study import copies
from analysis.study.records import Records
from analysis.study.validator import every_breach
from lorax_lab.study.answers import check_answers

LEAST = 300
"""Mutations that are tried."""


def refused(records: Records) -> bool:
    """Whether there is a breach. What each line keeps of the test examples is read first, as it is when a file is."""
    try:
        for line in records.lines:
            check_answers(line)
    except ValueError:
        return True
    return next(every_breach(replace(records, commits={COMMIT: "2026-11-24T00:00:00Z"})), None) is not None


def survivors(tried: list[Mutation]) -> list[str]:
    return [mutation.name for mutation in tried if not refused(mutation.make())]


@pytest.fixture(autouse=True)
def shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of the most frequent class is known, as it is of every published study."""
    monkeypatch.setattr(copies, "constant", lambda *_: (0.6, MAJORITY))


def test_nothing_mutated_survives() -> None:
    assert not refused(whole())
    tried = mutations()
    assert len(tried) >= LEAST
    assert len({mutation.name for mutation in tried}) == len(tried)
    assert survivors(tried) == []


def a_cut_moved(lines: Lines) -> None:
    into("functional", lambda rows: moved(rows, "cut", 4, 0.004))(of(lines, "final", method="full")[0])


def two_seeds_exchanged(lines: Lines) -> None:
    one, other = of(lines, "final", rank=8)[:2]
    for key in ("correct", "metrics", "log_losses"):
        one[key], other[key] = other[key], one[key]


def test_what_the_docs_say_cannot_be_found_is_not_found() -> None:
    for change in (a_cut_moved, two_seeds_exchanged):
        assert not refused(with_lines(change)), change
