"""The figures of studies: `facts(records)` makes the rows of a figure's CSV, or None where the study has nothing of it;
`draw_table(table)` draws it; `claim(table)` says what it found.

To add one, write its three functions and its entry in `FIGURES`, and name it in the study's plan:
`figures=("answer", "mine")`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure as Picture

from ... import style
from ..records import Records, with_direction, with_model
from . import answer, arms, bases, claims, cost, directions, sets, sizes, trials, updates


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


FIGURES: dict[str, Figure] = {
    "answer": Figure(
        "the share of what fine-tuning brings that LoRA keeps by rank, and the full update cut to k directions",
        answer.table,
        answer.draw,
        claims.answer,
    ),
    "bases": Figure(
        "the share that each base keeps by rank, by directions and by dimension", bases.table, bases.draw, bases.claim
    ),
    "cost": Figure(
        "what each arm scores, and what a rank costs in parameters, memory and time, the head not counted",
        cost.table,
        cost.draw,
        claims.cost,
    ),
    "spectral": Figure(
        "the full update's spectral ranks by type of matrix and layer, as shares of noise's",
        updates.spectral_table,
        updates.spectral_draw,
        claims.spectral,
    ),
    "functional": Figure(
        "what is left of the full update's score when it is cut, and under the controls",
        updates.functional_table,
        updates.functional_draw,
        claims.functional,
    ),
    "modules": Figure(
        "the difference in score when one type of matrix is cut to k directions",
        updates.modules_table,
        updates.modules_draw,
        claims.modules,
    ),
    "shared": Figure(
        "the directions that pairs of full updates have in common",
        updates.shared_table,
        updates.shared_draw,
        claims.shared,
    ),
    "trials": Figure("the choice of each arm's learning rate", trials.table, trials.draw, claims.trials),
    "layers_share": Figure(
        "what runs share beyond chance, in every layer and type of matrix (Figures 6 and 7 of the LoRA paper)",
        directions.layers_table,
        directions.layers_draw,
        claims.layers_share,
    ),
    "amplification": Figure(
        "by how much updates amplify the directions of W that they use (Table 7 of the LoRA paper)",
        directions.amplification_table,
        directions.amplification_draw,
        claims.amplification,
    ),
    "arms": Figure(
        "every arm's difference in score from full fine-tuning, in its CSV beside the LoRA paper's numbers",
        arms.arms_table,
        arms.arms_draw,
        claims.arms,
    ),
    "sets": Figure(
        "LoRA in some matrices over its rank, and the full update cut in the same (Tables 6 and 15 of the LoRA paper)",
        sets.table,
        sets.draw,
        claims.sets,
    ),
    "losses": Figure(
        "log loss on test over LoRA's rank, beside the score (Table 18 of the LoRA paper)",
        arms.losses_table,
        arms.losses_draw,
        claims.losses,
    ),
    "sizes": Figure(
        "scores, r* and k* over the number of training examples (the LoRA paper's Table 16 has the scores)",
        sizes.table,
        sizes.draw,
        claims.sizes,
    ),
}
STANDARD = ("answer", "cost", "spectral", "functional", "modules", "shared", "trials")
"""The figures of a study that names none."""
