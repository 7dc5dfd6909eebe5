"""The house: who may import whom, one door per foreign library, no room without a subject."""

from __future__ import annotations

import ast
import itertools
import tomllib
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "errors": set(),
    "streams": set(),
    "distributed": {"errors"},
    "spectra": set(),
    "console": {"record"},
    "config": {"errors"},
    "data": {"config", "errors"},
    "models": {"data", "errors", "streams"},
    "tasks": {"config", "data", "errors", "train"},
    "methods": {"config", "errors", "models", "spectra"},
    "record": {"config", "distributed", "errors", "spectra"},
    "study": {"config", "errors", "record", "spectra"},
    "windows": {"config", "errors", "record"},
    "train": {"config", "distributed", "errors", "record", "streams"},
    "measure": {"models", "record", "spectra"},
    "memory": {"config", "console", "errors", "methods", "models", "record", "train"},
    "findings": {"config", "console", "measure", "methods", "record", "streams", "tasks"},
    "comparison": {"config", "measure", "methods", "models", "spectra", "record", "tasks"},
    "execute": {
        "comparison", "config", "console", "distributed", "findings", "memory", "methods", "models", "record",
        "streams", "tasks", "train",
    },
    "launch": {
        "comparison", "config", "console", "data", "distributed", "errors", "execute", "memory", "methods",
        "models", "record", "tasks", "train", "windows",
    },
    "run": {"launch", "record"},
    "afterwards": {
        "config", "errors", "measure", "methods", "models", "spectra", "record", "streams", "tasks", "train",
    },
    "audit": {
        "config", "console", "data", "errors", "launch", "measure", "methods", "models", "spectra", "record", "streams",
        "tasks",
    },
    "export": {"config", "console", "errors", "launch", "methods", "models", "record", "tasks"},
    "serve": {
        "config", "console", "errors", "launch", "memory", "methods", "models", "spectra", "record", "tasks", "train",
    },
}  # fmt: skip
"""Who may import whom, room by room; an entry (run, audit, export, serve) stands in nobody's list."""
DOORS = {
    "wandb": {"lorax_lab/windows/library", "lorax_lab/windows/dashboard"},
    "wandb_workspaces": {"lorax_lab/windows/dashboard"}, "trackio": {"lorax_lab/windows/library"},
    "hydra": {"lorax_lab/launch", "lorax_lab/config/overrides"},
    "transformers": {"lorax_lab/models", "lorax_lab/tasks", "lorax_lab/memory/architectures"},
    "peft": {"lorax_lab/methods"}, "jinja2": {"analysis", "lorax_lab/audit", "lorax_lab/export"},
    "datasets": {"lorax_lab/data"}, "accelerate": {"lorax_lab/train"},
}  # fmt: skip
OURS = ("lorax_lab", "analysis", "experiments")
ANALYSIS_READS = {"record", "study", "spectra", "streams", "errors"}
STUDIES_IMPORT = {
    "study", "afterwards", "config", "console", "data", "errors", "launch", "measure", "models", "spectra", "record",
    "streams", "tasks",
}  # fmt: skip
"""What composes, reads and measures runs, and the named streams of random numbers; nothing that trains."""


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


def modules() -> dict[str, Path]:
    """Every module of the library, the analysis and the studies by its dotted name."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files(*OURS)}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Nodes of a cycle in order, empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_the_arrows_run_one_way() -> None:
    wrong = []
    for path in files("lorax_lab"):
        room = path.relative_to(ROOT / "lorax_lab").with_suffix("").parts[0]
        outside = {name.split(".")[0] for name in imports(path)} & {"analysis", "experiments", "benchmarks", "tests"}
        allowed = MAY_IMPORT.get(room, set()) | {room}
        wrong += [f"{path} → {name}" for name in outside | (rooms_of(path) - allowed)]
    assert not wrong
    assert not cycle(MAY_IMPORT)
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})


def test_no_cycle_between_modules() -> None:
    """That a module imports the package which it lies in makes none."""
    paths = modules()
    graph = {name: (imports(path) & paths.keys()) - {name} for name, path in paths.items()}
    packages = {name for name, path in paths.items() if path.name == "__init__.py"}
    around = {name: {package for package in packages if name.startswith(f"{package}.")} for name in paths}
    assert not cycle({name: imported - around[name] for name, imported in graph.items()})


def test_analysis_reads_records_and_studies_compose_runs() -> None:
    for path in files("analysis"):
        assert rooms_of(path) <= ANALYSIS_READS, path
        assert not any(name.startswith("experiments") for name in imports(path)), path
    for path in files("experiments"):
        assert rooms_of(path) <= STUDIES_IMPORT, path
        of_analysis = {name for name in imports(path) if name.startswith("analysis")}  # the one file that they write
        assert path.stem == "constants" or not of_analysis, path
        assert all(name.startswith("analysis.study.constants") for name in of_analysis), path


def test_each_foreign_library_has_one_door() -> None:
    wrong = []
    for path in files("lorax_lab", "analysis"):
        place = str(path.relative_to(ROOT).with_suffix(""))
        for library in {name.split(".")[0] for name in imports(path)} & set(DOORS):
            if not any(place.startswith(door) for door in DOORS[library]):
                wrong.append(f"{place} imports {library}")
    assert not wrong


@pytest.mark.parametrize("library", ["wandb", "wandb-workspaces", "trackio"])
def test_a_library_whose_private_names_are_used_has_a_version_bounded_above(library: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    words = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    (bound,) = [one for word in words if (one := Requirement(word)).name == library]
    assert any(part.operator == "<" for part in bound.specifier), bound
    assert bound.specifier.contains(version(library))


def test_names_of_shapes_are_for_type_checkers_alone() -> None:
    """jaxtyping is no core dependency."""
    for path in files("lorax_lab", "analysis"):
        tree = ast.parse(path.read_text())
        checked = [node for block in ast.walk(tree) if isinstance(block, ast.If) for node in ast.walk(block)]
        named = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "jaxtyping"]
        assert all(node in checked for node in named), path


def test_every_file_has_a_subject_and_few_stand_at_the_top() -> None:
    assert not [path for path in files(*OURS) if path.stem in {"utils", "helpers", "common", "misc"}]
    assert len([path for path in (ROOT / "lorax_lab").glob("*.py") if path.stem != "__init__"]) <= 9
