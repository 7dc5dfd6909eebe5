"""The house: who may import whom, one door per foreign library, no room without a subject."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENTRIES = {"run", "sweep", "isolated", "audit", "serve"}
MAY_IMPORT = {
    "config": set(),
    "entry": {"config"},
    "streams": set(),
    "archives": set(),
    "assets": {"config", "archives"},
    "models": {"config", "assets", "streams"},
    "tasks": {"config", "assets", "train"},
    "adapters": {"config", "models", "spectra"},
    "train": {"config", "streams", "resume"},
    "redact": set(),
    "files": {"redact"},
    "claims": {"files"},
    "resume": {"files"},
    "plan": {"compose", "config", "models", "tasks"},
    "attempts": {"claims", "record", "config", "plan", "provenance", "console", "memory"},
    "spectra": set(),
    "architectures": {"config"},
    "memory": {"config", "entry", "architectures", "models", "adapters", "compose", "console"},
    "functional": {"models"},
    "matrices": {"spectra", "models", "functional"},
    "record": {"config", "files", "redact"},
    "provenance": {"config"},
    "published": {"record", "files", "spectra"},
    "planted": {"config", "files", "models", "tasks"},
    "tracking": {"config", "claims", "console", "files", "record"},
    "console": set(),
    "compose": {"config", "redact"},
    "checkpoints": {"config", "models"},
}
DOORS = {
    "wandb": {"lorax_lab/tracking"},
    "hydra": {"lorax_lab/sweep", "lorax_lab/compose"},
    "transformers": {"lorax_lab/models", "lorax_lab/tasks", "lorax_lab/architectures"},
    "peft": {"lorax_lab/adapters"},
    "seaborn": {"analysis"},
    "datasets": {"lorax_lab/tasks"},
    "accelerate": {"lorax_lab/train"},
}


PROTOCOL = {
    "experiments.protocol",
    *(f"experiments.protocol.{n}" for n in ("Arm", "Cell", "Protocol", "Selection", "cell_of", "select")),
}
"""All of the studies that analysis knows: the rules that it checks their records against."""


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT / "lorax_lab").with_suffix("").parts[0]


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


def test_the_arrows_run_one_way() -> None:
    wrong = []
    for path in files("lorax_lab"):
        if room(path) in ENTRIES | {"__init__"}:
            continue
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("lorax_lab.")}
        wrong += [f"{room(path)} → {other}" for other in ours - MAY_IMPORT[room(path)] - {room(path)}]
    assert not wrong


def test_analysis_reads_records_and_spectra_only() -> None:
    for path in files("analysis"):
        ours = {".".join(name.split(".")[:2]) for name in imports(path) if name.startswith("lorax_lab")}
        rooms = {"record", "spectra", "files", "published"}
        assert ours <= {"lorax_lab", *(f"lorax_lab.{room}" for room in rooms)}, path
        assert {name for name in imports(path) if name.startswith("experiments")} <= PROTOCOL, path


def test_studies_import_what_composes_and_reads_runs() -> None:
    rooms = {
        "plan",
        "compose",
        "config",
        "entry",
        "published",
        "record",
        "provenance",
        "files",
        "planted",
        "tasks",
        "assets",
        "console",
    }
    for path in files("experiments"):
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("lorax_lab.")}
        assert ours <= rooms, path
    for path in files("lorax_lab"):
        assert not any(name.startswith(("experiments", "analysis.study")) for name in imports(path)), path


def test_each_foreign_library_has_one_door() -> None:
    wrong = []
    for path in [*files("lorax_lab"), *files("analysis")]:
        place = str(path.relative_to(ROOT).with_suffix(""))
        for library in {name.split(".")[0] for name in imports(path)} & set(DOORS):
            if not any(place.startswith(door) for door in DOORS[library]):
                wrong.append(f"{place} imports {library}")
    assert not wrong


NO_RESULT = {
    "console", "tracking", "redact", "files", "record", "resume", "provenance", "assets", "archives", "sweep",
    "attempts", "claims", "plan", "compose", "isolated", "memory/__init__", "memory/process", "memory/shortage",
}  # fmt: skip
"""What a run passes through and what does not decide its numbers: it shows, stores, fetches by hash, launches."""


def test_the_code_version_covers_what_decides_a_run() -> None:
    from lorax_lab.provenance import RESULT_CODE

    home, reached, open_files = ROOT / "lorax_lab", set[Path](), [ROOT / "lorax_lab" / "run.py"]
    while open_files:
        path = open_files.pop()
        if path in reached:
            continue
        reached.add(path)
        if str(path.relative_to(home).with_suffix("")) not in NO_RESULT:
            parts = [home.joinpath(*name.split(".")[1:]) for name in imports(path) if name.startswith("lorax_lab.")]
            open_files += [p.with_suffix(".py") for p in parts if p.with_suffix(".py").is_file()]
            open_files += [p / "__init__.py" for p in parts if p.is_dir()]
    names = {str(path.relative_to(home).with_suffix("")) for path in reached}
    covered = {name for name in names for part in RESULT_CODE if name == part[:-3] or name.startswith(f"{part}/")}
    assert names - covered <= NO_RESULT
    assert all((home / part).exists() for part in RESULT_CODE)


def test_no_room_without_a_subject_and_no_long_file() -> None:
    for path in [*files("lorax_lab"), *files("analysis"), *files("experiments")]:
        assert path.stem not in {"utils", "helpers", "common", "misc"}
        assert len(path.read_text().splitlines()) <= 300, path
