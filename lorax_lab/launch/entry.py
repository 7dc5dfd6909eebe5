"""What `python -m lorax_lab.run` does with its command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import lorax_lab
from lorax_lab.errors import ConfigError
from lorax_lab.launch.arguments import Arguments, read


def launch() -> int:
    """Run the command line in `sys.argv`.

    Returns:
        The exit code: 0 all completed, 1 some not, 2 a setting that is not possible, 130 interrupted.
    """
    try:
        arguments = read(sys.argv[1:])
        if arguments.version:
            print(f"lorax_lab {lorax_lab.__version__}")
            return 0
        return _ask(arguments) if arguments.questions else _sweep(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted before anything trained", file=sys.stderr)
        return 130
    except ConfigError as error:
        from rich.text import Text

        from lorax_lab.console import console

        console.print(Text.assemble(("error:", "red"), f" {error}"), soft_wrap=True)
        return 2


def _sweep(arguments: Arguments) -> int:
    from lorax_lab.console import console
    from lorax_lab.launch import coverage
    from lorax_lab.launch.files import overrides_of
    from lorax_lab.launch.launchers import chosen
    from lorax_lab.launch.plan import check, grid
    from lorax_lab.launch.sweep import Sweep

    overrides = overrides_of(arguments)
    launcher = chosen(overrides)
    runs = grid(overrides, arguments.multirun)
    _check_store(runs[0].runs_dir)
    sweep = Sweep(runs)
    console.print(sweep.opening, soft_wrap=True, markup=False)
    if arguments.config and not arguments.overrides:
        _compare(arguments.config, sweep.runs[-1].run_id)
    check(sweep.waiting)
    for line in coverage.lines(sweep.waiting):
        console.print(line, soft_wrap=True, markup=False)
    if arguments.dry_run:
        from lorax_lab.launch.dry_run import describe

        for line in describe(sweep.runs):
            console.print(line, soft_wrap=True, markup=False)
        return 0
    interrupted = bool(sweep.waiting) and sweep.train(launcher)
    complete = sweep.close()
    if interrupted:
        console.print("interrupted; the same command goes on with what is missing")
        return 130
    return 0 if complete else 1


def _check_store(runs_dir: Path) -> None:
    """Refuse a store that cannot be written, before anything is looked up in it.

    Raises:
        ConfigError: it is a file, or neither it nor the folder that it would be made in can be written.
    """
    if runs_dir.exists() and not runs_dir.is_dir():
        raise ConfigError(f"runs_dir={runs_dir} is a file; name a folder, as in runs_dir=runs")
    nearest = next(folder for folder in (runs_dir, *runs_dir.absolute().parents) if folder.exists())
    if not os.access(nearest, os.W_OK) or not nearest.is_dir():
        raise ConfigError(f"runs_dir={runs_dir} cannot be written ({nearest} is not writable); name another folder")


def _compare(path: Path, run_id: str) -> None:
    """Say so if a recorded configuration is another run today, because its model or its data changed."""
    from lorax_lab.console import console
    from lorax_lab.store.record import status_of

    folder = (path if path.is_dir() else path.parent).resolve()
    if status_of(folder) is not None and folder.name != run_id:
        reason = f"its model, its data or its version are not what they were, so this is another run: {run_id}"
        console.print(f"note: {folder.name} was recorded; {reason}", soft_wrap=True, markup=False)


def _ask(arguments: Arguments) -> int:
    """Let Hydra answer a question about the configuration, once the overrides are checked."""
    import hydra

    from lorax_lab.config.overrides import CONF, expand
    from lorax_lab.launch.files import overrides_of

    overrides = arguments.overrides
    completing = "--shell-completion" in arguments.questions
    if completing and sys.argv[0].endswith(".py"):
        reason = "a shell completes what follows one command, and python starts many programs"
        raise ConfigError(f'--shell-completion: {reason}; type eval "$(lorax-lab --shell-completion install=bash)"')
    if not completing:
        overrides, *others = expand(overrides_of(arguments))
        if others and any(question.startswith("--cfg") for question in arguments.questions):
            print(f"# the first of {1 + len(others)} runs")
    sys.argv[1:] = [*arguments.questions, *overrides]
    hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(lambda _: None)()
    return 0
