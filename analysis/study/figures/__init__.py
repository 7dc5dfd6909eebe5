"""The figures of studies: `facts(records)` makes the rows of a figure's CSV, or None where the study has nothing of it;
`draw_table(table)` draws it; `claim(table)` says what it found.

To add one, write its title, its three functions and its entry in `FIGURES`, and name it in the study's plan:
`figures=("answer", "mine")`.
"""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure as Picture

from lorax_lab.errors import ConfigError, suggest

from ... import style
from ..records import Records, with_direction, with_model
from . import answer, arms, bases, capacity, claims, cost, directions, forgetting, sets, sizes, trials, updates


class Figure(NamedTuple):
    """A figure, by what it shows."""

    title: str
    facts: Callable[[Records], pd.DataFrame | None]
    draw_table: Callable[[pd.DataFrame], Picture]
    claim: Callable[[pd.DataFrame], str]

    def draw(self, table: pd.DataFrame) -> Picture:
        """The figure under a title that begins with what it found."""
        picture = self.draw_table(table)
        style.lead(picture, self.claim(table))
        return picture

    def table(self, records: Records) -> pd.DataFrame | None:
        """The figure's CSV. Rows of scores have the model of each condition, and the direction of its scores."""
        rows = self.facts(records)
        if rows is None or "task" not in rows or "model" in rows:
            return rows
        return with_model(records, with_direction(records, rows))


FIGURES = {
    "answer": Figure(answer.TITLE, answer.table, answer.draw, claims.answer),
    "bases": Figure(bases.TITLE, bases.table, bases.draw, bases.claim),
    "capacity": Figure(capacity.TITLE, capacity.table, capacity.draw, capacity.claim),
    "cost": Figure(cost.TITLE, cost.table, cost.draw, claims.cost),
    "spectral": Figure(updates.SPECTRAL_TITLE, updates.spectral_table, updates.spectral_draw, claims.spectral),
    "functional": Figure(updates.CUT_TITLE, updates.functional_table, updates.functional_draw, claims.functional),
    "modules": Figure(updates.MODULES_TITLE, updates.modules_table, updates.modules_draw, claims.modules),
    "shared": Figure(updates.SHARED_TITLE, updates.shared_table, updates.shared_draw, claims.shared),
    "trials": Figure(trials.TITLE, trials.table, trials.draw, claims.trials),
    "layers_share": Figure(
        directions.LAYERS_TITLE, directions.layers_table, directions.layers_draw, claims.layers_share
    ),
    "amplification": Figure(
        directions.FACTORS_TITLE, directions.amplification_table, directions.amplification_draw, claims.amplification
    ),
    "arms": Figure(arms.ARMS_TITLE, arms.arms_table, arms.arms_draw, claims.arms),
    "sets": Figure(sets.TITLE, sets.table, sets.draw, claims.sets),
    "forgetting": Figure(forgetting.TITLE, forgetting.table, forgetting.draw, forgetting.claim),
    "losses": Figure(arms.LOSSES_TITLE, arms.losses_table, arms.losses_draw, claims.losses),
    "sizes": Figure(sizes.TITLE, sizes.table, sizes.draw, claims.sizes),
}
STANDARD = ("answer", "cost", "spectral", "functional", "modules", "shared", "trials")
"""The figures of a study that names none."""


def figures_of(records: Records) -> tuple[str, ...]:
    """The names of a study's figures.

    Raises:
        ConfigError: it names one that there is not.
    """
    names = records.declared.figures or STANDARD
    if wrong := next((name for name in names if name not in FIGURES), None):
        raise ConfigError(f"{records.name} names the figure {wrong}; {suggest(wrong, tuple(FIGURES))}")
    return names
