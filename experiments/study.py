"""A study under way: its runs, which are recorded, which are missing, and how these are launched: as one sweep, in a
process of its own.

A study is a module with `plan()`, and QUESTION, PREDICTION and COST until these are declared; from then on the
declaration has them. A study that is whole, and has no `prepare` or `afterwards`, needs no module: the
declaration is its plan. `experiments.command` carries it out.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from lorax_lab.config.overrides import quoted
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.record.record import status_of
from lorax_lab.study.declaration import DECLARATION, Design, read_declaration
from lorax_lab.study.protocol import Arm, Cell, Selection, finals, select

if TYPE_CHECKING:
    from lorax_lab.afterwards.trained import Runs
    from lorax_lab.config import RunConfig

RECORDS = Path(__file__).parent / "records"
SETTLED = ("completed", "diverged")
"""Statuses after which a run is not tried again: a rate at which training diverges is an answer."""
DESIGN = [part.name for part in dataclasses.fields(Design)]
"""What a plan and its declaration have in common, by name."""
Line = dict[str, Any]
FULL = "full"
"""The name of the arm that fine-tunes fully, which the others are compared with."""
VALIDATED = ("train.validations=3",)
"""How often every run of a study is validated, unless the study says otherwise: as often as the first ones were."""
UNGROUPED = "task.group_near_duplicates=false"
"""The tables of studies are split as the first ones were, unless the study says otherwise."""
ALONE = "reference=false"
"""A study compares its runs itself: none is trained with a reference of its own."""
WRONG, STOPPED = 2, 130
"""Exit codes of a sweep: a wrong input, and stopped by a person."""
GRACE, LOOK = 30.0, 60.0
"""Seconds that a sweep which is stopped has to end, and after which one that goes on is looked at."""
LAUNCH = (
    *("workers=", "hydra/launcher", "hydra.launcher.", "tracking="),
    *("checkpoint_seconds=", "time_limit_seconds="),
)
"""Overrides that may follow: how runs are launched and shown, not what they are."""


@dataclass(frozen=True, kw_only=True)
class Plan(Design):
    """A study's design, and how its runs are made.

    Attributes:
        afterwards: by the name of its table, what takes the completed final runs of one condition and gives rows
            (`lorax_lab.afterwards`).
        prepare: makes the files that the overrides name, if they do not exist yet.
    """

    afterwards: Mapping[str, Callable[[Runs], Iterable[dict[str, Any]]]] = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None

    def overrides(self, cell: Cell) -> list[str]:
        """The override list of one run."""
        listed = self.overrides_of_cell(cell.condition, self.protocol.arm(cell.arm))
        stage = ("measure=trial",) if cell.stage == "trial" else self.final.get(cell.arm, ("measure=curve",))
        return [*listed, f"train.learning_rate={cell.rate:g}", f"seed={cell.seed}", *stage, ALONE]

    def overrides_of_cell(self, condition: str, arm: Arm) -> list[str]:
        """What all runs of an arm have under a condition. They are in fp32 where no precision is named: what `auto`
        stands for differs between machines."""
        listed = [*VALIDATED, UNGROUPED, *self.conditions[condition], *arm.overrides, *self.common]
        names_one = any(override.startswith("train.precision=") for override in listed)
        return listed if names_one else [*listed, "train.precision=fp32"]

    def run_id(self, cell: Cell) -> str:
        """The run's name in the store, which depends on the content of the files that the overrides name."""
        self.prepare()
        return _run_id(tuple(self.overrides(cell)))


def full(lowest: float, *overrides: str) -> Arm:
    """Full fine-tuning; `lowest` is the lowest learning rate of its grid."""
    return Arm(FULL, ("method=full", *overrides), lowest)


def lora(rank: int, lowest: float, *overrides: str, name: str = "") -> Arm:
    """LoRA of a rank."""
    return Arm(name or f"LoRA r={rank}", ("method=lora", f"rank={rank}", *overrides), lowest)


def local(table: Path) -> tuple[str, ...]:
    """A task whose texts and labels stand in a table of the study's own."""
    return ("task=local", f"task.path={table}", "task.text=text", "task.label=label")


def studies() -> list[str]:
    """Names of the studies that this folder has: its modules, and those that are declared."""
    return sorted({*_modules(), *(path.parent.name for path in RECORDS.glob(f"*/{DECLARATION}"))})


def _modules() -> list[str]:
    files = Path(__file__).parent.glob("*.py")
    return [path.stem for path in files if "\ndef plan() -> " in path.read_text(encoding="utf-8")]


