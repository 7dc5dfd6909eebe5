"""The house: who may import whom, one door per foreign library, no room without a subject."""

from __future__ import annotations

import ast
import itertools
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "errors": set(),
    "streams": set(),
    "spectra": set(),
    "console": {"record"},
    "config": {"errors"},
    "data": {"config", "errors"},
    "models": {"data", "errors", "streams"},
    "tasks": {"config", "data", "errors", "train"},
    "methods": {"config", "errors", "models", "spectra"},
    "record": {"config", "errors", "spectra"},
    "study": {"config", "errors", "record", "spectra"},
    "windows": {"config", "errors", "record"},
    "train": {"config", "errors", "record", "streams"},
    "measure": {"models", "record", "spectra"},
    "memory": {"config", "console", "errors", "methods", "models", "record"},
    "findings": {"console", "measure", "methods", "record", "streams", "tasks"},
    "comparison": {"config", "measure", "methods", "models", "spectra", "record", "tasks"},
    "execute": {
        "comparison", "config", "console", "errors", "findings", "measure", "memory", "methods", "models", "record",
        "streams",
        "tasks", "train",
    },
    "launch": {
        "comparison", "config", "console", "data", "errors", "execute", "memory", "methods", "models", "record",
        "tasks", "train", "windows",
    },
    "run": {"launch", "record"},
    "afterwards": {
        "config", "errors", "measure", "methods", "models", "spectra", "record", "streams", "tasks", "train",
    },
    "audit": {
        "config", "console", "data", "errors", "launch", "measure", "methods", "models", "spectra", "record", "streams",
        "tasks", "windows",
    },
    "serve": {
        "config", "console", "errors", "launch", "memory", "methods", "models", "spectra", "record", "streams", "tasks",
        "train",
    },
}  # fmt: skip
"""Who may import whom, room by room; an entry (run, audit, serve) stands in nobody's list."""
DOORS = {
    "wandb": {"lorax_lab/windows/library", "lorax_lab/windows/dashboard"},
    "wandb_workspaces": {"lorax_lab/windows/dashboard"},
    "trackio": {"lorax_lab/windows/library", "lorax_lab/windows/dashboard"},
    "hydra": {"lorax_lab/launch", "lorax_lab/config/overrides"},
    "transformers": {"lorax_lab/models", "lorax_lab/tasks", "lorax_lab/memory/architectures"},
    "peft": {"lorax_lab/methods"},
    "seaborn": {"analysis"},
    "jinja2": {"analysis", "lorax_lab/audit"},
    "datasets": {"lorax_lab/data"},
    "accelerate": {"lorax_lab/train"},
}
ANALYSIS_READS = {"record", "study", "spectra", "streams", "errors", "windows"}
STUDIES_IMPORT = {
    "study", "afterwards", "config", "console", "data", "errors", "launch", "measure", "models", "spectra", "record",
    "streams", "tasks",
}  # fmt: skip
"""What composes, reads and measures runs, and the named streams of random numbers; nothing that trains."""


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = ".".join([*base(path, node.level), *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def base(path: Path, level: int) -> list[str]:
    """The package that an import with so many leading dots starts from; nothing where there are none."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts) if level else []
    return parts[: len(parts) - level] if level else []


def room(path: Path) -> str:
    return path.relative_to(ROOT / "lorax_lab").with_suffix("").parts[0]


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


def modules() -> dict[str, Path]:
    """Every module of the library, the analysis and the studies by its dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for folder in ("lorax_lab", "analysis", "experiments")
        for path in files(folder)
    }


def arrows() -> dict[str, set[str]]:
    """Which of our modules each of them imports, at its top or inside a function."""
    known = modules()
    return {name: {other for other in imports(path) if other in known} - {name} for name, path in known.items()}


def package(module: str) -> str:
    """A module's room: `lorax_lab.record` of `lorax_lab.record.record`, `analysis` of `analysis.style`."""
    parts = module.split(".")
    return ".".join(parts[:2] if parts[0] == "lorax_lab" else parts[:1])


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Nodes of a cycle in order, empty where there is none."""
    from graphlib import CycleError, TopologicalSorter

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_the_arrows_run_one_way() -> None:
    wrong = []
    for path in files("lorax_lab"):
        if path == ROOT / "lorax_lab" / "__init__.py":
            continue
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("lorax_lab.")}
        wrong += [f"{room(path)} → {other}" for other in ours - MAY_IMPORT[room(path)] - {room(path)}]
    assert not wrong


def test_no_cycle_between_modules() -> None:
    graph = arrows()
    inits = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert not cycle(
        {name: others - {o for o in others & inits if name.startswith(f"{o}.")} for name, others in graph.items()}
    )


def test_no_cycle_between_packages() -> None:
    graph: dict[str, set[str]] = {}
    for name, others in arrows().items():
        if name != "lorax_lab":
            graph.setdefault(package(name), set()).update(package(o) for o in others if package(o) != package(name))
    graph.pop("lorax_lab", None)
    assert not cycle(graph)


def test_a_cycle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})


def test_few_modules_stand_at_the_top() -> None:
    assert len([path for path in (ROOT / "lorax_lab").glob("*.py") if path.stem != "__init__"]) <= 8


def test_analysis_reads_the_store_and_spectra_only() -> None:
    for path in files("analysis"):
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("lorax_lab.")}
        assert ours <= ANALYSIS_READS, path
        assert not any(name.startswith("experiments") for name in imports(path)), path


def test_studies_import_what_composes_and_reads_runs() -> None:
    for path in files("experiments"):
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("lorax_lab.")}
        assert ours <= STUDIES_IMPORT, path


def test_studies_know_of_the_analysis_only_the_file_that_they_write_for_it() -> None:
    importers = {path.stem for path in files("experiments") if any(n.startswith("analysis") for n in imports(path))}
    assert importers == {"constants"}
    known = {name for name in imports(ROOT / "experiments" / "constants.py") if name.startswith("analysis")}
    assert all(name.startswith("analysis.study.constants") for name in known)


def test_each_foreign_library_has_one_door() -> None:
    wrong = []
    for path in [*files("lorax_lab"), *files("analysis")]:
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


def test_no_room_without_a_subject() -> None:
    for path in [*files("lorax_lab"), *files("analysis"), *files("experiments")]:
        assert path.stem not in {"utils", "helpers", "common", "misc"}


@pytest.mark.parametrize("path", files("lorax_lab"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_imports_no_analysis_and_no_studies(path: Path) -> None:
    """Also not inside a function, nor by a string for `importlib.import_module` or `python -m`."""
    assert not reached(path) & {"analysis", "experiments", "benchmarks", "tests"}


def reached(path: Path) -> set[str]:
    """The first part of each module that a file imports or names in a string of its own, docstrings left out."""
    tree = ast.parse(path.read_text())
    modules = imports(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).rpartition(".")[2]
            modules |= {str(node.args[0].value)} if called in ("import_module", "__import__", "find_spec") else set()
        if isinstance(node, ast.List | ast.Tuple):  # a command: [sys.executable, "-m", "analysis"]
            texts = [item.value if isinstance(item, ast.Constant) else None for item in node.elts]
            modules |= {str(module) for flag, module in itertools.pairwise(texts) if flag == "-m"}
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize(
    "line",
    [
        "def f():\n    from analysis import style",
        "import experiments.study",
        "importlib.import_module('analysis.audit')",
        "__import__('analysis')",
        "run([sys.executable, '-m', 'analysis', 'audit'])",
    ],
)
def test_a_way_around_is_seen(tmp_path: Path, line: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(line)
    assert reached(path) & {"analysis", "experiments"}
