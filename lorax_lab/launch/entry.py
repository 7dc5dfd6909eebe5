"""What `python -m lorax_lab.run` does with its command line."""

from __future__ import annotations

import sys
from pathlib import Path

import lorax_lab
from lorax_lab.errors import ConfigError, any_sign_can_be_printed, in_one_line
from lorax_lab.launch.arguments import Arguments, read


def launch() -> int:
    """Run the command line in `sys.argv`.

    Returns:
        The exit code: 0 all completed, 1 some not, 2 a setting that is not possible, 130 interrupted.
    """
    any_sign_can_be_printed()
    try:
        arguments = read(sys.argv[1:])
        if arguments.version:
            print(f"lorax_lab {lorax_lab.__version__}")
            return 0
        if not arguments.is_question:
            return _sweep(arguments)
        from lorax_lab.launch.questions import answer

        answer(arguments)
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted before anything trained", file=sys.stderr)
        return 130
    except ConfigError as error:
        from rich.text import Text

        from lorax_lab.console import console

        console.print(Text.assemble(("error:", "red"), f" {in_one_line(error)}"), soft_wrap=True)
        return 2


def _sweep(arguments: Arguments) -> int:
    from lorax_lab.console import console
    from lorax_lab.launch import coverage
    from lorax_lab.launch.files import overrides_of
    from lorax_lab.launch.launchers import chosen
    from lorax_lab.launch.place import check_place, make_place
    from lorax_lab.launch.plan import check, grid
    from lorax_lab.launch.precision import of_auto
    from lorax_lab.launch.room import in_words, shares
    from lorax_lab.launch.sweep import Sweep
    from lorax_lab.launch.words import twice

    overrides = overrides_of(arguments)
    launcher = chosen(overrides)
    runs = grid(overrides, arguments.multirun)
    for run in runs:
        check_place(run)
    sweep = Sweep(runs)
    workers = shares(sweep.waiting, len(sweep.runs), check(sweep.waiting), launcher)
    if sweep.waiting and not arguments.dry_run:
        make_place(sweep.runs_dir)
    console.print(sweep.opening, soft_wrap=True, markup=False)
    for line in [*twice(arguments.overrides), *of_auto(overrides, runs[0].config)]:
        console.print(f"note: {line}", soft_wrap=True, markup=False)
    if arguments.config and not arguments.overrides:
        _compare(arguments.config, sweep.runs[-1].run_id)
    for line in [*in_words(workers), *coverage.lines(sweep.waiting)]:
        console.print(line, soft_wrap=True, markup=False)
    if arguments.dry_run:
        from lorax_lab.launch.dry_run import describe

        for line in describe(sweep.runs, len(workers)):
            console.print(line, soft_wrap=True, markup=False)
        return 0
    interrupted = bool(sweep.waiting) and sweep.train(launcher, workers)
    complete = sweep.close()
    if interrupted:
        console.print("interrupted; the same command goes on with what is missing")
        return 130
    return 0 if complete else 1


def _compare(path: Path, run_id: str) -> None:
    """Say so if a recorded configuration is another run today, because its model or its data changed."""
    from lorax_lab.console import console
    from lorax_lab.record.record import status_of

    folder = (path if path.is_dir() else path.parent).resolve()
    if status_of(folder) is not None and folder.name != run_id:
        reason = f"its model, its data or its version are not what they were, so this is another run: {run_id}"
        console.print(f"note: {folder.name} was recorded; {reason}", soft_wrap=True, markup=False)