def refuse_modules() -> None:
    """A study's module that is run itself would end in silence."""
    running = getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", "")
    package, _, name = running.rpartition(".")
    if package == "experiments" and name in _modules():
        raise SystemExit(f"error: {running} is not run by itself; type: python -m experiments {name}")


refuse_modules()


def name_of(study: Any) -> str:
    """The name of a study's module, without its package."""
    return str(study.__name__).rpartition(".")[2]


def texts_of(study: Any, name: str) -> dict[str, str]:
    """A study's question, prediction and cost: those that it declared, or those of a module that declares them yet. A
    PREDICTION beside a declaration is added to the declared one."""
    folder = getattr(study, "RECORDS", RECORDS) / name
    declared = read_declaration(folder).texts if (folder / DECLARATION).is_file() else {}
    texts = {key: str(getattr(study, key.upper(), declared.get(key, ""))) for key in ("question", "prediction", "cost")}
    earlier, added = str(declared.get("prediction", "")).strip(), texts["prediction"].strip()
    texts["prediction"] = earlier if earlier.endswith(added) else f"{earlier}\n{added}".strip()
    return texts


def study_of(name: str) -> Any:
    """The study with this name; a `ConfigError` where there is none."""
    if name not in studies():
        raise ConfigError(f"there is no study {name}; {suggest(name, studies())}")
    if name in _modules():
        return importlib.import_module(f"experiments.{name}")
    declared = read_declaration(RECORDS / name)
    plan = Plan(**{part: getattr(declared, part) for part in DESIGN})
    return SimpleNamespace(__name__=f"experiments.{name}", plan=lambda: plan)


def plan_of(study: str) -> Plan:
    """The plan of the study with this name; a `ConfigError` where there is none."""
    plan: Plan = study_of(study).plan()
    return plan


@dataclass(frozen=True)
class Progress:
    """A study's runs: known to be needed, recorded, missing.

    Args:
        line: the line of a run, as `lorax_lab.study.published` has it; None where there is none.
        wanted: whether a cell's run is asked for.
        published: final runs that were published before the study grew; their rates must be chosen again.
    """

    plan: Plan
    line: Callable[[Cell], Line | None]
    wanted: Callable[[Cell], bool] = lambda cell: True
    published: frozenset[Cell] = frozenset()

    def settled(self, cell: Cell) -> Line | None:
        """The line of a run that need not be run again."""
        line = self.line(cell)
        return line if line and line["status"] in SETTLED else None

    @cached_property
    def selections(self) -> dict[str, Selection]:
        """How far the choice of the learning rates is, by condition."""
        return {name: select(self.plan.protocol, name, self.settled) for name in self.plan.conditions}

    @cached_property
    def cells(self) -> list[Cell]:
        """The trials of each condition, and its final runs once rates are chosen."""
        protocol, cells = self.plan.protocol, list[Cell]()
        for name, selection in self.selections.items():
            cells += protocol.trials(name, selection.steps)
            published = sorted((c for c in self.published if c.condition == name), key=lambda c: (c.arm, c.seed))
            cells += finals(protocol, name, selection) if selection.choices else published
        return [cell for cell in cells if self.wanted(cell)]

    @cached_property
    def missing(self) -> list[Cell]:
        """The cells that are not recorded."""
        return [cell for cell in self.cells if not self.settled(cell)]


def sweeps(plan: Plan, cells: list[Cell]) -> list[list[str]]:
    """The cells as sweeps, which are override lists of the command line. Seeds are joined first, then rates that have
    the same seeds, then ranks where nothing else differs."""
    listed = [plan.overrides(cell) for cell in cells]
    for key in ("seed=", "train.learning_rate=", "rank="):
        listed = _joined(listed, key)
    return listed


def _joined(sweeps: list[list[str]], key: str) -> list[list[str]]:
    """Sweeps that differ in nothing but the values of one key as one, in the place of the first."""
    values: dict[tuple[str, ...], list[str]] = {}
    for sweep in sweeps:
        value = next((word.removeprefix(key) for word in sweep if word.startswith(key)), "")
        values.setdefault(tuple(key if word.startswith(key) else word for word in sweep), []).append(value)
    return [[key + ",".join(joined) if word == key else word for word in sweep] for sweep, joined in values.items()]


