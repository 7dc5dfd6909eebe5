"""From the command line's overrides to the runs that are served: one LoRA for each task, on one base."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from lorax_lab.config import OWN
from lorax_lab.config.overrides import expand, value_of
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose, spell_out
from lorax_lab.launch.plan import Run, run_of
from lorax_lab.launch.words import check_text
from lorax_lab.tasks import kind_of
from lorax_lab.tasks.kind import logits

TASKS = ("movie_reviews", "product_reviews", "editorials", "tweets", "sarcasm", "boolq")
SERVED = "lora"
"""The method whose adapters are exchanged in place."""
NOT_HERE = {
    "task": "the tasks are a list here; type tasks=[movie_reviews,tweets]",
    "method": "what is served are adapters, method=lora; leave it out",
    "reference": "no full fine-tune is trained for serving; leave it out",
    "force": "type `python -m lorax_lab.run reference=false force=true …` to train a run again",
    "hydra": "train in parallel before, by `python -m lorax_lab.run reference=false … -m`",
}
HELP = f"""\
Serve many tasks from one base: the base is held once, with a LoRA for each task, and tried on real text.

Each task's run comes from the store; a missing one is trained. Then the adapters are exchanged in place, merged and
unmerged, and batches are served whose rows belong to different tasks. Every prediction on every test split is compared
with that of the adapter alone. Measured are bytes on disk and in memory, and seconds of switches and requests.

overrides:
  tasks=[{",".join(TASKS)}]
                            one or more tasks; an item in quotes may have overrides of its own
  out=FOLDER                where serving.json goes (serving/<model>-r<rank>-s<seed>-<hash>)
  rank=8  model=minilm  seed=0  runs_dir=runs  isolate=false  tracking=auto
  method.*, train.*, task.train_examples and all others that `python -m lorax_lab.run --help` lists, for every task

For the figure type: python -m analysis serving FOLDER

examples:
  python -m lorax_lab.serve
  python -m lorax_lab.serve rank=4 tasks=[tweets,sarcasm]
  python -m lorax_lab.serve "tasks=[tweets,'local task.name=mine task.path=my.csv task.text=text task.label=label']"
"""


@dataclass(frozen=True)
class Setup:
    """The runs to serve by the name of their task, and the folder of the results; None for the default one."""

    runs: dict[str, Run]
    out: Path | None


def read_overrides(overrides: list[str]) -> Setup:
    """The six default tasks, or those of `tasks=[…]`, each with the overrides that all have in common.

    Raises:
        ConfigError: an override that is not possible here or in a run, a sweep, or two tasks of one name.
    """
    items, out, common = list(TASKS), None, []
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if override.startswith("-"):
            raise ConfigError(f"{override} is not possible; settings are written key=value, and --help lists them")
        if reason := NOT_HERE.get("hydra" if key.startswith("hydra") else key):
            raise ConfigError(f"{override} is not possible: {reason}")
        if key == "tasks":
            items = _tasks(override)
        elif key == "out":
            out = _out(override)
        else:
            common.append(override)
    runs: dict[str, Run] = {}
    for item in items:
        run = _run(item, common)
        name = run.config.task.name
        if kind_of(run.config.task.kind).outputs is not logits:
            generated = f"tasks={items}: task.kind={run.config.task.kind} of {name} is not served; what is compared are"
            raise ConfigError(f"{generated} a head's outputs, one row for each example; type tasks=[movie_reviews]")
        if getattr(run.config.task, "pooling", OWN) != OWN:
            raise ConfigError(f"tasks={items}: task.pooling=mean is not served; type task.pooling=own")
        if run.config.task.memorise:
            raise ConfigError(f"tasks={items}: task.memorise=true is not served, since tests are; leave it out")
        if name in runs:
            raise ConfigError(f"tasks={items}: two are named {name}; give one another name: '{item} task.name=other'")
        runs[name] = run
    return Setup(runs, out)


def _out(override: str) -> Path:
    check_text(override)
    value = value_of(override)
    if not isinstance(value, str) or not value.strip() or "${" in value or not value.isprintable():
        raise ConfigError(f"{override} is not possible: the folder of the results; type out=serving/mine")
    return Path(os.path.expanduser(value))


def _tasks(override: str) -> list[str]:
    """
    >>> _tasks("tasks=[tweets,'local task.path=a.csv']"), _tasks("tasks=tweets")
    (['tweets', 'local task.path=a.csv'], ['tweets'])
    """
    value = value_of(override)
    items = [str(item).strip() for item in (value if isinstance(value, list) else [value])]
    if not items or not all(items):
        raise ConfigError(f"{override} is not possible: a list of tasks; type tasks=[movie_reviews,tweets]")
    return items


def _run(item: str, common: list[str]) -> Run:
    try:
        task, *own = shlex.split(item)
    except ValueError as error:
        raise ConfigError(f"tasks: {item} is not understood ({error}); its overrides are separated by spaces") from None
    jobs = expand(spell_out([f"task={task}", *common, *own, "reference=false"]))
    if len(jobs) > 1:
        raise ConfigError(f"{' '.join(common + own)} is a sweep; one base is served with one value of everything")
    config = compose(jobs[0])
    if config.method.name != SERVED:
        raise ConfigError(f"tasks: {item} has method={config.method.name}, and what is served are adapters of {SERVED}")
    return run_of(config)
