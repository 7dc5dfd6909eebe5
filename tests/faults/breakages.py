"""`python tests/faults/breakages.py [TEXT …]`: break the lab's own code, one place at a time; a test must fail.

Each breakage is applied to a copy of the project, its tests are run there, and the score is printed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SWEEPS, NEIGHBOURS = "tests/faults/test_sweeps.py", "tests/faults/test_neighbours.py"


@dataclass(frozen=True)
class Breakage:
    """What is broken, where, by which change, and the tests that have to see it."""

    what: str
    file: str
    old: str
    new: str
    tests: str


BREAKAGES = (
    Breakage("skip the fsync of a file", "store/files.py", "        sync(scratch)\n", "", "tests/test_files.py"),
    Breakage("skip the fsync of a folder", "store/files.py", "        sync(path.parent)\n", "", "tests/test_files.py"),
    Breakage(
        "write in place",
        "store/files.py",
        "        write(scratch)\n",
        "        write(path)\n        write(scratch)\n",
        "tests/test_files.py tests/test_record.py",
    ),
    Breakage(
        "load a checkpoint without verifying it",
        "store/checkpoints.py",
        "if not path.is_file() or _facts(path) != manifest",
        "if False and _facts(path) != manifest",
        "tests/test_resume.py",
    ),
    Breakage(
        "take a manifest without its checksum",
        "store/checkpoints.py",
        "if expected != _checksum(manifest)",
        "if False",
        "tests/test_resume.py",
    ),
    Breakage(
        "drop the random stream on resume",
        "store/checkpoints.py",
        '    torch.set_rng_state(tensors["random/cpu"])\n',
        "",
        f"tests/test_resume.py {SWEEPS}::test_a_run_killed_at_any_step_ends_in_the_same_bits",
    ),
    Breakage(
        "drop the optimizer on resume",
        "store/checkpoints.py",
        '    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})\n',
        "",
        "tests/test_resume.py",
    ),
    Breakage(
        "forget the place in the epoch",
        "train.py",
        "at.step, at.batch = at.step + 1, at.batch + config.gradient_accumulation",
        "at.step, at.batch = at.step + 1, config.gradient_accumulation",
        f"{SWEEPS}::test_a_run_killed_at_any_step_ends_in_the_same_bits tests/test_train.py",
    ),
    Breakage(
        "save before the validation is noted",
        "store/checkpoints.py",
        "state = asdict(position) |",
        'state = asdict(position) | {"history": position.history[:-1]} |',
        f"tests/test_resume.py {SWEEPS}::test_a_run_killed_at_any_step_ends_in_the_same_bits",
    ),
    Breakage("keep one checkpoint", "store/checkpoints.py", "KEPT = 2", "KEPT = 1", "tests/test_resume.py"),
    Breakage(
        "draw the adapter from no stream of the run",
        "execute.py",
        'generator(config.seed, "adapter")',
        "__import__('torch').Generator().manual_seed(__import__('time').time_ns() % 2**60)",
        "tests/test_run.py::test_two_processes_give_one_configuration_the_same_bits",
    ),
    Breakage(
        "do not look again once the lease is there",
        "launch/attempts.py",
        '    if before == "completed" and not run.config.force:\n        return RECORDED\n',
        "",
        f"{SWEEPS}::test_launchers_that_start_together_train_each_run_once",
    ),
    Breakage(
        "lease what another has",
        "launch/leases.py",
        "if holder is not None and _alive(holder, path, lock):",
        "if False:",
        "tests/test_leases.py",
    ),
    Breakage(
        "never take over from the dead",
        "launch/leases.py",
        "        return _start_of(owner.pid) == owner.started\n",
        "        return True\n",
        "tests/test_leases.py",
    ),
    Breakage(
        "take a record without its checksum",
        "store/record.py",
        "if not (written and same):",
        "if not (written or same):",
        "tests/test_record.py",
    ),
    Breakage(
        "train on with parameters that are not finite",
        "train.py",
        '        raise Diverged(f"parameters',
        '        print(f"parameters',
        "tests/test_train.py",
    ),
    Breakage(
        "wait for a hanging run",
        "launch/isolation.py",
        "timeout=run.config.time_limit_seconds",
        "timeout=None",
        f"{NEIGHBOURS}::test_every_end_is_known_by_its_cause_and_hurts_no_neighbour",
    ),
    Breakage(
        "take the end of a process for its success",
        "launch/isolation.py",
        'if outcome and (outcome != "completed" or record.status_of(run.folder) == "completed"):',
        "if outcome:",
        f"{NEIGHBOURS}::test_every_end_is_known_by_its_cause_and_hurts_no_neighbour",
    ),
    Breakage(
        "wait for W&B",
        "store/tracking.py",
        "communicate(timeout=patience)",
        "communicate(timeout=60)",
        "tests/test_tracking.py",
    ),
    Breakage(
        "write the values of secret variables",
        "store/redact.py",
        "known.sub(HIDDEN, text)",
        "text",
        "tests/test_files.py",
    ),
    Breakage(
        "train on a dry run",
        "launch/entry.py",
        "            console.print(line, soft_wrap=True, markup=False)\n        return 0\n",
        "            console.print(line, soft_wrap=True, markup=False)\n",
        "tests/test_command_line.py::test_a_dry_run_lists_every_run_and_writes_nothing",
    ),
    Breakage(
        "take a file's word before what is typed",
        "launch/files.py",
        "    return [*kept, *typed]\n",
        "    return [*typed, *of_file]\n",
        "tests/test_command_line.py::test_what_is_typed_counts_before_the_file",
    ),
    Breakage(
        "let settings call something",
        "config/overrides.py",
        "return match[0] if match else None",
        "return None",
        f"{NEIGHBOURS} -k command_line",
    ),
)


def main(texts: list[str]) -> int:
    """Apply the breakages whose description has one of the texts, or all; returns how many survived."""
    chosen = [b for b in BREAKAGES if not texts or any(text in b.what for text in texts)]
    survived = []
    for breakage in chosen:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            caught, last_line = _caught(breakage, Path(folder) / "project")
        outcome = "caught" if caught else "SURVIVED"
        print(f"{outcome:<9}{breakage.what} ({time.monotonic() - start:.0f} s): {last_line}", flush=True)
        survived += [] if caught else [breakage]
    print(f"{len(chosen) - len(survived)} of {len(chosen)} caught")
    return len(survived)


def _caught(breakage: Breakage, copy: Path) -> tuple[bool, str]:
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".*", "runs", "figures", "audits", "wandb", "__pycache__")
    )
    path = copy / "lorax_lab" / breakage.file
    text = path.read_text()
    if text.count(breakage.old) != 1:
        return False, f"{breakage.file} has what is to be broken {text.count(breakage.old)} times: mend this list"
    path.write_text(text.replace(breakage.old, breakage.new))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *breakage.tests.split()]
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, env=environment)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 1, (failed or done.stdout.splitlines() or [done.stderr])[-1][:160]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
