"""Control: teachers whose updates have rank 1 to 32. Which number finds the rank, and does a high one count as high?

No teacher has a higher rank: each class needs examples. With 64 directions and all the headlines there are, the planted
matrix, trained alone on stored features, ends at .72 where 8 directions end at .97, and LoRA of the same rank at .57.
`python -m analysis planted` puts ranks up to 64 and a full-rank matrix to the spectral estimators.
"""

from __future__ import annotations

import sys
from pathlib import Path

from experiments.command import main
from experiments.study import FULL, Plan, full, lora
from lorax_lab.study.protocol import Protocol

PLANTED = (1, 2, 4, 8, 16, 32)
RANKS = (*PLANTED, 64)
"""Of LoRA."""
NOISY = 8
LEVELS = {f"planted rank {rank}": (rank, 0.0) for rank in PLANTED}
LEVELS |= {f"planted rank {NOISY} in noisy labels": (NOISY, 0.1)}
"""The planted rank and the share of labels drawn anew, by the level's name."""
BEGUN = ("planted rank 1", "planted rank 8", "planted rank 32", "planted rank 8 in noisy labels", "planted rank 16")
"""What the study has; it began with ranks 1, 8 and 32 and grew by the others."""
QUESTION = """\
The labels come from the base with an update of rank R planted in one matrix, R from 1 to 32, once with a tenth of the
labels drawn anew. Which number finds R: LoRA's r*, the full update's k*, or a rank of its spectrum? And is the low-rank
hypothesis not supported where R is high?"""
PREDICTION = """\
(2026-11-27, before the study's runs, after trials of other lengths and rates with seed 100 on validation: at R = 8 full
fine-tuning ended at .99 and LoRA of rank 8 at .94 to .96, at R = 32 at .91 and .74 to .84.) For every R up to 16, k* is
R or the next rank tried on either side of it, with noisy labels too, and r* is R or one of the next two above it, since
LoRA of the planted rank itself trains more slowly than the whole matrix. At 32 k* is 32, and r* is 64 or not found.
Where R is 1 to 8 the hypothesis is supported, where R is 32 it is not. Of the spectrum of the full update, the
participation ratio and 90 % of the energy are within a factor of 2 of R; the effective rank is above 50 for every R.
What refutes it: an R up to 16 of which k* lies two ranks tried away or is not found, or r* lies below R or more than
two ranks above; "supported" at 32, or "not supported" at 8 or below. LoRA at half the rank falls short by more than 10
points from R = 2 on."""
COST = """\
About 70 runs a level, of which two run side by side for 35 s (100 s at rank 32), and 5 with controls: half an hour a
level, at rank 32 an hour, on 2 cores without units for bf16."""

TEXTS = 22_000
SCORED = ("task.validation_examples=400", "task.test_examples=1000")
USUAL = ("task.train_examples=3000", *SCORED, "train.epochs=2")
SIZES = {32: ("task.train_examples=5000", *SCORED, "train.epochs=3")}
"""More classes take more examples and passes."""


def plan() -> Plan:
    """The grid."""
    from experiments.teacher import MATRIX

    only = f"method.target_modules=[{MATRIX.format(layer=5)}]"
    arms = (full(1.25e-4, "method.others=false", only), *(lora(rank, 1e-3, only) for rank in RANKS))
    return Plan(
        protocol=Protocol(arms),
        factors={"task": {name: _overrides(name) for name in BEGUN}},
        common=("train.head=false", "train.precision=fp32", "train.validations=1"),
        final={FULL: ("measure=controls",)},
        seconds={"trial": 35.0, "final": 45.0},
        control_of="rank_sweep",
        prepare=_plant,
    )


def _overrides(name: str) -> tuple[str, ...]:
    own, (rank, _) = _file(name), LEVELS[name]
    data = ("task=local", f"task.name={own.name}", f"task.path={own.with_suffix('.csv')}")
    return (*data, "task.text=text", "task.label=label", f"model={own}", *SIZES.get(rank, USUAL))


def _file(name: str) -> Path:
    from lorax_lab.data.assets import cache_folder

    return cache_folder() / "planted-ranks-no-dropout" / name.replace(" ", "-")


def _plant() -> None:
    missing = [name for name in BEGUN if not _file(name).with_suffix(".csv").is_file()]
    if missing:
        from experiments.planted import headlines
        from experiments.teacher import Level, plant_largest
        from lorax_lab.console import bar

        folder = _file(missing[0]).parent
        print(f"labelling {TEXTS:,} headlines by {len(missing)} teachers, into {folder}", flush=True)
        with bar("labelling") as on_done:
            teachers = {_file(name).name: Level(*LEVELS[name]) for name in missing}
            plant_largest(folder, "minilm", headlines(TEXTS), teachers, on_done)


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
