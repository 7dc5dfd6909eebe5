"""The figures, one file each: `TITLE` says what it shows, `table(group)` makes its CSV, `draw(table)` draws it.

To add one, write its file and its line here.
"""

from importlib import import_module
from types import ModuleType

FIGURES: dict[str, ModuleType] = {
    name: import_module(f".{name}", __name__)
    for name in (
        "functional_rank",
        "accuracy_vs_rank",
        "accuracy_vs_parameters",
        "memory",
        "singular_values",
        "effective_rank",
        "measures",
        "learning_curves",
    )
}
"""By name, in the order in which they are drawn."""
