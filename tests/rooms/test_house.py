"""The house: who may import whom, and one door per foreign library."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
ORDER = (
    "errors", "pulse", "streams", "spectra", "distributed", "config", "record", "console", "data", "windows", "models",
    "methods", "train", "tasks", "study", "measure", "memory", "findings", "comparison", "afterwards", "execute",
    "launch",
)  # fmt: skip
"""The rooms, each of which imports from those before it alone."""
ENTRIES = ("run", "audit", "doctor", "export", "serve")
"""Rooms that no other imports."""
DOORS = {
    "wandb": {"lorax_lab/windows/library", "lorax_lab/windows/dashboard"},
    "wandb_workspaces": {"lorax_lab/windows/dashboard"}, "trackio": {"lorax_lab/windows/library"},
    "hydra": {"lorax_lab/launch", "lorax_lab/config/overrides"},
    "transformers": {"lorax_lab/models", "lorax_lab/tasks", "lorax_lab/memory/architectures"},
    "peft": {"lorax_lab/methods"}, "jinja2": {"analysis", "lorax_lab/audit", "lorax_lab/export"},
    "datasets": {"lorax_lab/data"}, "onnx": {"lorax_lab/models"},
}  # fmt: skip
OURS = ("lorax_lab", "analysis", "experiments")
ANALYSIS_READS = {"record", "study", "spectra", "streams", "errors"}
STUDIES_IMPORT = {
    "study", "afterwards", "config", "console", "data", "errors", "launch", "measure", "models", "spectra", "record",
    "streams", "tasks",
}  # fmt: skip
"""What composes, reads and measures runs, and the named streams of random numbers; nothing that trains."""
LOOKS_INSIDE_A_RUN = {"trajectory": {"execute", "findings"}, "wrong_gradients": {"methods"}}
"""What a study imports besides that measures a run while it trains, or one step of a method."""


def imports(path: Path) -> set[str]:
    """What a file imports, at its top or inside a function, by dotted names from the repository's root."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            folder = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = ".".join([*folder, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def rooms_of(path: Path) -> set[str]:
    """The rooms of the library that a file imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("lorax_lab.")}


def files(*folders: str) -> list[Path]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert paths
    return paths


def test_the_arrows_run_one_way() -> None:
    wrong = []
    for path in files("lorax_lab"):
        room = path.relative_to(ROOT / "lorax_lab").with_suffix("").parts[0]
        outside = {name.split(".")[0] for name in imports(path)} & {"analysis", "experiments", "benchmarks", "tests"}
        before = ORDER if room in (*ENTRIES, "__init__") else ORDER[: ORDER.index(room)]
        wrong += [f"{path} → {name}" for name in outside | (rooms_of(path) - {room, *before})]
    assert not wrong


def test_no_cycle_between_modules() -> None:
    """That a module imports the package which it lies in makes none."""
    named = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files(*OURS)}
    paths = {name.removesuffix(".__init__"): path for name, path in named.items()}
    graph = {name: (imports(path) & paths.keys()) - {name} for name, path in paths.items()}
    packages = {name for name, path in paths.items() if path.name == "__init__.py"}
    around = {name: {package for package in packages if name.startswith(f"{package}.")} for name in paths}
    TopologicalSorter({name: imported - around[name] for name, imported in graph.items()}).prepare()


def test_analysis_reads_records_and_studies_compose_runs() -> None:
    for path in files("analysis"):
        assert rooms_of(path) <= ANALYSIS_READS, path
        assert not any(name.startswith("experiments") for name in imports(path)), path
    for path in files("experiments"):
        assert rooms_of(path) <= STUDIES_IMPORT | LOOKS_INSIDE_A_RUN.get(path.stem, set()), path
        of_analysis = {name for name in imports(path) if name.startswith("analysis")}  # the one file that they write
        assert path.stem == "constants" or not of_analysis, path
        assert all(name.startswith("analysis.constant") for name in of_analysis), path


def test_each_foreign_library_has_one_door() -> None:
    wrong = []
    for path in files("lorax_lab", "analysis"):
        place = str(path.relative_to(ROOT).with_suffix(""))
        for library in {name.split(".")[0] for name in imports(path)} & set(DOORS):
            if not any(place.startswith(door) for door in DOORS[library]):
                wrong.append(f"{place} imports {library}")
    assert not wrong


def test_names_of_shapes_are_for_type_checkers_alone() -> None:
    """jaxtyping is no core dependency."""
    for path in files("lorax_lab", "analysis"):
        tree = ast.parse(path.read_text())
        checked = [node for block in ast.walk(tree) if isinstance(block, ast.If) for node in ast.walk(block)]
        named = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "jaxtyping"]
        assert all(node in checked for node in named), path
