"""The figures, one file each: `TITLE` says what it shows, `table(group)` makes its CSV, `draw(table)` draws it.

To add one, write its file and its line here.
"""

from types import ModuleType

from . import (
    accuracy_vs_parameters,
    accuracy_vs_rank,
    effective_rank,
    functional_rank,
    learning_curves,
    measures,
    memory,
    singular_values,
)

FIGURES: dict[str, ModuleType] = {
    "functional_rank": functional_rank,
    "accuracy_vs_rank": accuracy_vs_rank,
    "accuracy_vs_parameters": accuracy_vs_parameters,
    "memory": memory,
    "singular_values": singular_values,
    "effective_rank": effective_rank,
    "measures": measures,
    "learning_curves": learning_curves,
}