@lru_cache(maxsize=1024)
def composed(overrides: tuple[str, ...]) -> RunConfig:
    """The configuration that these overrides make."""
    from lorax_lab.launch.compose import compose

    return compose(list(overrides))


@lru_cache(maxsize=4096)
def _run_id(overrides: tuple[str, ...]) -> str:
    from lorax_lab.launch.plan import run_of

    return run_of(composed(overrides)).run_id


def check_launch(overrides: list[str]) -> None:
    """Refuse overrides that would change what a run is."""
    for override in overrides:
        if not override.startswith(LAUNCH):
            fixed = f"{override} is not possible: a study's runs are fixed"
            raise ConfigError(f"{fixed}; what may follow: {' '.join(LAUNCH)}; options: --help")
    composed(tuple(override for override in overrides if not override.startswith("hydra")))


def typed(sweep: list[str], runs: Path, launch: list[str], study: str) -> list[str]:
    """What a person would type for a sweep."""
    folder = str(runs) if re.fullmatch(r"[\w./-]+", str(runs), re.ASCII) else quoted(str(runs))
    places = (f"runs_dir={folder}", f"tracking.study={study}")
    return [sys.executable, "-m", "lorax_lab.run", *sweep, *places, *launch, "-m"]


def run_together(
    sweeps: list[list[str]], runs: Path, launch: list[str], study: str, meanwhile: Callable[[], None]
) -> int:
    """The exit code of these sweeps as one, so that no worker waits for the last run of each. A file holds them, since
    all may be too long for a command line."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "grids.json")
        file.write_text(json.dumps(sweeps), encoding="utf-8")
        return run_sweep(typed([f"hydra.sweeper.grids={quoted(str(file))}"], runs, launch, study), meanwhile)


def with_workers(launch: list[str], lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """The launch overrides with a number of workers that leaves each run as many threads as the study's runs had, for
    other threads round differently; one thread in a new study."""
    from lorax_lab.record.provenance import hardware

    if any(override.startswith(("workers=", "hydra/launcher")) for override in launch):
        return launch
    threads = next((int(line["hardware"]["threads"]) for line in lines if "hardware" in line), 1)
    return [*launch, f"workers={max(int(hardware()['threads']) // threads, 1)}"]


def trained_by(overrides: Iterable[str], runs: Path, file: str) -> Path:
    """The file of this name that one run of these overrides leaves, which is trained in a folder of its own."""
    command = [sys.executable, "-m", "lorax_lab.run", *overrides, f"runs_dir={runs}", "tracking=disabled"]
    status = subprocess.run(command, check=False).returncode
    trained = list(runs.glob(f"*/{file}"))
    if status or len(trained) != 1:  # a run that diverged leaves no file
        raise ConfigError(f"the run in {runs} did not end well; what stands above says why")
    return trained[0]


def trained_lines(sweep: list[str], folders: Iterable[Path], launch: list[str], study: str) -> list[Line]:
    """The lines of the runs in these folders of one runs folder. The sweep that makes them is started unless all are
    completed, as one that was stopped is not."""
    from lorax_lab.study.published import line_of

    folders, lines = [*folders], []
    if any(status_of(folder) != "completed" for folder in folders):
        run_sweep(typed(sweep, folders[0].parent, launch, study))
    for folder in folders:
        try:
            lines.append(line := line_of(folder))
        except FileNotFoundError:
            raise ConfigError(f"{folder.name} did not end well; what stands above says why") from None
        if line["status"] != "completed":
            raise ConfigError(f"{folder.name} {line['status']}: {line.get('reason')}")
    return lines


def run_sweep(command: list[str], meanwhile: Callable[[], None] = lambda: None) -> int:
    """The exit code of a sweep in a process of its own; `meanwhile` is called each minute. A sweep that is stopped has
    half a minute to write its results. A terminal's Ctrl-C reaches it directly; SIGTERM is passed on. Either ends in a
    `KeyboardInterrupt`."""
    child = subprocess.Popen(command)

    def pass_on(*_: object) -> None:
        child.terminate()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        while (status := _waited(child)) is None:
            meanwhile()
        if status == STOPPED:
            raise KeyboardInterrupt
        return status
    except BaseException as cause:
        if not isinstance(cause, KeyboardInterrupt):  # such as a full disk where `meanwhile` writes
            child.terminate()
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _waited(child: subprocess.Popen[bytes]) -> int | None:
    """The exit code of a process that ends within a minute, else None."""
    with suppress(subprocess.TimeoutExpired):
        return child.wait(LOOK)
    return None
