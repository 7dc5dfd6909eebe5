"""`python -m experiments STUDY`: list what is recorded and what is missing, run the rest through ordinary sweeps.

`--dry-run` prints what is missing as commands that a person could type; all of it runs as one sweep. Whatever stops the
study, the same command continues it. The declaration is written before the first run. Each minute the records of runs
that ended, without weights, are written to the study's file.
"""

import argparse
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from experiments.replay import check_versions, to_check
from experiments.study import (
    LAUNCH,
    RECORDS,
    WRONG,
    Plan,
    Progress,
    check_launch,
    name_of,
    run_together,
    sweeps,
    texts_of,
    typed,
    with_workers,
)
from experiments.study_records import StudyRecords
from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.study.protocol import Cell


def main(study: Any, arguments: list[str]) -> int:
    """Carry out a study, which is a module of this folder or like one. Returns the exit code: 0 all recorded, 1 some
    runs are not, 2 a wrong input, 130 stopped."""
    return answer(lambda: _carry_out(study, arguments), "; the same command goes on with what is missing")


def _parser(study: Any) -> argparse.ArgumentParser:
    texts = texts_of(study, name_of(study))
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments {name_of(study)}",
        description="\n\n".join(f"{key}: {text}" for key, text in texts.items()),
        epilog="What says how runs are launched may follow, as in: workers=2, tracking=disabled",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dry-run", action="store_true", help="say what is recorded and missing, print the commands")
    ahead = "write what the study declares, and run nothing: runs that studies share follow the declarations of all"
    parser.add_argument("--declare", action="store_true", help=ahead)
    only = "only these runs: arm=…, stage=trial or final, seed=…, and a factor's level, as task=…"
    parser.add_argument("--only", nargs="+", default=[], metavar="KEY=VALUE", help=only)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs are (runs)")
    records = getattr(study, "RECORDS", RECORDS)
    parser.add_argument("--records", type=Path, default=records, help="where their records go (experiments/records)")
    return parser


def _carry_out(study: Any, arguments: list[str]) -> int:
    options, launch = _parser(study).parse_known_args(arguments)
    launch += [pair for pair in options.only if pair.startswith(LAUNCH)]  # --only takes all that follows
    options.only = [pair for pair in options.only if pair not in launch]
    check_launch(launch)
    plan, name = study.plan(), name_of(study)
    wanted = _wanted(options.only, plan)
    texts = {"study": f"experiments.{name}"} | texts_of(study, name)
    records = StudyRecords(options.records / name, options.runs, plan, texts)
    progress, launch = records.progress(wanted), with_workers(launch, records.published.values())
    if options.dry_run:
        return _list(records, progress, launch, texts["cost"])
    if options.declare:
        records.check(progress)
        records.declare(progress)
        print(f"declared: {records.folder}")
        return 0
    if status := _run_missing(records, progress, launch):
        return status
    progress = records.progress(wanted)
    if progress.missing:
        return 1
    records.publish(progress.cells)
    records.measure(progress)
    print(f"records: {records.folder}")
    return 0


def _list(records: StudyRecords, progress: Progress, launch: list[str], cost: str) -> int:
    """What is recorded and missing, with the commands, and what all of it costs. Nothing is run."""
    _show(progress)
    print(f"cost, as declared: {' '.join(cost.split())}")
    records.check(progress)
    for cell, line in to_check(progress, records.of_cell):
        print(f"# first trained again, as the code or the machine is another: {line['run_id']} ({cell.arm})")
    for sweep in sweeps(progress.plan, progress.missing):
        print(shlex.join(["python", *typed(sweep, records.runs, launch, records.folder.name)[1:]]))
    return 0


def _run_missing(records: StudyRecords, progress: Progress, launch: list[str]) -> int:
    """Run the missing runs, each once: trials first, final runs once rates are chosen. Returns 0, or `WRONG`."""
    tried, checked = set[Cell](), set[Cell]()
    while True:
        progress = records.progress(progress.wanted)
        _show(progress)
        records.check(progress)
        records.declare(progress)
        waiting = [cell for cell in progress.missing if cell not in tried]
        if not waiting:
            return 0
        # final runs are missing only once trials are done, and may have been recorded on another machine than these
        unchecked = [(cell, line) for cell, line in to_check(progress, records.of_cell) if cell not in checked]
        check_versions(progress.plan, unchecked, records.runs, launch)
        checked.update(cell for cell, _ in unchecked)
        tried.update(waiting)
        publish = partial(records.publish, progress.cells)
        try:
            status = run_together(
                sweeps(progress.plan, waiting), records.runs, launch, records.folder.name, meanwhile=publish
            )
        finally:
            publish()
        if status < 0:  # it could not say so itself, as where memory ran out
            print(f"the sweep was ended by signal {-status}; the same command goes on with what is missing")
        if status == WRONG:
            return WRONG


def _show(progress: Progress) -> None:
    count, missing = len(progress.cells), len(progress.missing)
    later = " and more once rates are chosen" if not all(s.choices for s in progress.selections.values()) else ""
    print(f"{count - missing} runs recorded, {missing} missing{later}", flush=True)
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
    """Whether a cell is one of those that `--only` names."""
    allowed = {factor: list(levels) for factor, levels in plan.factors.items()}
    allowed |= {"arm": [arm.name for arm in plan.protocol.arms], "stage": ["trial", "final"]}
    allowed["seed"] = [str(seed) for seed in (*plan.protocol.selection_seeds, *plan.protocol.final_seeds)]
    pairs = []
    for pair in only:
        key, _, value = pair.partition("=")
        if value not in allowed.get(key, ()):
            closest = suggest(value, allowed[key]) if key in allowed else suggest(key, list(allowed))
            raise ConfigError(f"--only {pair}: {closest}; type --only stage=trial")
        pairs.append((key, value))

    def wanted(cell: Cell) -> bool:
        names = plan.levels[cell.condition] | {"arm": cell.arm, "stage": cell.stage, "seed": str(cell.seed)}
        return all(names[key] == value for key, value in pairs)

    return wanted
