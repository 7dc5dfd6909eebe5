"""From overrides to a checked `RunConfig`: Hydra composes the files of `conf/`, OmegaConf holds the values to the
types of the dataclasses, and their `__post_init__` checks the rest. What is wrong is named in one sentence."""

import copy
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import lru_cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from lorax_lab.config import LEFT_OUT, LEFT_OUT_OF_METHODS, RunConfig, TrackingConfig, TrainConfig
from lorax_lab.config.checks import require
from lorax_lab.config.defaults import defaults, flat, kind_defaults, method_defaults
from lorax_lab.config.measured import CONTROLS, CURVE, TEST_CUTS
from lorax_lab.config.overrides import CONF, parsed, quoted, said_plainly
from lorax_lab.errors import ConfigError, suggest

GROUPS = ("task", "method", "train", "tracking", "experiment")
"""The folders of `conf/`, of which a run takes one file each; an experiment is the user's."""
VALUE = re.compile(rf"(\+\+)?(?!(?:{'|'.join(GROUPS)}|hydra)=)(?!hydra\.)[a-z_.]+=(?!\s*{{)")
"""How an override begins that only sets a value: it chooses no file, adds or deletes no key, is none of Hydra's, and is
no mapping, which Hydra merges."""

OF_THE_USER = "there is no such experiment; it is DIR/experiment/NAME.yaml where --config-dir DIR is typed too"
EXTRAS = {"hydra/sweeper/optuna": "search"} | dict.fromkeys(
    (f"hydra/launcher/{name}" for name in ("joblib", "submitit_local", "submitit_slurm")), "parallel"
)
"""The extra of pyproject.toml that a file of Hydra's comes with."""
OF_OUR_SWEEPER = ("hydra.sweeper.dry_run", "hydra.sweeper.show")
UNLISTED = "--dry-run and --cfg job show runs that are known before the first; leave hydra/sweeper out to see them"
LARGEST = 100_000
"""Letters of a configuration at most; a recorded one has about 2,000."""
BUDGET = {"train.epochs", "train.max_steps", "task.train_examples"}
"""What a person types who chooses how long to train."""
FORMS = {
    "int": ("a whole number", "8"),
    "float": ("a number", "0.01"),
    "bool": ("true or false", "true"),
    "string": ("a text", "mine"),
}
"""The form of a setting's value and an example, by the first word of pydantic's type of error."""


def presets(group: str, folder: Path = CONF) -> list[str]:
    """Names of the files in `conf/<group>/`, such as `movie_reviews` and `glue/mrpc` for `task`; those in a folder of
    the user's, as of `--config-dir`, too."""
    places = [place / group for place in (CONF, folder)]
    files = {file.relative_to(place) for place in places for file in place.rglob("*.yaml")}
    return sorted(str(file.with_suffix("")) for file in files if file.stem != "_base")


@lru_cache(maxsize=1)
def known_keys() -> tuple[str, ...]:
    """Every dotted key that the command line accepts, the settings of every method and kind of task among them."""
    keys = [key for name in presets("method") for key in defaults("local", name)]
    keys += [f"task.{key}" for kind in presets("kind") for key in kind_defaults(kind)]
    keys += [f"tracking.{field.name}" for field in dataclasses.fields(TrackingConfig)]
    return tuple(dict.fromkeys([*GROUPS, *keys]))


def spell_out(overrides: list[str], folder: Path = CONF) -> list[str]:
    """Overrides that Hydra understands: `task=org/name`, which is no preset, becomes `task=hub task.path=org/name`. A
    setting that not every method or kind of task has is added where it is missing; `typed` then checks its name. A
    budget that is typed counts: the least number of steps of `task=local` is then left out.

    Raises:
        ConfigError: a task that looks like a misspelt preset.
    """
    spelled: list[str] = []
    for override in overrides:
        override = re.sub(r"^\+(?=experiment=)", "", override)  # as Hydra's own pages have it
        key, _, value = override.partition("=")
        task = value.strip("'\"") if key == "task" and not re.search(r"[,(\[]", value) else ""
        if not task or task in presets("task", folder):
            spelled.append(f"++{override}" if key.startswith(("task.", "method.")) else override)
            continue
        similar = get_close_matches(task, presets("task"), cutoff=0.5)
        if similar and "/" not in task and not Path(task).exists():
            raise ConfigError(f"task={task} is not a preset; did you mean {' or '.join(similar)}? or a data set id")
        spelled += ["task=hub", f"++task.path={quoted(task)}", f"++task.name={quoted(task)}"]
    keys = {override.partition("=")[0].lstrip("+") for override in spelled}
    if "task=local" in spelled and keys & BUDGET and "task.least_steps" not in keys:
        spelled.append("++task.least_steps=null")
    return spelled


