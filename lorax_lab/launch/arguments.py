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
    "--hydra-help": "it lists what is not possible here; --help lists what is",
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
        help: print what can be typed.
        config_of: `--cfg`: print the configuration of the `job`, of `hydra`, or `all`.
        package: with `--cfg`, only this part.
        resolve: with `--cfg`, references such as `${seed}` by their values.
        info: print how Hydra composes the configuration.
        completion: propose what a shell may complete.
    """

    overrides: list[str]
    multirun: bool
    dry_run: bool
    version: bool
    config: Path | None
    config_dir: Path | None
    help: bool = False
    config_of: str | None = None
    package: str | None = None
    resolve: bool = False
    info: str | None = None
    completion: bool = False

    @property
    def is_question(self) -> bool:
        """Whether the configuration is asked about, and nothing trains."""
        return bool(self.help or self.config_of or self.info or self.completion)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help lists what can be typed")


def read(typed: list[str]) -> Arguments:
    """The command line, with flags before, after or between the overrides.

    >>> read(["rank=4,8", "-m", "seed=1"]).overrides, read(["--cfg", "job"]).config_of
    (['rank=4,8', 'seed=1'], 'job')

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
    asked = [flag for flag in ("help", "cfg", "info", "shell_completion") if getattr(given, flag)]
    if len(asked) > 1:
        raise ConfigError(f"{' '.join(map(_flag, asked))} are several questions; ask one at a time")
    if not given.cfg and (given.package is not None or given.resolve):
        raise ConfigError(f"{'--resolve' if given.resolve else '--package'} is about what --cfg prints; type --cfg job")
    return Arguments(
        given.overrides, given.multirun, given.dry_run, given.version, given.config, given.config_dir, given.help,
        given.cfg, given.package, given.resolve, given.info, given.shell_completion,
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m lorax_lab.run", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    for flags in (
        ("--multirun", "-m"), ("--dry-run",), ("--version",), ("--help", "-h"), ("--resolve",),
        ("--shell-completion", "-sc"),
    ):  # fmt: skip
        parser.add_argument(*flags, action="store_true")
    parser.add_argument("--config", type=_path, metavar="FILE")
    parser.add_argument("--config-dir", "-cd", type=_path, metavar="DIR")
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    parser.add_argument("--package", "-p")
    kinds = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
    parser.add_argument("--info", "-i", nargs="?", const="all", choices=kinds)
    return parser


def _path(typed: str) -> Path:
    if not typed.strip() or len(typed) > 4000 or "\0" in typed:
        raise argparse.ArgumentTypeError("an empty name, or one that is too long, names no file")
    return Path(typed)


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    return [action.option_strings[0] for action in parser._actions if action.option_strings]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
