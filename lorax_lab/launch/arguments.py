"""What a person types after `python -m lorax_lab.run`: overrides `key=value`, and flags."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from lorax_lab.errors import ConfigError, suggest

NOT_HERE = {
    "--config-name": "the configuration has one name; type --config FILE for a recorded one, or --config-dir DIR",
    "--config-path": "the configuration stays in its place; type --config-dir DIR to add a folder of your own",
    "--experimental-rerun": "it would read a pickle, which can run anything; type --config RUN/config.yaml",
    "--run": "it is what happens anyway; leave it out",
}
"""Hydra's flags that are refused, and what to type instead; the short forms too."""
SHORT = {"-cn": "--config-name", "-cp": "--config-path", "-r": "--run"}


@dataclass(frozen=True)
class Arguments:
    """A command line, read.

    Attributes:
        overrides: `key=value`, as typed.
        multirun: `-m`: the overrides may be a sweep.
        dry_run: list the runs and train nothing.
        version: print the version.
        config: `config.yaml` of a recorded run that is to be run again.
        config_dir: a folder of the user's own, with `experiment/NAME.yaml`.
        questions: flags that Hydra answers, such as `--cfg job`; nothing trains.
    """

    overrides: list[str]
    multirun: bool
    dry_run: bool
    version: bool
    config: Path | None
    config_dir: Path | None
    questions: list[str]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help lists what can be typed")


def read(typed: list[str]) -> Arguments:
    """The command line, with flags before, after or between the overrides.

    >>> read(["rank=4,8", "-m", "seed=1"]).overrides, read(["--cfg", "job"]).questions
    (['rank=4,8', 'seed=1'], ['--cfg=job'])

    Raises:
        ConfigError: a flag that is not possible, or one without its value.
    """
    for flag in typed:
        name = flag.partition("=")[0]
        if reason := NOT_HERE.get(SHORT.get(name, name)):
            raise ConfigError(f"{flag} is not possible: {reason}")
    parser = _parser()
    given, unknown = parser.parse_known_intermixed_args(typed)
    if unknown:
        raise ConfigError(f"{unknown[0]} is not possible; {suggest(unknown[0].partition('=')[0], _flags(parser))}")
    questions = [f"--{name}" for name in ("help", "hydra-help", "resolve", "shell-completion") if _asked(given, name)]
    questions += [f"--{name}={_asked(given, name)}" for name in ("cfg", "package", "info") if _asked(given, name)]
    return Arguments(
        given.overrides, given.multirun, given.dry_run, given.version, given.config, given.config_dir, questions
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m lorax_lab.run", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    for flags in (
        ("--multirun", "-m"), ("--dry-run",), ("--version",), ("--help", "-h"), ("--hydra-help",), ("--resolve",),
        ("--shell-completion", "-sc"),
    ):  # fmt: skip
        parser.add_argument(*flags, action="store_true")
    parser.add_argument("--config", type=Path, metavar="FILE")
    parser.add_argument("--config-dir", "-cd", type=Path, metavar="DIR")
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    parser.add_argument("--package", "-p")
    kinds = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
    parser.add_argument("--info", "-i", nargs="?", const="all", choices=kinds)
    return parser


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    return [action.option_strings[0] for action in parser._actions if action.option_strings]


def _asked(options: argparse.Namespace, name: str) -> str | None:
    return getattr(options, name.replace("-", "_"))
