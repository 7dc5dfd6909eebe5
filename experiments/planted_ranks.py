"""Control: teachers whose updates have rank 1 to 32. Which number finds the rank, and does a high one count as high?

No teacher has a higher rank: each class needs examples. With 64 directions and all the headlines there are, the planted
matrix, trained alone on stored features, ends at .72 where 8 directions end at .97, and LoRA of the same rank at .57.
`python -m analysis planted` puts ranks up to 64 and a full-rank matrix to the spectral estimators.
"""

from pathlib import Path

from experiments.planted import headlines
from experiments.study import FULL, Plan, full, lora
from experiments.teacher import MATRIX, Level, plant_largest
from lorax_lab.data.assets import cache_folder
from lorax_lab.study.protocol import Protocol

RANKS = (1, 2, 4, 8, 16, 32, 64)
"""Of LoRA."""
LEVELS = {f"planted rank {rank}": Level(rank) for rank in (1, 8, 32)}
LEVELS |= {"planted rank 8 in noisy labels": Level(8, 0.1), "planted rank 16": Level(16)}
"""The study began with ranks 1, 8 and 32 and grew by the others."""

TEXTS = 22_000
SCORED = ("task.validation_examples=400", "task.test_examples=1000")
USUAL = ("task.train_examples=3000", *SCORED, "train.epochs=2")
SIZES = {32: ("task.train_examples=5000", *SCORED, "train.epochs=3")}
"""More classes take more examples and passes."""


def plan() -> Plan:
    only = f"method.target_modules=[{MATRIX.format(layer=5)}]"
    arms = (full(1.25e-4, "method.others=false", only), *(lora(rank, 1e-3, only) for rank in RANKS))
    return Plan(
        protocol=Protocol(arms),
        factors={"task": {name: _overrides(name) for name in LEVELS}},
        common=("train.head=false", "train.precision=fp32", "train.validations=1"),
        final={FULL: ("measure=controls",)},
        control_of="rank_sweep",
        prepare=_plant,
    )


def _overrides(name: str) -> tuple[str, ...]:
    place, rank = _file(name), LEVELS[name].rank
    data = ("task=local", f"task.name={place.name}", f"task.path={place.with_suffix('.csv')}")
    return (*data, "task.text=text", "task.label=label", f"model={place}", *SIZES.get(rank, USUAL))


def _file(name: str) -> Path:
    return cache_folder() / "planted-ranks-no-dropout" / name.replace(" ", "-")


def _plant() -> None:
    missing = [name for name in LEVELS if not _file(name).with_suffix(".csv").is_file()]
    if missing:
        folder = _file(missing[0]).parent
        print(f"labelling {TEXTS:,} headlines by {len(missing)} teachers, into {folder}", flush=True)
        teachers = {_file(name).name: LEVELS[name] for name in missing}
        plant_largest(folder, "minilm", headlines(TEXTS), teachers)
