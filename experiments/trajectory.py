"""`python -m experiments.trajectory`: how does the update come to its rank while one run trains?

At some steps, and at the end, the run pauses: its update so far is measured and cut, as a finished run's is. Training
goes on as if nothing had been. A run that is in the table is not trained again.

QUESTION. Is the update of low rank from the first steps on, or does training make it so? When are its directions found?

PREDICTION (2026-11-30, before the runs; the code was tried with four steps on 64 headlines, where the first step had an
effective rank of 267 and a stable rank of 8.9). All is a mean over three seeds, and over matrices.
1. k90 grows: where all seeds first have one, it is at most half of that at the end, on both tasks. Refuted for a task
   where it is as high as at the end, or higher: then training takes directions out.
2. The spectrum does not tell that. From step 16 on the effective rank of the full update stays within 15 % of its value
   at the end. Refuted on a task where it does not.
3. At step 1 the stable rank of the full update, about the sign of a gradient, is above that at the end. Refuted on a
   task where it is below.
4. Directions are found early. The top 4 directions of the columns share 30 % or more with those at the end at step 16,
   and 50 % or more at step 32 (by chance about 1 %). Refuted on a task below 15 % at step 16, or below 30 % at step 32.
5. LoRA of rank 8 is as early: at step 32 it differs by less than .15 from full fine-tuning in that. Refuted by .3.
k90 is the smallest k that keeps 90 % of what the update so far brings over the head alone, on validation. Where it
brings nothing there is none. Three seeds and 600 examples tell a doubling of k90 and no smaller change.

THINNED: of 12 steps six or seven, of the training one epoch, and LoRA trains on sarcasm alone.

COST. 9 runs of 94 or 150 steps, with 57 looks of 2 to 10 s: about 10 minutes on one quiet core, more beside others.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments.rank_sweep_2 import tasks_of_the_second_edition, write_cloze
from experiments.rank_sweep_3 import tasks_of_the_third_edition
from experiments.study import RECORDS, UNGROUPED, composed
from lorax_lab import spectra
from lorax_lab.config.measured import K90
from lorax_lab.console import bar, unseen
from lorax_lab.errors import answer
from lorax_lab.execute import Prepared, prepare, train
from lorax_lab.findings import Findings, measure
from lorax_lab.launch.plan import run_of
from lorax_lab.record.files import write_csv
from lorax_lab.record.folder import HEAD_ON_VALIDATION
from lorax_lab.record.redact import guard
from lorax_lab.record.share import from_where, needed

FILE = "trajectory.csv"
FULL, LORA = "full", "LoRA r=8"
METHODS = {
    FULL: ("method=full", "train.learning_rate=3e-4"),
    LORA: ("method=lora", "rank=8", "train.learning_rate=2e-3"),
}
RUNS = (("sarcasm", FULL), ("sarcasm", LORA), ("cloze", FULL))
SIZES = ("task.validation_examples=600", "task.test_examples=100", "train.epochs=1")
"""What is less here than in the editions, whose tasks these are: sarcasm of the third, cloze of the second. The test
split is not used."""
SEEDS = (0, 1, 2)
LOOKS = (1, 4, 16, 32, 64, 128)
"""The steps after which the update is measured, besides the last."""
COMMON = ("task.pooling=mean", "train.precision=fp32", "reference=false", f"measure={K90}", "checkpoint_seconds=null")
DIRECTIONS = (1, 4, 8)
"""Numbers of top directions that are held beside those at the end."""
SPECTRAL = {"effective rank": spectra.effective_rank, "stable rank": spectra.stable_rank}
SIDES = {"columns": "U", "rows": "Vh"}
Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Train, measure and write. Returns the exit code: 0 written, 2 a wrong input, 130 stopped."""
    guard()
    parser = argparse.ArgumentParser(
        prog="python -m experiments.trajectory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the table goes (experiments/records)")
    options = parser.parse_args(arguments)
    return answer(lambda: _write(options.records), "; the same command goes on with the next run")


