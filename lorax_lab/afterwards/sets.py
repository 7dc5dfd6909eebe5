"""The functional rank of a full update in some matrices alone: these are cut to k directions, the others stay whole.

A LoRA of the same matrices can be held beside it, as in Tables 5 and 6 of Hu et al. 2021.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lorax_lab.afterwards.trained import Run, Runs
from lorax_lab.config.identity import check_planned
from lorax_lab.errors import ConfigError
from lorax_lab.measure.rows import decompose
from lorax_lab.measure.truncation import cuts_at, seen_under
from lorax_lab.methods import METHODS
from lorax_lab.models import base_weights, load_base, select, use_kernel
from lorax_lab.record.folder import check_file
from lorax_lab.record.record import read_record
from lorax_lab.tasks import load_task
from lorax_lab.tasks.split import Split
from lorax_lab.train import autocast_of

WHOLE = "whole"
"""Stands for k where nothing is cut."""


def sets(runs: Runs, arm: str, targets: Mapping[str, Sequence[str]], ranks: Sequence[int]) -> Iterator[dict[str, Any]]:
    """One row for each run of the arm, set of matrices and k.

    Args:
        arm: of full fine-tunes, whose task classifies.
        targets: the ends of the matrices' names, as `method.target_modules` has them, by the set's name.
        ranks: the k at which a set is cut; 0 takes its update away.

    Yields:
        `seed, set, matrices` (how many), `k` as text; `correct`, which answers on the test split are right, (n,) bool.
        Each set begins with a row of k = `whole`, the uncut update.

    Raises:
        ConfigError: an answer of the task is more or less right, or the base or the data are not the run's.
    """
    for (name, seed), run in runs.items():
        if name == arm:
            yield from ({"seed": seed} | row for row in _cut(run, targets, ranks))


def _cut(run: Run, targets: Mapping[str, Sequence[str]], ranks: Sequence[int]) -> Iterator[dict[str, Any]]:
    config, method, task = run.config, METHODS[run.config.method.name], load_task(run.config.task)
    if task.kind.correct is None:
        raise ConfigError(f"task={task.config.name}: sets are cut where answers are right or wrong")
    check_file(run.folder, method.weights)
    base = load_base(config.model, task.head, config.seed, task.kind.model_class, task.kind.processor_class)
    check_planned(config, run.folder.name, base.sha256, task.data_sha256)
    model = base.model
    record = read_record(run.folder)
    use_kernel(model, record.hardware.get("kernel", "torch"))
    original = base_weights(model, select(model, ["all-linear"]))
    decompositions = decompose(method.saved_updates(run.folder, model, original))
    method.load(model, run.folder)
    test = Split.encoded(task, task.test, base.processor)
    scoring = record.completed.scoring
    if scoring is None or scoring.precision != "fp32":
        test = replace(test, autocast=autocast_of(config.train))

    def right(tuned: Any) -> np.ndarray:
        return test.answered(test.outputs(tuned).numpy())["correct"]

    uncut = right(model)
    for name, ends in targets.items():
        weights = {matrix: original[matrix] for matrix in select(model, list(ends))}
        cuts = cuts_at({matrix: decompositions[matrix] for matrix in weights}, ranks)
        seen = seen_under(model, weights, cuts, uncut, right)
        for k, correct in zip([WHOLE, *ranks], [uncut, *seen], strict=True):
            yield {"set": name, "matrices": len(weights), "k": str(k), "correct": correct.astype(bool)}
