"""Each word of a command line is checked here, whatever the flags beside it are, before Hydra sees it.

What passes sets a setting of the lab to a plain value, or chooses and sets up a launcher. Nothing else is let through:
no key of Hydra's own, no package (`key@package`), no deletion (`~key`), and no value that calls something.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

from lorax_lab.config.overrides import values_of
from lorax_lab.config.plain import PLAIN, foreign_part
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.launch.keys import GROUPS, known_keys
from lorax_lab.launch.launchers import check_launcher, check_setting
from lorax_lab.record.redact import redact

HYDRA_KEYS = ("hydra/launcher", "hydra.launcher.")
LISTS = "hydra.sweeper.params."
"""The key under which an experiment's file keeps the lists of its sweep."""
NO_SWEEPER = (
    "hydra/sweeper is not possible: a sweeper such as Optuna's chooses each run by the results of those before, and "
    "here the whole grid is checked before anything trains; type lists of values, as in rank=4,8,16 -m"
)
LONGEST = 10_000
"""Characters of a word; a longer text belongs into a file."""
LARGEST = 1_000_000
"""Bytes of a file of settings."""
TEXTS = ("task.", "method.")
"""Keys whose values may have several lines, such as a prompt."""


def key_of(override: str) -> str:
    """
    >>> key_of("+experiment=mine"), key_of("method.alpha=4")
    ('experiment', 'method.alpha')
    """
    return override.partition("=")[0].lstrip("+~")


def check_word(override: str, foreign: bool = False) -> None:
    """Pass where an override sets a setting of the lab to something that is plain.

    Args:
        foreign: whether the method is PEFT's, whose settings are not all known here.

    Raises:
        ConfigError: anything else, with the key, what is possible and what to type.
    """
    key, equals, _ = override.partition("=")
    bare = key_of(override)
    check_text(override)
    if special := foreign_part(dict.fromkeys(bare.replace("/", ".").split(".")), ()):
        raise ConfigError(f"{override}: {special} is not possible; {PLAIN}")
    if bare.startswith("hydra"):
        _check_hydra(bare, override)
    elif bare not in known_keys() and not (foreign and bare.startswith("method.")):
        raise ConfigError(_unknown(bare, override))
    elif key.startswith("~"):
        raise ConfigError(f"{key} is not possible: no setting can be deleted; leave it out, or set it to null")
    elif not equals:
        raise ConfigError(f"{override} has no value; type {override}=…")
    values = values_of(override)
    if special := foreign_part(values, known_keys()):
        raise ConfigError(f"{override}: {special} is not possible; {PLAIN}")
    if "???" in values:
        raise ConfigError(f"{override} is not possible: ??? stands for no value; leave it out, or set it to null")
    if bare in GROUPS and not all(isinstance(value, str) and value.strip() for value in values):
        raise ConfigError(f"{override} is not possible: {bare} is a name; for instance {bare}={_example(bare)}")


def check_text(override: str) -> None:
    """Pass where an override has no secret in it, no sign that no setting has, and is not too long.

    Raises:
        ConfigError: it does.
    """
    if redact(override) != override:
        key = redact(override.partition("=")[0])
        raise ConfigError(f"{key} has a key or password in it; set it in the environment instead: nothing was written")
    _check_signs(key_of(override), override)


def _check_signs(key: str, override: str) -> None:
    if len(override) > LONGEST:
        raise ConfigError(f"{key} has {len(override)} characters; at most {LONGEST} can be typed, so leave it out")
    lines = "\n\t" if key.startswith(TEXTS) and key not in ("task.path", "task.name") else ""
    for sign in override:
        if unicodedata.category(sign) in ("Cc", "Cs") and sign not in lines:
            raise ConfigError(f"{override} has the sign {sign!a}, which no setting has; leave the sign out")


def _check_hydra(bare: str, override: str) -> None:
    if bare.startswith(LISTS):
        raise ConfigError(f"{bare} belongs into a file of --config-dir; type {override.split(LISTS)[-1]} -m")
    if bare.startswith(("hydra/sweeper", "hydra.sweeper")):
        if override != "hydra/sweeper=basic":
            raise ConfigError(NO_SWEEPER)
    elif bare == "hydra/launcher":
        check_launcher(override.partition("=")[2])
    elif bare.startswith("hydra.launcher."):
        check_setting(override)
    else:
        raise ConfigError(f"there is no key {bare} here; of Hydra's own there are {', '.join(HYDRA_KEYS)}")


def _unknown(bare: str, override: str) -> str:
    """Why a key is none: the nearest ones, and those of its section."""
    key, equals, _ = override.partition("=")
    if "@" in key and bare.split("@")[0] in known_keys():
        return f"{override} is not possible: a setting has one place; leave @ and what follows it out"
    if not equals or not bare:
        return f"{override!r} is not understood; settings are written key=value, as in rank=8"
    section = bare.partition(".")[0]
    of_section = [known for known in known_keys() if known.startswith(f"{section}.")]
    near = suggest(bare, list(known_keys())).partition("allowed: ")[0]
    short = [known for known in known_keys() if "." not in known]
    return f"there is no key {bare}; {near}allowed: {', '.join(of_section or short)}; --cfg job shows all"


def _example(group: str) -> str:
    return {"task": "movie_reviews", "method": "lora", "train": "default", "tracking": "auto"}[group]


def twice(overrides: list[str]) -> list[str]:
    """For each key that is typed with several values, a line that says which one counts.

    >>> twice(["rank=4", "seed=0", "rank=8"])
    ['rank is typed twice: rank=4 rank=8; the last one counts']
    """
    typed: dict[str, list[str]] = {}
    for override in dict.fromkeys(overrides):
        typed.setdefault(key_of(override), []).append(override)
    several = {key: words for key, words in typed.items() if len(words) > 1}
    return [f"{key} is typed twice: {' '.join(words)}; the last one counts" for key, words in several.items()]


def check_folder(folder: Path) -> None:
    """Pass where no file of a folder of the user's own has a value that calls something.

    Raises:
        ConfigError: such a file, or one that is no YAML.
    """
    if linked := sorted(path for path in folder.rglob("*") if path.is_symlink()):
        raise ConfigError(f"--config-dir: {linked[0]} is a link, which is not followed; copy what it names")
    for path in sorted(folder.rglob("*.yaml")):
        content = read_yaml(path, "--config-dir")
        if isinstance(content, dict) and ".." in str(content.get("defaults", "")):
            raise ConfigError(f"--config-dir: {path}: its defaults name .., which leaves the folder; copy the file in")
        if special := foreign_part(content, known_keys()):
            raise ConfigError(f"--config-dir: {path}: {special} is not possible; {PLAIN}")
        if not isinstance(content, dict):
            raise ConfigError(f"--config-dir: {path} has no settings; write key: value, or leave the file out")


def read_yaml(path: Path, flag: str) -> Any:
    """The content of a file of settings.

    Raises:
        ConfigError: it is no file, too large, no YAML, or has a key twice.
    """
    import yaml
    from omegaconf._utils import get_yaml_loader

    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigError(f"{flag} {path} cannot be read: it is no file; name a file of settings, or leave it out")
    try:
        text = path.read_bytes()[: LARGEST + 1].decode()
        if len(text) > LARGEST:
            raise ValueError(f"it has more than {LARGEST} bytes")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError("it has an alias (*name); write the value out")
        return yaml.load(text, Loader=get_yaml_loader())
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{flag} {path} cannot be read ({reason}); mend it, or leave it out") from None