def _write(folder: Path) -> int:
    write_cloze()
    tasks = tasks_of_the_second_edition() | tasks_of_the_third_edition()
    path = folder / FILE
    rows: list[dict[Any, Any]] = pd.read_csv(path).to_dict("records") if path.is_file() else []
    for (task, method), seed in product(RUNS, SEEDS):
        place: Row = {"task": task, "method": method, "seed": seed}
        if any(place.items() <= row.items() for row in rows):
            continue
        overrides = (*tasks[task], *SIZES, *METHODS[method], *COMMON, UNGROUPED, f"seed={seed}")
        rows += [place | row for row in trajectory(overrides, f"{task}, {method}, seed {seed}")]
        write_csv(path, pd.DataFrame(rows))
    print(path)
    return 0


def trajectory(overrides: tuple[str, ...], title: str) -> list[Row]:
    """Rows (step, quantity, k, value) of one run, at each step of `LOOKS` and at the end."""
    planned = run_of(composed(overrides))
    with TemporaryDirectory() as folder, bar(title) as on_done:
        run = prepare(planned.config, planned.run_id, Path(folder) / planned.run_id, None, "torch")
        seen: dict[int, tuple[dict[str, float], Findings]] = {}

        def look(step: int, steps: int, _: Mapping[str, float]) -> None:
            on_done(step, steps)
            if step in LOOKS or step == steps:
                seen[step] = _measured(run)

        train(run, [look])
    ended = seen[max(seen)][1]
    return [{"step": step} | row for step, parts in seen.items() for row in _rows(run, *parts, ended)]


def _measured(run: Prepared) -> tuple[dict[str, float], Findings]:
    """The score on validation and what is measured of the update so far."""
    score, zero = run.splits["validation"].score(run.model), _head_alone(run)
    parts = (run.original, None, run.splits, score, zero, K90, run.config.seed, unseen)
    return score, measure(run.model, run.method, *parts)


def _head_alone(run: Prepared) -> float | None:
    """The score on validation of a head that was fitted alone; None where none was, as beside LoRA."""
    return run.baselines.get(f"{HEAD_ON_VALIDATION}/{run.task.metric}")


def _rows(run: Prepared, score: dict[str, float], findings: Findings, ended: Findings) -> Iterator[Row]:
    """What is told of one step: numbers of the spectrum and overlaps with the end, means over matrices; k90, where the
    update brings something over the head alone."""
    metric, zero = run.task.metric, _head_alone(run)
    numbers: dict[tuple[str, int | None], float | None] = {("score", None): score[metric], ("head alone", None): zero}
    enough = None if zero is None else needed(zero, score[metric], run.task.higher_is_better)
    if enough is not None:
        by_k = {row["k"]: row[metric] for row in findings.truncation or []}
        numbers["k90", None] = from_where(by_k, enough, run.task.higher_is_better)
    for name, of_sigma in SPECTRAL.items():
        numbers[name, None] = _mean(of_sigma(torch.from_numpy(parts["sigma"])) for parts in findings.spectra.values())
    for side, k in product(SIDES, DIRECTIONS):
        pairs = ((parts[SIDES[side]], ended.spectra[name][SIDES[side]]) for name, parts in findings.spectra.items())
        numbers[side, k] = _mean(overlap(*pair, k, side == "rows") for pair in pairs)
    for (quantity, size), value in numbers.items():
        if value is not None:
            yield {"quantity": quantity, "k": size, "value": value}


def overlap(one: np.ndarray, other: np.ndarray, k: int, turned: bool) -> float:
    """φ(k, k) of the first k columns of U (out, m), or where `turned` of the first k rows of Vᵀ (m, in)."""
    first, second = (torch.from_numpy(side.T if turned else side)[:, :k] for side in (one, other))
    return float(spectra.subspace_similarities(first, second)[-1, -1])


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


if __name__ == "__main__":
    raise SystemExit(main())