def compose(overrides: list[str]) -> RunConfig:
    """The checked configuration of one run's overrides, as a person types them.

    Raises:
        ConfigError: an unknown key or choice, a missing key, a wrong type or a value out of range.
    """
    return typed(content_of(spell_out(overrides), _composed))


@lru_cache(maxsize=256)
def _composed(choices: tuple[str, ...]) -> dict[str, Any]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    with in_our_words(), initialize_config_dir(str(CONF), version_base="1.3"):
        content: Any = OmegaConf.to_container(hydra_compose("config", list(choices)))
    return dict(content)


def content_of(overrides: list[str], composed: Callable[[tuple[str, ...]], dict[str, Any]]) -> dict[str, Any]:
    """What Hydra composes from overrides, unchecked. That takes a tenth of a second, and the runs of a sweep differ in
    values mostly. So `composed`, which remembers its answers, reads the files of each set of choices once."""
    values = [override for override in overrides if VALUE.match(override)]
    content = copy.deepcopy(composed(tuple(override for override in overrides if override not in values)))
    for override in map(parsed, values):
        *sections, key = override.key_or_group.split(".")
        try:
            section = reduce(getitem, sections, content)
            if not override.is_force_add():
                section[key]
            section[key] = override.value()
        except (KeyError, TypeError):
            raise ConfigError(_no_key(override.key_or_group)) from None
    return content


@contextmanager
def in_our_words() -> Iterator[None]:
    """Errors of Hydra that a slip of the keyboard makes, as a `ConfigError` with what is allowed."""
    from hydra.errors import ConfigCompositionException, MissingConfigException

    with said_plainly():
        try:
            yield
        except MissingConfigException as error:
            group, _, name = (error.missing_cfg_file or "").partition("/")
            if extra := EXTRAS.get(error.missing_cfg_file or ""):
                raise ConfigError(
                    f"{error.missing_cfg_file} is not installed; type pip install 'lorax_lab[{extra}]'"
                ) from None
            if group not in GROUPS or not name:
                raise
            from lorax_lab.methods.peft_bridge import refused  # imports torch

            reason = refused(name) if group == "method" else None
            unknown = f"there is no such {group}; {suggest(name, presets(group))}"
            unknown = OF_THE_USER if group == "experiment" else unknown
            raise ConfigError(reason or f"{group}={name}: {unknown}") from None
        except RuntimeError as error:
            if not str(error).startswith(("Invalid plugin", "Unknown plugin class")):
                raise
            chosen = "launchers and sweepers are chosen by name, as in hydra/launcher=joblib"
            raise ConfigError(f"{error} (_target_); {chosen}") from None
        except ConfigCompositionException as error:
            if not (key := re.match(r"Could not override '([^']+)'", str(error))):
                raise
            reasons = {"experiment": f"experiment: {OF_THE_USER}"} | dict.fromkeys(OF_OUR_SWEEPER, UNLISTED)
            raise ConfigError(reasons.get(key[1]) or _no_key(key[1])) from None


def meant(key: str) -> list[str]:
    """The keys that a word of another trainer may mean: by their last part, or by its initials.

    >>> meant("lr"), meant("train.batch_size"), meant("lora_alpha")
    (['train.learning_rate'], ['train.batch_size'], ['method.alpha'])
    """
    last = key.rpartition(".")[2].removeprefix("lora_").removeprefix("num_train_")
    names = {ours: ours.rpartition(".")[2] for ours in known_keys()}
    initials = {ours: "".join(word[0] for word in name.split("_")) for ours, name in names.items() if "_" in name}
    by_name = [ours for ours, name in names.items() if name == last]
    return by_name or [ours for ours, letters in initials.items() if letters == last]


