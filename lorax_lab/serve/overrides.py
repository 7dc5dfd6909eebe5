"""From command-line words to the runs that are served: one LoRA for each task, on one base."""

from __future__ import annotations

import csv
import shlex
from dataclasses import dataclass
from pathlib import Path

from lorax_lab.config.overrides import expand
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose, spell_out
from lorax_lab.launch.plan import Run, run_of

TASKS = ("movie_reviews", "product_reviews", "editorials", "tweets", "sarcasm", "boolq")
NOT_HERE = {
    "task": "the tasks are a list here; type tasks=[movie_reviews,tweets]",
    "method": "what is served are adapters, method=lora; leave it out",
    "reference": "no full fine-tune is trained for serving; leave it out",
    "force": "type `python -m lorax_lab.run reference=false force=true …` to train a run again",
    "hydra": "train in parallel before, by `python -m lorax_lab.run reference=false … -m`",
}
HELP = f"""\
One base, many tasks: a LoRA for each task on one base that is held once, shown and measured on real text.

Takes each task's run from the store, trains what is missing, then exchanges the adapters in place, merges and unmerges
them, and serves batches whose rows belong to different tasks; compares every prediction on every test split with that
of the adapter alone; measures bytes on disk, switches, requests and memory.

words:
  tasks=[{",".join(TASKS)}]
                            one or more of the run's tasks; an item in quotes may carry words of its own
  out=FOLDER                where serving.json, its table and its figure go (serving/<model>-r<rank>-s<seed>-<mark>)
  rank=8  model=minilm  seed=0  runs_dir=runs  isolate=false  tracking=auto
  method.*, train.*, task.train_examples and the others of `python -m lorax_lab.run --help`, the same for all tasks

examples:
  python -m lorax_lab.serve
  python -m lorax_lab.serve rank=4 tasks=[tweets,sarcasm]
  python -m lorax_lab.serve "tasks=[tweets,'local task.name=mine task.path=my.csv task.text=text task.label=label']"
"""


@dataclass(frozen=True)
class Order:
    """What a command line asks for: the runs by the name of their task, and where the results go (None: by default)."""

    runs: dict[str, Run]
    out: Path | None


def read_overrides(words: list[str]) -> Order:
    """The six default tasks, or those of `tasks=[…]`, each with the words that are common to all.

    Raises:
        ConfigError: a word that is not possible here or in a run, a sweep, or two tasks of one name.
    """
    items, out, common = list(TASKS), None, []
    for word in words:
        key, _, value = word.partition("=")
        if word.startswith("-"):
            raise ConfigError(f"{word} is not possible; settings are written key=value, and --help says which")
        if reason := NOT_HERE.get("hydra" if key.startswith("hydra") else key):
            raise ConfigError(f"{word} is not possible: {reason}")
        if key == "tasks":
            items = _listed(value)
        elif key == "out":
            out = Path(value).expanduser()
        else:
            common.append(word)
    runs: dict[str, Run] = {}
    for item in items:
        run = _run(item, common)
        name = run.config.task.name
        if name in runs:
            raise ConfigError(f"tasks={items}: two are named {name}; give one another name: '{item} task.name=other'")
        runs[name] = run
    return Order(runs, out)


def _listed(value: str) -> list[str]:
    """
    >>> _listed("[tweets,'local task.path=a.csv']"), _listed("tweets")
    (['tweets', 'local task.path=a.csv'], ['tweets'])
    """
    inside = value.removeprefix("[").removesuffix("]")
    items = [item.strip() for item in next(csv.reader([inside], quotechar="'", skipinitialspace=True), [])]
    if not items or not all(items):
        raise ConfigError(f"tasks={value} is not possible: a list of tasks; type tasks=[movie_reviews,tweets]")
    return items


def _run(item: str, common: list[str]) -> Run:
    try:
        task, *own = shlex.split(item)
    except ValueError as error:
        raise ConfigError(f"tasks: {item} is not understood ({error}); its words are separated by spaces") from None
    words = spell_out([f"task={task}", *common, *own, "reference=false"])
    jobs = expand(words)
    if len(jobs) > 1:
        raise ConfigError(f"{' '.join(common + own)} is a sweep; one base is served with one value of everything")
    config = compose(jobs[0])
    return run_of(config)
