"""`python -m experiments.<study>`: list what is recorded and what is missing, run the rest through ordinary sweeps.

Every missing part is a command that a person could type (`--dry-run` prints them). Whatever stops the study, the same
command continues it. The declaration is written before the first run. After each sweep the runs' records, without
weights, are written to the study's file.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments import afterwards
from experiments.study import Plan, Progress, Study, sweeps
from experiments.study_records import StudyRecords
from lorax_lab.config.overrides import quoted
from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.launch.compose import compose, spell_out
from lorax_lab.launch.launchers import chosen
from lorax_lab.record.output import guard
from lorax_lab.study.protocol import Cell

RECORDS = Path(__file__).parent / "records"
WRONG, STOPPED = 2, 130
GRACE = 30.0
LAUNCH = (
    "workers=",
    "hydra/launcher",
    "hydra.launcher.",
    "isolate=",
    "tracking=",
    "checkpoint_seconds=",
    "time_limit_seconds=",
)
"""Overrides that may follow: how runs are launched and shown, not what they are."""


def main(study: Study, arguments: list[str] | None = None) -> int:
    """Carry the study out. Returns the exit code: 0 all recorded, 1 some runs are not, 2 a wrong input, 130 stopped."""
    guard()
    options, launch = _parser(study).parse_known_args(arguments)
    launch += [pair for pair in options.only if pair.startswith(LAUNCH)]  # --only takes all that follows
    options.only = [pair for pair in options.only if pair not in launch]
    return answer(lambda: _carry_out(study, options, launch), "; the same command goes on with what is missing")


def _parser(study: Study) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {_module(study)}",
        description=f"question: {study.QUESTION}\n\nprediction: {study.PREDICTION}\n\ncost: {study.COST}",
        epilog="What says how runs are launched may follow, as in: workers=2, isolate=true, tracking=disabled",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dry-run", action="store_true", help="say what is recorded and missing, print the commands")
    ahead = "write what the study declares, and run nothing: runs that studies share follow the declarations of all"
    parser.add_argument("--declare", action="store_true", help=ahead)
    only = "only these runs: arm=…, stage=trial or final, seed=…, and a factor's level, as task=…"
    parser.add_argument("--only", nargs="+", default=[], metavar="KEY=VALUE", help=only)
    parser.add_argument("--budget", choices=("full", "small"), default="full", help="small: a ten-minute version")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs are (runs)")
    where = "where their records go (experiments/records; of a small budget RUNS/records)"
    parser.add_argument("--records", type=Path, help=where)
    return parser


def _carry_out(study: Study, options: argparse.Namespace, launch: list[str]) -> int:
    _check_launch([f"runs_dir={quoted(str(options.runs))}"], ("runs_dir=",))
    _check_launch(launch)
    if os.path.lexists(options.runs) and not os.path.isdir(options.runs):
        raise ConfigError(f"--runs {options.runs} is no folder; name a folder, as in --runs runs")
    plan, name = study.plan(options.budget), _module(study).rpartition(".")[2]
    wanted = _wanted(options.only, plan)
    folder = options.records or (RECORDS if options.budget == "full" else options.runs / "records")
    description = {"study": _module(study), "budget": options.budget, "question": study.QUESTION}
    description |= {"prediction": study.PREDICTION, "cost": study.COST}
    records = StudyRecords(folder / f"{name}.jsonl", options.runs, plan, description)
    progress, launch = records.progress(wanted), _with_workers(launch, records.published.values())
    if options.dry_run:
        _show(progress)
        records.check(progress)
        print(
            *(
                shlex.join(["python", *_command(sweep, options.runs, launch, name)[1:]])
                for sweep in sweeps(plan, progress.missing)
            ),
            sep="\n",
        )
        return 0
    if options.declare:
        records.check(progress)
        records.declare(progress)
        print(f"declared: {records.beside}")
        return 0
    status = _run_missing(records, progress, options.runs, launch)
    if status:
        return status
    progress = records.progress(wanted)
    if progress.missing:
        return 1
    records.publish(progress.cells)
    if plan.shared and not options.only:
        records.share(progress)
    if not options.only:
        afterwards.measure(records, progress)
    print(f"records: {records.path}")
    return 0


def _run_missing(records: StudyRecords, progress: Progress, runs: Path, launch: list[str]) -> int:
    """Run the missing runs, each sweep once: trials first, final runs once rates are chosen. Returns 0, or `WRONG`."""
    tried: list[list[str]] = []
    while True:
        progress = records.progress(progress.wanted)
        _show(progress)
        records.check(progress)
        records.declare(progress)
        waiting = [sweep for sweep in sweeps(progress.plan, progress.missing) if sweep not in tried]
        if not waiting:
            return 0
        for sweep in waiting:
            tried.append(sweep)
            try:
                status = _run(_command(sweep, runs, launch, records.path.stem))
            finally:
                records.publish(progress.cells)
            if status == STOPPED:
                raise KeyboardInterrupt
            if status == WRONG:
                return WRONG


def _command(sweep: list[str], runs: Path, launch: list[str], study: str) -> list[str]:
    places = (f"runs_dir={_typed(runs)}", f"tracking.study={study}")
    return [sys.executable, "-m", "lorax_lab.run", *sweep, *places, *launch, "-m"]


def _with_workers(launch: list[str], lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """The launch overrides with a number of workers that leaves each run as many threads as the study's runs had, for
    other threads round differently; one thread in a new study."""
    from lorax_lab.record.provenance import hardware

    if any(override.startswith(("workers=", "hydra/launcher")) for override in launch):
        return launch
    threads = next((int(line["hardware"]["threads"]) for line in lines if "hardware" in line), 1)
    return [*launch, f"workers={max(int(hardware()['threads']) // threads, 1)}"]


def _typed(runs: Path) -> str:
    """A folder as it is typed; in quotes where it has other signs than letters."""
    return str(runs) if re.fullmatch(r"[\w./-]+", str(runs), re.ASCII) else quoted(str(runs))


def _run(command: list[str]) -> int:
    """The exit code of a sweep in a process of its own. A sweep that is stopped has half a minute to write its results.
    A terminal's Ctrl-C reaches it directly; SIGTERM is passed on."""
    child = subprocess.Popen(command)

    def pass_on(*_: object) -> None:
        child.terminate()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        return child.wait()
    except KeyboardInterrupt:
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(progress: Progress) -> None:
    count, missing = len(progress.cells), len(progress.missing)
    later = f" and {progress.to_come} once rates are chosen" if progress.to_come else ""
    left = progress.seconds_left()
    time = f"{left / 3600:.1f} hours" if left > 5400 else f"{left / 60:.0f} minutes"
    print(
        f"{count - missing} runs recorded, {missing} missing{later}" + (f": about {time}" if left else ""), flush=True
    )
    protocol = progress.plan.protocol
    for condition, selection in progress.selections.items():
        seeds = len(protocol.selection_seeds)
        sizes = f"{len(selection.steps)} rates × {seeds} seed{'s' * (seeds > 1)}"
        if not selection.choices:
            print(f"  {condition}: {sizes} for each arm, {len(selection.missing)} trials missing", flush=True)
        for arm, choice in selection.choices.items():
            edge = ", at the edge of the grid" if choice.edge else ""
            rate, score = protocol.rate(arm, choice.step), f"validation {choice.score:.4f}"
            print(f"  {condition}, {arm}: learning rate {rate:g}, {score} ({sizes}{edge})", flush=True)