def check_flags(flags: list[str]) -> None:
    """Refuse a setting that is written as a flag, with a ConfigError that says how it is written."""
    for place, flag in enumerate(flags):
        name, _, value = flag.partition("=")
        if flag.startswith("--") and (keys := meant(name.lstrip("-").replace("-", "_"))):
            after = value or (*flags, "…")[place + 1]
            raise ConfigError(f"{flag}: settings are written key=value; type {keys[0]}={after}")


def _no_key(key: str) -> str:
    section, dot, name = key.rpartition(".")
    names = {ours.rpartition(".")[2]: ours for ours in known_keys() if ours.startswith(f"{section}{dot}")}
    similar = meant(key) or [names[close] for close in get_close_matches(name, names)]
    allowed = f"allowed: {', '.join(names.values())}; " if section and names else ""
    hint = f"did you mean {' or '.join(similar)}? " if similar else allowed
    return f"there is no key {key}; {hint}--cfg job shows all"


def typed(content: Any) -> RunConfig:
    """A composed configuration, plain or a DictConfig, as a checked `RunConfig`, with the settings of its method and of
    its kind of task.

    Raises:
        ConfigError: an unknown key, a missing key, a wrong type or a value out of range.
    """
    from omegaconf import OmegaConf

    from lorax_lab.methods import method_named
    from lorax_lab.tasks import check, kind_of

    if OmegaConf.is_config(content) or "${" in repr(content):
        with said_plainly():
            content = OmegaConf.to_container(OmegaConf.create(content), resolve=True)
    schemas: dict[str, type] = {
        "task": kind_of(str(content["task"].get("kind"))).config,
        "method": method_named(str(content["method"].get("name"))).settings,
        "train": TrainConfig,
        "tracking": TrackingConfig,
    }
    sections = {name: dict(content.get(name, {})) for name in schemas}
    if sections["train"].get("dropout") == "torch":  # recorded runs state it; nothing else is possible now
        del sections["train"]["dropout"]
    settings = {name: _checked(schema, f"{name}.", sections[name]) for name, schema in schemas.items()}
    config: RunConfig = _checked(RunConfig, "", {**content, **settings})
    _check_method(config)
    check(config.task)
    return config


@lru_cache(maxsize=256)
def _reader(schema: type) -> TypeAdapter[Any]:
    """What makes settings of plain values; it lets nothing pass that has another type, or that is no setting."""
    return TypeAdapter(schema)


def _checked(schema: Any, section: str, content: dict[str, Any]) -> Any:
    """Plain settings as the dataclass that holds them to its types. Their keys on the command line begin with
    `section`."""
    types = get_type_hints(schema)
    for key, value in content.items():
        kinds = {types.get(key), *get_args(types.get(key))}
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:  # pydantic reads true as 1
            content = content | {key: quoted(value)}
    try:
        return _reader(schema).validate_python(content)
    except ValidationError as errors:
        error = errors.errors()[0]
        if isinstance(cause := error.get("ctx", {}).get("error"), ConfigError):
            raise cause from None
        key, kind = str(error["loc"][0]), error["type"].partition("_")[0]
        reason = error["msg"]
        if kind in FORMS:
            form, example = FORMS[kind]
            reason = f"{form}, for instance {section}{key}={example}"
        if error["type"] == "unexpected_keyword_argument":
            having = [name for name in presets("method") if section == "method." and key in method_defaults(name)]
            hint = f"method={having[0]} has it; " if having else ""
            allowed = [field.name for field in dataclasses.fields(schema)]
            reason = f"{hint}{suggest(key, allowed)}; --cfg job shows all keys"
        value = content.get(key)
        shown = value if isinstance(value, str) else quoted(value)
        raise ConfigError(f"{section}{key}={shown} is not possible: {reason}") from None


