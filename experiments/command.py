"""`python -m experiments.<study>`: list what is recorded and what is missing, run the rest through ordinary sweeps.

Every missing part is a command that a person could type (`--dry-run` prints them), so whatever stops the study, the
same command goes on. After each sweep the runs' records, without weights, are written to the study's file.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from experiments.study import Plan, Progress, Study, sweeps
from experiments.study_records import StudyRecords
from lorax_lab.store.protocol import Cell

RECORDS = Path(__file__).parent / "records"
WRONG, STOPPED = 2, 130
GRACE = 30.0
ADDED = ("hydra/launcher", "hydra.launcher.", "isolate=", "tracking=", "checkpoint_seconds=", "time_limit_seconds=")
"""Words that may follow: how runs are launched and shown, not what they are."""


def main(study: Study, words: list[str] | None = None) -> int:
    """Carry the study out. Returns the exit code: 0 all recorded, 1 some runs are not, 2 a wrong input, 130 stopped."""
    from lorax_lab.errors import answer

    given, added = _parser(study).parse_known_args(words)
    return answer(lambda: _carry_out(study, given, added), "; the same command goes on with what is missing")


def _parser(study: Study) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {_module(study)}",
        description=f"question: {study.QUESTION}\n\nprediction: {study.PREDICTION}\n\ncost: {study.COST}",
        epilog="Launchers may follow, as in: hydra/launcher=joblib hydra.launcher.n_jobs=4",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dry-run", action="store_true", help="say what is recorded and missing, print the commands")
    only = "of the runs only these: task=…, arm=…, stage=trial or final, seed=…"
    parser.add_argument("--only", nargs="+", default=[], metavar="KEY=VALUE", help=only)
    parser.add_argument("--budget", choices=("full", "small"), default="full", help="small: a ten-minute version")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs are (runs)")
    where = "where their records go (experiments/records; of a small budget RUNS/records)"
    parser.add_argument("--records", type=Path, help=where)
    return parser


def _carry_out(study: Study, given: argparse.Namespace, added: list[str]) -> int:
    _check_added(added)
    plan, name = study.plan(given.budget), _module(study).rpartition(".")[2]
    wanted = _wanted(given.only, plan)
    records = given.records or (RECORDS if given.budget == "full" else given.runs / "records")
    book = StudyRecords(records / f"{name}.jsonl", given.runs, plan)
    about = {"study": _module(study), "budget": given.budget, "question": study.QUESTION}
    about |= {"prediction": study.PREDICTION, "cost": study.COST}
    tried: list[list[str]] = []
    while True:
        progress = Progress(plan, book.line, wanted)
        _tell(progress)
        book.check_comparable(progress)
        waiting = [sweep for sweep in sweeps(plan, progress.missing) if sweep not in tried]
        commands = [
            [sys.executable, "-m", "lorax_lab.run", *s, f"runs_dir={given.runs}", *added, "-m"] for s in waiting
        ]
        if given.dry_run:
            print(*(shlex.join(["python", *command[1:]]) for command in commands), sep="\n")
            return 0
        for sweep, command in zip(waiting, commands, strict=True):
            tried.append(sweep)
            try:
                status = _run(command)
            finally:
                book.publish(progress.cells, about)
            if status == STOPPED:
                raise KeyboardInterrupt
            if status == WRONG:
                return WRONG
        if not commands:
            break
    if progress.missing:
        return 1
    book.publish(progress.cells, about)
    if plan.shared and not given.only:
        book.share(progress)
    print(f"records: {book.path}")
    return 0


def _run(command: list[str]) -> int:
    """The exit code of a sweep in a process of its own. One that is stopped has half a minute to write what it has; a
    terminal's Ctrl-C reaches it by itself, anything else is passed on."""
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


def _tell(progress: Progress) -> None:
    count, missing = len(progress.cells), len(progress.missing)
    later = f" and {progress.to_come} once rates are chosen" if progress.to_come else ""
    left = progress.seconds_left()
    time = f"{left / 3600:.1f} hours" if left > 5400 else f"{left / 60:.0f} minutes"
    print(
        f"{count - missing} runs recorded, {missing} missing{later}" + (f": about {time}" if left else ""), flush=True
    )
    rules = progress.plan.rules
    for task, chosen in progress.selections.items():
        sizes = f"{len(chosen.steps)} rates × {len(rules.selection_seeds)} seeds"
        if not chosen.choices:
            print(f"  {task}: {sizes} for each arm, {len(chosen.missing)} trials missing", flush=True)
        for arm, choice in chosen.choices.items():
            edge = ", at the edge of the grid" if choice.edge else ""
            rate, score = rules.rate(arm, choice.step), f"validation {choice.score:.4f}"
            print(f"  {task}, {arm}: learning rate {rate:g}, {score} ({sizes}{edge})", flush=True)


def _wanted(words: list[str], plan: Plan) -> Callable[[Cell], bool]:
    from lorax_lab.errors import ConfigError, suggest

    allowed = {"task": list(plan.tasks), "arm": [arm.name for arm in plan.rules.arms], "stage": ["trial", "final"]}
    allowed["seed"] = [str(seed) for seed in (*plan.rules.selection_seeds, *plan.rules.final_seeds)]
    pairs = []
    for word in words:
        key, _, value = word.partition("=")
        if key not in allowed:
            raise ConfigError(
                f"--only {word}: {suggest(key, list(allowed))}; type --only task={next(iter(plan.tasks))}"
            )
        if value not in allowed[key]:
            raise ConfigError(f"--only {word}: {suggest(value, allowed[key])}")
        pairs.append((key, value))
    return lambda cell: all(str(getattr(cell, key)) == value for key, value in pairs)


def _check_added(words: list[str]) -> None:
    from lorax_lab.errors import ConfigError

    for word in words:
        if not word.startswith(ADDED):
            raise ConfigError(f"{word} is not possible: a study's runs are fixed; what may follow: {' '.join(ADDED)}")


def _module(study: Study) -> str:
    """Its name to `python -m`, under which it is called `__main__`."""
    spec = getattr(study, "__spec__", None)
    return spec.name if spec else study.__name__
