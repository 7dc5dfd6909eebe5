"""`python tests/nightly/mutants.py [--count 60] [--seed 1]`: how many of a random sample of
mutations of the numeric rooms the laws see.

mutmut makes the mutations and runs the tests that reach each one; `[tool.mutmut]` in pyproject.toml has the rooms and
the tests. This draws the sample, in a copy of the project under build/, and counts with a 95 % interval (Wilson 1927).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from scipy.stats import binomtest

ROOT = Path(__file__).parents[2]
MAKE = """
from mutmut import __main__ as mutmut
mutmut.set_mutant_under_test("mutant_generation")
mutmut.Path("mutants").mkdir(exist_ok=True)
mutmut.copy_src_dir()
mutmut.copy_also_copy_files()
mutmut.create_mutants(1)
"""
SURVIVED, UNREACHED = (0,), (5, 33, 34, None)
"""Exit codes by which mutmut says that every test passed, or that none reaches the mutation."""


def main(words: list[str]) -> int:
    """Draw, run and print; returns 0 once every mutation of the sample has its outcome."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=60, help="mutations in the sample")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(words)
    project = ROOT / "build" / "mutants"
    shutil.rmtree(project, ignore_errors=True)
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, project / name)
    environment = os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", MAKE], cwd=project, env=environment, check=True)
    names = sorted(exit_codes(project))
    sample = random.Random(asked.seed).sample(names, min(asked.count, len(names)))
    environment["PYTHONPATH"] = str(project / "mutants")
    mutmut = "import sys; from mutmut.__main__ import cli; sys.argv[0] = 'mutmut'; cli()"
    subprocess.run([sys.executable, "-c", mutmut, "run", *sample], cwd=project, env=environment, check=True)
    codes = {name: exit_codes(project)[name] for name in sample}
    print(summary(codes))
    for name, code in codes.items():
        if code in SURVIVED:
            subprocess.run([sys.executable, "-c", mutmut, "show", name], cwd=project, env=environment, check=True)
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
