"""`python -m experiments.base_ranks`: is the base itself of low rank? Nothing is fine-tuned.

Each matrix of the base is cut to its top k directions, all at once, and a head alone is fitted to what such a model
says, as to the whole base. The control has k directions of each matrix drawn at random, at the norm of the top k. A
second table has the rank of a data matrix: a task's examples as rows, after each layer.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from experiments.rank_sweep_2 import tasks_of_the_second_edition, write_cloze
from experiments.study import RECORDS, UNGROUPED, composed
from lorax_lab import spectra
from lorax_lab.console import bar
from lorax_lab.errors import answer
from lorax_lab.measure.truncation import Decomposition, controls, cuts_at, with_changes
from lorax_lab.models import base_weights, head_modules, load_base, select
from lorax_lab.record.files import write_csv
from lorax_lab.record.redact import guard
from lorax_lab.streams import generator
from lorax_lab.tasks import load_task
from lorax_lab.tasks.frozen_head import fitted_head
from lorax_lab.tasks.kind import Task
from lorax_lab.tasks.split import Split, encode, in_order

CUTS, FEATURES = "base_cuts.csv", "feature_ranks.csv"
TASKS = ("sarcasm", "cloze")
KEPT = (0, 1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 320, 384)
"""Directions of each matrix; with none, a layer adds its biases alone to what it reads."""
CONTROL = "random_at_norm"
MEASURES = {
    "effective_rank": spectra.effective_rank,
    "stable_rank": spectra.stable_rank,
    "energy_rank_90": lambda sigma: spectra.energy_rank(sigma, 0.9),
}


def main(arguments: list[str] | None = None) -> int:
    """Cut, fit and write. Returns the exit code: 0 written, 2 a wrong input, 130 stopped."""
    guard()
    parser = argparse.ArgumentParser(prog="python -m experiments.base_ranks", description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the tables go (experiments/records)")
    parser.add_argument("--tasks", nargs="+", choices=tasks_of_the_second_edition(), default=TASKS, help="%(default)s")
    options = parser.parse_args(arguments)
    return answer(lambda: _write(options.records, options.tasks), "; nothing is written")


def _write(folder: Path, names: list[str]) -> int:
    write_cloze()
    cuts: list[dict[str, Any]] = []
    features: list[dict[str, Any]] = []
    for name in names:
        config = composed(tasks_of_the_second_edition()[name] + ("task.pooling=mean", UNGROUPED))
        task = load_task(config.task)
        base = load_base(config.model, task.head, 0, task.kind.model_class, task.kind.processor_class)
        splits = encode(task, base.processor, base.sha256)
        features += [{"task": name} | row for row in ranks_of_features(base.model, splits["train"])]
        targets = select(base.model, config.method.target_modules)
        cuts += [{"task": name} | row for row in scores_of_cuts(base.model, targets, task, splits)]
    for file, rows in ((CUTS, cuts), (FEATURES, features)):
        write_csv(folder / file, pd.DataFrame(rows))
        print(folder / file)
    return 0


def scores_of_cuts(
    model: Any, names: list[str], task: Task, splits: dict[str, Split], sizes: tuple[int, ...] = KEPT
) -> Iterator[dict[str, Any]]:
    """Rows (part, k, metric, test): the head's score on test where k directions of each matrix are left.

    Args:
        model: the base, whose weights are put back.
        names: of the matrices that are cut.
        sizes: every k.
    """
    original = base_weights(model, names)
    nothing = {name: torch.zeros_like(weight) for name, weight in original.items()}
    parts = {name: Decomposition(*torch.linalg.svd(weight, full_matrices=False)) for name, weight in original.items()}
    drawn = controls(parts, generator(0, "base_ranks"), {})
    changes = [*cuts_at(parts, sizes), *(change for change in drawn if change.part == CONTROL)]
    heads = head_modules(model)

    def score(changed: Any) -> float:
        outputs = fitted_head(changed, heads, splits)
        assert outputs is not None, "the base has a head that reads one vector"
        return task.score(outputs["test"], splits["test"].labels)[task.metric]

    with bar(task.config.name) as on_done, with_changes(model, nothing, score(model), score) as score_with:
        for done, change in enumerate(changes, 1):
            yield {"part": change.part, "k": change.k, "metric": task.metric, "test": score_with(change)}
            on_done(done, len(changes))


def ranks_of_features(model: Any, split: Split) -> Iterator[dict[str, Any]]:
    """Rows (layer, examples, width, each of `MEASURES`, of noise its effective rank): of the matrix that has a row for
    each example, the mean over its tokens, less the mean over examples. Layer 0 is the embedding."""
    for layer, matrix in enumerate(_means_by_layer(model, split)):
        centred = matrix - matrix.mean(0)
        sigma = torch.linalg.svdvals(centred)
        noise = spectra.effective_rank(spectra.gaussian_singular_values(centred.shape))
        measured: Mapping[str, float] = {name: float(measure(sigma)) for name, measure in MEASURES.items()}
        yield {"layer": layer, "examples": len(matrix), "width": matrix.shape[1], **measured, "noise": noise}


def _means_by_layer(model: Any, split: Split) -> list[Tensor]:
    """The mean over an example's tokens after the embedding and after each layer, (examples, width) fp64 each."""
    states: list[list[Tensor]] = []
    batches = split.scored_together("cpu")  # of one length each, so no token is padding

    def keep(module: Any, inputs: Any, output: Any) -> None:
        states.append([state.double().mean(1) for state in output.hidden_states])

    model.config.output_hidden_states = True
    with model.base_model.register_forward_hook(keep):
        split.outputs(model, batches)
    model.config.output_hidden_states = False
    return [in_order(torch.cat(of_layer), batches) for of_layer in zip(*states, strict=True)]


if __name__ == "__main__":
    raise SystemExit(main())
