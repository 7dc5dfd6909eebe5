"""Control: a teacher whose update has rank 4. Does the lab find 4?"""

from pathlib import Path

from experiments.study import Plan, full, local, lora
from experiments.teacher import MATRIX, plant_signs
from lorax_lab.data.assets import cache_folder
from lorax_lab.launch.compose import compose
from lorax_lab.study.protocol import Protocol
from lorax_lab.tasks import load_task

RANK = 4
RANKS = (1, 2, 3, 4, 8)
TEXTS = 14_000


def plan() -> Plan:
    """The grid. The planted model and its table are made before the first run, once, in the cache folder."""
    folder = _folder()
    only = f"method.target_modules=[{MATRIX.format(layer=5)}]"
    arms = (full(2.5e-5, only), *(lora(rank, 5e-4, only) for rank in RANKS))
    sizes = ("task.train_examples=2000", "task.validation_examples=400", "task.test_examples=800")
    return Plan(
        protocol=Protocol(arms),
        factors={"task": {f"planted rank {RANK}": local(folder / "data.csv")}},
        common=(f"model={folder / 'model'}", *sizes, "train.head=false", "train.epochs=2"),
        control_of="rank_sweep",
        prepare=_plant,
    )


def _folder() -> Path:
    return cache_folder() / f"planted-rank{RANK}"


def _plant() -> None:
    folder = _folder()
    if not (folder / "data.csv").is_file():
        print(f"labelling {TEXTS:,} headlines by a teacher of rank {RANK}, into {folder}", flush=True)
        plant_signs(folder, "minilm", headlines(TEXTS), RANK)


def headlines(count: int) -> list[str]:
    """The first so many headlines of the sarcasm task's training pool."""
    task = load_task(compose(["task=sarcasm", f"task.train_examples={count}"]).task)
    return [example.inputs["text"] for example in task.train]
