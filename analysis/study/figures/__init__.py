"""The figures of studies: `table(records)` makes a figure's CSV, or None where the study has nothing of it;
`draw(table)` draws it; `latex(table)`, where it is there, writes the table as a paper prints it.

To add one, write its two functions and its entry in `FIGURES`, and name it in the study's plan:
`figures=("answer", "mine")`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from . import answer, arms, cost, directions, sets, sizes, trials, updates

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture

    from ..records import Records


class Figure(NamedTuple):
    """A figure, by what it shows."""

    title: str
    table: Callable[[Records], pd.DataFrame | None]
    draw: Callable[[pd.DataFrame], Picture]
    latex: Callable[[pd.DataFrame], str] | None = None


FIGURES: dict[str, Figure] = {
    "answer": Figure(
        "LoRA against full fine-tuning by rank, and the full update cut to k directions",
        answer.table,
        answer.draw,
        answer.latex,
    ),
    "cost": Figure(
        "what each arm scores, and what a rank costs in parameters, memory and time, the head not counted",
        cost.table,
        cost.draw,
        cost.latex,
    ),
    "spectral": Figure(
        "the full update's spectral ranks by type of matrix and layer, as shares of noise's",
        updates.spectral_table,
        updates.spectral_draw,
    ),
    "functional": Figure(
        "what is left of the full update's score when it is cut, and under the controls",
        updates.functional_table,
        updates.functional_draw,
    ),
    "modules": Figure(
        "the difference in score when one type of matrix is cut to k directions",
        updates.modules_table,
        updates.modules_draw,
    ),
    "shared": Figure(
        "the directions that pairs of full updates have in common", updates.shared_table, updates.shared_draw
    ),
    "trials": Figure("the choice of each arm's learning rate", trials.table, trials.draw),
    **{name: Figure(maps.title, maps.table, maps.draw) for name, maps in directions.MAPS.items()},
    "layers_share": Figure(
        "what runs share beyond chance, in every layer and type of matrix (Figures 6 and 7 of the LoRA paper)",
        directions.layers_table,
        directions.layers_draw,
    ),
    "amplification": Figure(
        "by how much updates amplify the directions of W that they use (Table 7 of the LoRA paper)",
        directions.amplification_table,
        directions.amplification_draw,
    ),
    "arms": Figure(
        "every arm's difference in score from full fine-tuning, in its CSV beside the LoRA paper's numbers",
        arms.arms_table,
        arms.arms_draw,
    ),
    "sets": Figure(
        "LoRA in some matrices over its rank, and the full update cut in the same (Tables 6 and 15 of the LoRA paper)",
        sets.table,
        sets.draw,
    ),
    "losses": Figure(
        "log loss on test over LoRA's rank, beside the score (Table 18 of the LoRA paper)",
        arms.losses_table,
        arms.losses_draw,
    ),
    "sizes": Figure(
        "scores, r* and k* over the number of training examples (the LoRA paper's Table 16 has the scores)",
        sizes.table,
        sizes.draw,
    ),
}
STANDARD = ("answer", "cost", "spectral", "functional", "modules", "shared", "trials")
"""The figures of a study that names none."""