def _wanted(only: list[str], plan: Plan) -> Callable[[Cell], bool]:
    """Whether a cell is one of those that `--only` names.

    Raises:
        ConfigError: a key or value that the study has not.
    """
    allowed = {factor: list(levels) for factor, levels in plan.factors.items()}
    allowed |= {"arm": [arm.name for arm in plan.protocol.arms], "stage": ["trial", "final"]}
    allowed["seed"] = [str(seed) for seed in (*plan.protocol.selection_seeds, *plan.protocol.final_seeds)]
    pairs = []
    for pair in only:
        key, _, value = pair.partition("=")
        if key not in allowed:
            raise ConfigError(f"--only {pair}: {suggest(key, list(allowed))}; type --only stage=trial")
        if value not in allowed[key]:
            raise ConfigError(f"--only {pair}: {suggest(value, allowed[key])}")
        pairs.append((key, value))
    points = {condition: plan.levels(condition) for condition in plan.conditions}

    def wanted(cell: Cell) -> bool:
        own = points[cell.condition] | {"arm": cell.arm, "stage": cell.stage, "seed": str(cell.seed)}
        return all(own[key] == value for key, value in pairs)

    return wanted


def _check_launch(overrides: list[str], allowed: tuple[str, ...] = LAUNCH) -> None:
    for override in overrides:
        if not override.startswith(allowed):
            fixed = f"{override} is not possible: a study's runs are fixed"
            raise ConfigError(f"{fixed}; what may follow: {' '.join(LAUNCH)}; options: --help")
    spelled = spell_out(overrides)
    chosen(spelled)
    compose(spelled)


def _module(study: Study) -> str:
    """The module's name for `python -m`, which runs it under the name `__main__`."""
    spec = getattr(study, "__spec__", None)
    return spec.name if spec else study.__name__
