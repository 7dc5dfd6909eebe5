"""`python tests/nightly/mutants.py [FILE …]`: mutations of the modules that decide what a study says. A test must see
every one. `--sample 60 [--seed 1]` counts a random sample over all numeric rooms instead.

mutmut makes the mutations and runs the tests that reach each one, in a copy of the project under build/. The gate,
`mutations.toml`, has for each module its tests, mutations of our own that mutmut does not make, and those that change
nothing, each with its reason. `[tool.mutmut]` in pyproject.toml has the rooms and tests of the sample.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

ROOT = Path(__file__).parents[2]
GATE: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("mutations.toml").read_text(encoding="utf-8"))
MAKE = """
from mutmut import __main__ as mutmut
mutmut.set_mutant_under_test("mutant_generation")
mutmut.Path("mutants").mkdir(exist_ok=True)
mutmut.copy_src_dir()
mutmut.copy_also_copy_files()
mutmut.create_mutants(1)
"""
CLI = "import sys; from mutmut.__main__ import cli; sys.argv[0] = 'mutmut'; cli()"
SURVIVED, UNREACHED = (0,), (5, 33, 34, None)
"""Exit codes by which mutmut says that every test passed, or that none reaches the mutation."""


def main(words: list[str]) -> int:
    """Run and print. Returns 1 where no test sees a mutation of a gated module that is not listed as equivalent."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", choices=[*GATE, []], default=list(GATE), metavar="FILE")
    parser.add_argument("--sample", type=int, help="mutations in a random sample of all numeric rooms")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(words)
    project = copy_of_project()
    if asked.sample:
        return sample(project, asked.sample, asked.seed)
    return max([gate(project, file) for file in asked.files])


def copy_of_project() -> Path:
    """A fresh copy of the files that git knows, as they are now."""
    project = ROOT / "build" / "mutants"
    shutil.rmtree(project, ignore_errors=True)
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, project / name)
    return project


def gate(project: Path, file: str) -> int:
    """Try every mutation of one module; 1 where one survives."""
    entry = GATE[file]
    general = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    rooms = tomllib.loads(general)["tool"]["mutmut"]
    rooms |= {"only_mutate": [file], "pytest_add_cli_args_test_selection": [file, *entry["tests"]]}
    rooms |= {"timeout_constant": 5.0}  # seconds; times 15, since a busy machine is no endless loop
    settings = "".join(f"{key} = {json.dumps(value)}\n" for key, value in rooms.items())
    general = general.partition("[tool.mutmut]\n")[0]
    (project / "pyproject.toml").write_text(f"{general}[tool.mutmut]\n{settings}", encoding="utf-8")
    shutil.rmtree(project / "mutants", ignore_errors=True)
    make_mutations(project)
    mutmut(project, "run", "--max-children", "1")
    codes = exit_codes(project)
    diffs = {name: mutmut(project, "show", name, prints=False) for name, code in codes.items() if is_unseen(code)}
    equal = {(old, new) for old, new, _ in entry.get("equivalent", [])}
    survivors = {name: diff for name, diff in diffs.items() if changed_lines(diff) not in equal}
    by_hand = {new: is_unseen_by_hand(project, file, old, new) for old, new in entry.get("by_hand", [])}
    survivors |= {new: f"by hand: {new}" for new, unseen in by_hand.items() if unseen}
    counts = f"{len(codes)} mutations and {len(by_hand)} by hand"
    print(f"{file}: {counts}, {len(survivors)} survived, {len(diffs.keys() - survivors.keys())} change nothing")
    print(*survivors.values(), sep="\n", flush=True)
    return min(len(survivors), 1)


def make_mutations(project: Path) -> None:
    """Write the mutations to a folder of the copy, from which mutmut's own process can import them afterwards."""
    environment = os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", MAKE], cwd=project, env=environment, check=True)


def mutmut(project: Path, *words: str, prints: bool = True) -> str:
    """Run mutmut in the copy; its output, which it `prints` as it comes where nobody asks for it."""
    environment = os.environ | {"PYTHONPATH": str(project / "mutants"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CLI, *words]
    pipe = None if prints else subprocess.PIPE
    return subprocess.run(command, cwd=project, env=environment, stdout=pipe, text=True, check=True).stdout or ""


def is_unseen(code: int | None) -> bool:
    """Whether this outcome of a mutation says that no test saw it."""
    return code in (*SURVIVED, *UNREACHED)


def changed_lines(diff: str) -> tuple[str, str]:
    """What a mutation took out and what it put in, without the space around them.

    >>> changed_lines("--- a.py\\n+++ a.py\\n@@ -1 +1 @@\\n-    return 0\\n+    return 1")
    ('return 0', 'return 1')
    """
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    out, into = ("\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return out, into


def is_unseen_by_hand(project: Path, file: str, old: str, new: str) -> bool:
    """Whether the module's tests pass with another text in one place of it."""
    path, environment = project / file, os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
    text = (ROOT / file).read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file} has {old!r} {text.count(old)} times; mend mutations.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-m", "not network and not gpu", file, *GATE[file]["tests"]]
    ended = subprocess.run(command, cwd=project, env=environment, stdout=subprocess.DEVNULL)
    path.write_text(text, encoding="utf-8")
    return ended.returncode == 0


def sample(project: Path, count: int, seed: int) -> int:
    """Try a random sample of the mutations of the numeric rooms; the share that is seen, with a 95 % interval (Wilson
    1927)."""
    make_mutations(project)
    names = sorted(exit_codes(project))
    drawn = random.Random(seed).sample(names, min(count, len(names)))
    mutmut(project, "run", *drawn)
    codes = {name: exit_codes(project)[name] for name in drawn}
    print(summary(codes))
    for name, code in codes.items():
        if code in SURVIVED:
            mutmut(project, "show", name)
    return 0


def exit_codes(project: Path) -> dict[str, int | None]:
    """How the tests of each mutation ended, by its name; None where they were not run."""
    metas = (project / "mutants").rglob("*.py.meta")
    return {name: code for meta in metas for name, code in json.loads(meta.read_text())["exit_code_by_key"].items()}


def summary(codes: dict[str, int | None]) -> str:
    """How many mutations there were, how many survived or are reached by no test, and the share that is seen."""
    survived, unreached = (sum(code in kind for code in codes.values()) for kind in (SURVIVED, UNREACHED))
    seen = len(codes) - survived - unreached
    low, high = binomtest(seen, len(codes)).proportion_ci(0.95, "wilson")
    share = f"{seen / len(codes):.1%} are seen (95 % interval {low:.1%} to {high:.1%})"
    return f"{len(codes)} mutations: {survived} survived, no test reaches {unreached}, {share}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
