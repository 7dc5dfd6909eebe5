"""The figures of studies, one file each: `table(records)` makes its CSV, or None where the study has nothing of it;
`draw(table)` draws it; `latex(table)`, where it is there, writes the table as a paper prints it; `TITLE` says what it
shows.

To add one, write its file and its line in `FIGURES`, and name it in the study's plan: `figures=("answer", "mine")`.
"""

from types import ModuleType

from . import (
    amplification,
    answer,
    arms,
    base_shares,
    cost,
    functional,
    layers_share,
    losses,
    modules,
    ranks_by_layer,
    ranks_share,
    seeds_by_layer,
    seeds_share,
    sets,
    shared,
    sizes,
    spectral,
    trials,
)

FIGURES: dict[str, ModuleType] = {
    "answer": answer,
    "cost": cost,
    "spectral": spectral,
    "functional": functional,
    "modules": modules,
    "shared": shared,
    "trials": trials,
    "ranks_share": ranks_share,
    "seeds_share": seeds_share,
    "ranks_by_layer": ranks_by_layer,
    "seeds_by_layer": seeds_by_layer,
    "base_shares": base_shares,
    "layers_share": layers_share,
    "amplification": amplification,
    "arms": arms,
    "sets": sets,
    "losses": losses,
    "sizes": sizes,
}
STANDARD = ("answer", "cost", "spectral", "functional", "modules", "shared", "trials")
"""The figures of a study that names none."""