def _check_method(config: RunConfig) -> None:
    """Check what not every method has: a rank, the measurements that only the reference gets, an end before the last
    step."""
    from lorax_lab.methods import METHODS, REFERENCE

    name, rank, method = config.method.name, config.rank, METHODS[config.method.name]
    if method.has_rank:
        ok = rank is not None and rank >= 1
        require(ok, "rank", rank, "a whole number from 1 to the smaller side of the matrices; rank=8")
    else:
        ranked = next(f"method={candidate}" for candidate in METHODS if METHODS[candidate].has_rank)
        instead = f"method.{method.size}=1000 in its place" if method.size else ranked
        no_rank = f"this method has no rank; leave rank out, or type {instead}"
        require(rank is None, f"method={name} rank", rank, no_rank)
    no_cuts = f"only the update of method={REFERENCE} is truncated; type measure={CURVE}, or method={REFERENCE}"
    of_reference = config.measure in (TEST_CUTS, CONTROLS)
    require(not of_reference or method.is_reference, f"method={name} measure", config.measure, no_cuts)
    if method.stepped and (config.train.follows_validation or config.train.precision == "fp16"):
        instead = "type train.patience=null train.keep=last train.precision=bf16"  # fp16 leaves out some steps
        raise ConfigError(f"method={name} cuts its rank until the last step, and needs all of them; {instead}")


def reference_of(config: RunConfig) -> RunConfig:
    """The full fine-tune that a run is compared with: the same model, task, data, budget and seed. The method's own
    settings, and the learning rate, are those of its file."""
    from lorax_lab.methods import REFERENCE, method_named

    method = method_named(REFERENCE).settings(**method_defaults(REFERENCE))
    rate = defaults("local", REFERENCE)["train.learning_rate"]
    train = dataclasses.replace(config.train, learning_rate=rate)
    return dataclasses.replace(config, method=method, rank=None, train=train)


def recorded(path: Path, typed_too: list[str] | None = None) -> list[str]:
    """A recorded `config.yaml`, or a run's folder, which stands for that run in that store, as overrides, with what is
    typed beside it. A typed task or method replaces the recorded one as a whole.

    Raises:
        ConfigError: no such file, or one that is no configuration.
    """
    import yaml
    from omegaconf import OmegaConf

    path, typed_too = path.expanduser(), typed_too or []
    path = path / "config.yaml" if path.is_dir() else path
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > LARGEST or any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError(f"it has over {LARGEST:,} letters, or YAML aliases (*name), which may stand for millions")
        content: Any = OmegaConf.to_container(OmegaConf.create(text))
        content["task"], content["method"]
    except Exception as error:  # what is no YAML, or no mapping, has no common error
        raise ConfigError(f"--config {path} is no run's configuration ({error}); name the config.yaml of one") from None
    content.pop("force", None)
    keys = {override.partition("=")[0] for override in typed_too}
    replaced = keys & {"task", "method"}
    if keys & BUDGET:
        content["task"].pop("least_steps", None)
    if "method" in replaced:  # a method's file sets these
        content.pop("rank", None)
        content.get("train", {}).pop("learning_rate", None)
    if (path.parent / "record.json").exists():
        content["runs_dir"] = str(path.resolve().parent.parent)
    return [*as_overrides({key: value for key, value in content.items() if key not in replaced}), *typed_too]


def as_overrides(content: Mapping[str, Any]) -> list[str]:
    """A plain configuration as the overrides that compose it, whatever the files of `conf/` say."""
    content = dict(content)
    task, method = content.pop("task", None), content.pop("method", None)
    choices, settings = [], flat(content)
    if task is not None:
        preset = "hub" if task.get("source") == "hub" else "local"
        choices.append(f"task={task['name'] if task.get('name') in presets('task') else preset}")
        settings |= LEFT_OUT | {f"task.{key}": value for key, value in task.items()}
    if method is not None:
        choices.append(f"method={method['name']}")
        settings |= LEFT_OUT_OF_METHODS.get(method["name"], {})
        settings |= {f"method.{key}": value for key, value in method.items()}
    return [*choices, *(f"++{key}={quoted(value)}" for key, value in settings.items())]
