"""Questions about the configuration (`--help`, `--cfg job`, …). Nothing trains, and nothing that is typed is called:
Hydra composes the configuration, and its program is never started."""

from __future__ import annotations

import os
import string
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lorax_lab.config.overrides import CONF, expand
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.launch.arguments import Arguments
from lorax_lab.launch.compose import composed
from lorax_lab.launch.files import overrides_of
from lorax_lab.launch.words import check_word

SHELLS = ("bash", "fish", "zsh")
INSTEAD = 'type eval "$(lorax-lab --shell-completion install=bash)"'


def answer(arguments: Arguments) -> None:
    """Print the answer to the one question of a command line.

    Raises:
        ConfigError: words that cannot be a command line, or several questions.
    """
    if arguments.completion:
        return _complete(arguments.overrides)
    overrides, *others = expand(overrides_of(arguments))
    if arguments.help:
        print(_help())
    elif arguments.info:
        _inform(arguments.info, overrides)
    else:
        if others:
            print(f"# the first of {1 + len(others)} runs")
        print(_shown(arguments, overrides), end="")


def _help() -> str:
    import yaml

    texts = yaml.safe_load((CONF / "hydra" / "help" / "dials.yaml").read_text(encoding="utf-8"))
    template = texts["template"].replace("${hydra.help.", "${")
    return string.Template(template).substitute(texts)


def _shown(arguments: Arguments, overrides: list[str]) -> str:
    """The configuration of a run as YAML, of a part of it, or of Hydra."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import Container, OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    config = composed(overrides)
    HydraConfig.instance().set_config(config)
    OmegaConf.set_readonly(config.hydra, None)
    with open_dict(config):
        if arguments.config_of == "job":
            del config["hydra"]
        elif arguments.config_of == "hydra":
            config = OmegaConf.create({"hydra": config.hydra})
    part: Any = config
    if arguments.package not in (None, "_global_"):
        keys = [str(key) for key in config]
        part = OmegaConf.select(config, arguments.package) if _is_path(arguments.package) else None
        if part is None:
            raise ConfigError(f"--package {arguments.package} is no part; {suggest(arguments.package, keys)}")
    if not isinstance(part, Container):
        return f"{part}\n"
    if arguments.resolve:
        try:
            OmegaConf.resolve(part)
        except (OmegaConfBaseException, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"a setting refers to another that has no value ({reason}); give it a value of its own"
            ) from error
    return (f"# @package {arguments.package}\n" if part is not config else "") + OmegaConf.to_yaml(part)


def _is_path(package: str) -> bool:
    return all(part.isidentifier() for part in package.split("."))


def _inform(about: str, overrides: list[str]) -> None:
    composed(overrides)
    with _hydra() as hydra:
        hydra.show_info(about, config_name="config", overrides=overrides)


def _complete(words: list[str]) -> None:
    """Shell completion, by Hydra: of the words that are typed so far it sees those that may be typed."""
    if sys.argv[0].endswith(".py"):
        reason = "a shell completes what follows one command, and python starts many programs"
        raise ConfigError(f"--shell-completion: {reason}; {INSTEAD}")
    allowed = [f"{what}={shell}" for what in ("install", "uninstall", "query") for shell in SHELLS]
    if len(words) != 1 or words[0] not in allowed:
        raise ConfigError(f"--shell-completion {' '.join(words)} is not possible: {', '.join(allowed)}; {INSTEAD}")
    line = os.environ.get("COMP_LINE", "")
    command, *typed = line.split() or [""]
    last = typed.pop() if typed and not line[-1].isspace() else ""
    os.environ["COMP_LINE"] = " ".join([command, *filter(_may_be_typed, typed), last])
    with _hydra() as hydra:
        hydra.shell_completion(config_name="config", overrides=words)


def _may_be_typed(word: str) -> bool:
    try:
        check_word(word)
    except ConfigError:
        return False
    return True


@contextmanager
def _hydra() -> Iterator[Any]:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().hydra
