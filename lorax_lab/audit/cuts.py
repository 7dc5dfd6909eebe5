"""The score of an adapter or fine-tune when its update is cut to k directions in every matrix, and the smallest k whose
cut is within a margin of the whole: chosen on validation, judged on test.

The model is the base with everything that the adapter or the checkpoint holds, head and biases too; a cut changes its
matrices alone (`measure.truncation`). A cut and the whole answer the same examples, so their difference is taken
example by example, and the lower end of its interval has to be within the margin: of several cuts near the margin, one
passes by luck.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lorax_lab.audit.checkpoint import Checkpoint
from lorax_lab.audit.updates import Updates
from lorax_lab.config import RunConfig
from lorax_lab.console import unseen
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose, recorded
from lorax_lab.measure.rows import decompose
from lorax_lab.measure.truncation import Decomposition, cuts_at, seen_under
from lorax_lab.methods import full
from lorax_lab.methods.adapters import Adapter
from lorax_lab.methods.names import plain_name
from lorax_lab.models import adaptable, base_weights, delta_view, head_parameters
from lorax_lab.models.tensor_files import WEIGHT_DTYPES
from lorax_lab.record.clusters import pooled
from lorax_lab.spectra import Update
from lorax_lab.tasks import Task
from lorax_lab.tasks.split import Split

OnScore = Callable[[int, int], None]
STATELESS = ("position_ids", "num_batches_tracked")
"""Endings of tensors in whole checkpoints that no output depends on: the model counts them itself."""
NAMED = 20
"""Tensors that a refusal names at most."""
P_ONE, P_TWO = 0.05, 0.025
"""In the tail: one-sided 95 % for choosing, two-sided 95 % for reporting."""
NO_INTERVAL = "This metric is no mean over examples: its differences have no interval, and they choose alone."
Answers = dict[str, np.ndarray]
PSEUDO = 0.5
"""Added to each count of answers that were lost, won, kept right and kept wrong (Agresti & Min 2005): without it the
interval has no width where no answer differs."""


class Change(NamedTuple):
    """A cut's score minus the whole's, in the metric's unit, above 0 where the cut is better; with ends of intervals.
    The ends are NaN where the metric is no mean over examples."""

    difference: float
    surely: float
    """The lower end, one-sided 95 %."""
    low: float
    high: float
    """Two-sided 95 %."""


def paired(uncut: np.ndarray, cut: np.ndarray) -> tuple[float, float]:
    """The mean of what a cut adds to each example's part of the score, (n,) bool or numbers, or each group's, and its
    standard error.

    >>> same = np.ones(500, dtype=bool)
    >>> [round(value, 4) for value in paired(same, same)]
    [0.0, 0.002]
    """
    if uncut.dtype == bool:
        won, lost = (float(changed.sum()) + PSEUDO for changed in (cut & ~uncut, uncut & ~cut))
        n = len(uncut) + 4 * PSEUDO
        middle = (won - lost) / n
        return middle, math.sqrt(max((won + lost) / n - middle**2, 0.0) / n)
    gains = cut.astype(float) - uncut.astype(float)
    return float(gains.mean()), float(gains.std(ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf


def chosen(changes: Mapping[int, Change], margin: float) -> int:
    """The smallest k that, with every larger one, is surely within the margin; the largest is the whole. Where a metric
    has no interval the difference itself counts.

    >>> within, out = Change(0.0, -0.01, -0.02, 0.02), Change(-0.01, -0.03, -0.04, 0.02)
    >>> chosen({0: within, 1: out, 2: within, 4: within}, 0.02)
    2
    """
    ranks = sorted(changes, reverse=True)
    smallest = ranks[0]
    for k in ranks[1:]:
        lowest = changes[k].difference if math.isnan(changes[k].surely) else changes[k].surely
        if not lowest >= -margin:
            break
        smallest = k
    return smallest


def ranks_to_try(full: int) -> list[int]:
    """0, the powers of two below `full`, and half-way between them from 2 on, then `full`.

    >>> ranks_to_try(16)
    [0, 1, 2, 3, 4, 6, 8, 12, 16]
    """
    powers = [2**i for i in range(full.bit_length())]
    return [0, *sorted({k for power in powers for k in (power, 3 * power // 2) if k < full}), full]


def task_config(words: list[str], folder: Path, base: str | None) -> RunConfig:
    """The configuration of a task as `python -m lorax_lab.run` reads it.

    Args:
        words: a task and overrides such as `task.test_examples=200`; none for that of the run that left `folder`.
        base: the base that was typed; None for the recorded run's own.

    Raises:
        ConfigError: no such task or key, or no words where no run has left the adapter.
    """
    model = [f"model={base}"] if base else []
    if not words:
        if not (folder / "config.yaml").is_file():
            raise ConfigError(f"--task needs a task's name: {folder} is no run's folder; type --task movie_reviews")
        return compose([*(w for w in recorded(folder) if not base or not w.lstrip("+").startswith("model=")), *model])
    named = [word if "=" in word else f"task={word}" for word in words]
    settings = [word for word in named if word.lstrip("+").startswith("task.")]
    if len(settings) != len(named) - 1 or sum(word.startswith("task=") for word in named) != 1:
        needed = "it is one task and its settings, as local task.path=my.csv; the adapter stands before --task"
        raise ConfigError(f"--task {' '.join(words)}: {needed}")
    return compose([*named, *model, "reference=false"])


def score(tuned: Tuned, task: Task, processor: Any, margin: float, on_score: OnScore) -> dict[str, Any]:
    """Score the whole update, every cut on validation, and the chosen one on test.

    Returns:
        task, metric, margin, higher_is_better; examples and whole: numbers and scores by split. cuts: for each k its
        score and `Change` on validation; the largest k, `full`, is the whole. chosen: as `chosen`. test: score and
        `Change` on test at the chosen k. notes: what a reader has to know.

    Raises:
        ConfigError: an example that the model cannot read.
    """
    validation, test = (Split.encoded(task, task.splits[name], processor) for name in ("validation", "test"))
    ranks = ranks_to_try(tuned.full)
    passes = len(ranks) + 1
    uncut = _seen(validation, tuned.model)
    seen = tuned.cut(ranks[:-1], uncut, lambda cut: _seen(validation, cut), lambda done, _: on_score(done, passes))
    answers = dict(zip(ranks, [*seen, uncut], strict=True))
    changes = {k: _change(validation, uncut, cut) for k, cut in answers.items()}
    k = chosen(changes, margin)
    on_test = _seen(test, tuned.model)
    (at_k,) = tuned.cut([k], on_test, lambda cut: _seen(test, cut)) if k < tuned.full else [on_test]
    on_score(passes, passes)
    return {
        "task": str(task.config.name),
        "metric": task.metric,
        "margin": margin,
        "higher_is_better": task.higher_is_better,
        "examples": {"validation": len(validation.rows), "test": len(test.rows)},
        "whole": {"validation": uncut[0], "test": on_test[0]},
        "cuts": [{"k": rank, "score": answers[rank][0]} | changes[rank]._asdict() for rank in ranks],
        "chosen": k,
        "full": tuned.full,
        "test": {"score": at_k[0]} | _change(test, on_test, at_k)._asdict(),
        "notes": [NO_INTERVAL] * all(math.isnan(change.surely) for change in changes.values()),
    }


def _seen(split: Split, model: torch.nn.Module) -> tuple[float, Answers]:
    outputs = split.outputs(model).numpy()
    return split.task.score(outputs, split.labels)[split.task.metric], split.answered(outputs)


def _change(split: Split, uncut: tuple[float, Answers], cut: tuple[float, Answers]) -> Change:
    """Answers that are right or wrong are compared where the score is their share, else what each adds to the score. By
    the normal law; where examples have groups, by Student's over these if that error is larger."""
    key = "correct" if split.task.metric == "accuracy" else "pseudo_values"
    sign = 1.0 if split.task.higher_is_better else -1.0
    gained = sign * (cut[0] - uncut[0])
    if key not in uncut[1]:
        return Change(gained, math.nan, math.nan, math.nan)
    from scipy.stats import norm, t

    seen = [answers[key] for _, answers in (uncut, cut)]
    if np.isin(seen, (0, 1)).all():  # right or wrong, as an exact match is
        seen = [each.astype(bool) for each in seen]
    mean, error = paired(*seen)
    one, two = (float(norm.isf(p)) * error for p in (P_ONE, P_TWO))
    if split.groups is not None:
        _, of_groups = paired(*(pooled(each, split.groups) for each in seen))
        wider = [float(t.isf(p, split.groups.max())) * of_groups for p in (P_ONE, P_TWO)]  # NaN of one group
        one, two = (float(np.maximum(half, other)) for half, other in zip((one, two), wider, strict=True))
    return Change(gained, sign * mean - one, sign * mean - two, sign * mean + two)


# ---- the tuned model, put together from a base and the tensors of an adapter or of a checkpoint


@dataclass(frozen=True, eq=False)
class Tuned:
    """A tuned model, its base's matrices (out, in), the SVD of each update, and the parameters of the tuned head."""

    model: nn.Module
    original: dict[str, Tensor]
    decompositions: dict[str, Decomposition]
    head: dict[str, Tensor]

    @property
    def full(self) -> int:
        """The largest rank of an update."""
        return max(len(decomposition.sigma) for decomposition in self.decompositions.values())

    def cut(
        self, ranks: Sequence[int], uncut: Any, see: Callable[[nn.Module], Any], on_score: OnScore = unseen
    ) -> list[Any]:
        """What is seen of the model with every update cut to each of some ranks, as `measure.truncation.seen_under`."""
        return seen_under(self.model, self.original, cuts_at(self.decompositions, ranks), uncut, see, on_score)


def put_together(model: nn.Module, updates: Updates, tuned: Checkpoint | None) -> Tuned:
    """Put the tuned weights into a bare base with a head for the task, in place; `tuned` is the checkpoint of a pair.

    Raises:
        ConfigError: tensors of the adapter that do not belong to the model, or no head; it names them.
    """
    if updates.adapter is None:
        assert tuned is not None, "a pair has a tuned checkpoint"
        names = list(adaptable(model))
        original = base_weights(model, names)
        tensors = {plain_name(n): t for n, t in tuned.tensors.items() if t.dtype in WEIGHT_DTYPES and t.ndim}
        if lacking := [name for name in names if plain_name(f"{name}.weight") not in tensors]:
            more = f"{', '.join(lacking[:NAMED])} ({len(lacking)}) of its model, or has it fused or quantized"
            raise ConfigError(f"--task: {tuned.name} lacks {more}; it cannot be scored, so leave --task out")
        _load(model, tensors, f"the checkpoint {tuned.name}")
        _check_tied(model, (), tensors, tuned.name)
        _check_head(model, {plain_name(name) for name in tuned.tensors}, updates)
        changed: Mapping[str, Update] = full.updates(model, original)
    else:
        places, saved = _places(model, updates.adapter)
        original = base_weights(model, list(places))
        unsaved = {plain_name(name): parameter for name, parameter in model.named_parameters(remove_duplicate=False)}
        _check_tied(model, places, unsaved | saved, updates.adapter.name)
        _load(model, saved, f"the adapter {updates.adapter.name}")
        _check_head(model, set(saved), updates)
        changed = {name: updates.adapter.updates[module].update(original[name]) for name, module in places.items()}
        for name, update in changed.items():
            _weight(model, name).copy_(original[name] + (update if isinstance(update, Tensor) else update.dense()))
    head = {name: parameter.detach().clone() for name, parameter in head_parameters(model).items()}
    return Tuned(model.eval(), original, decompose(changed), head)


def _weight(model: nn.Module, name: str) -> Tensor:
    return delta_view(model.get_submodule(name)).detach()


def _places(model: nn.Module, adapter: Adapter) -> tuple[dict[str, str], dict[str, Tensor]]:
    """`{name of the model's module: name of its update}`, and what the adapter saved in full, by plain name. All of it
    has a place in the model, else another one than the user's would be scored."""
    weights = ((name, getattr(part, "weight", None)) for name, part in model.named_modules())
    modules = {
        plain_name(f"{name}.weight"): name for name, weight in weights if weight is not None and weight.ndim == 2
    }
    places, unplaced = {}, list(adapter.unplaced)
    for name, update in adapter.updates.items():
        place = modules.get(plain_name(f"{name}.weight"))
        if place is None or tuple(_weight(model, place).shape) != update.shape:
            unplaced.append(name)
        else:
            places[place] = name
    stored = {plain_name(name) for name in model.state_dict()}
    saved = {name: tensor for name, tensor in adapter.saved.items() if not name.endswith(STATELESS)}
    unplaced += [name for name, t in saved.items() if plain_name(name) not in stored or t.dtype not in WEIGHT_DTYPES]
    if unplaced:
        more = f" and {len(unplaced) - NAMED} more" if len(unplaced) > NAMED else ""
        raise ConfigError(
            f"--task: {len(unplaced)} tensors of the adapter {adapter.name} have no place in the model, so the score "
            f"would be another model's: {', '.join(unplaced[:NAMED])}{more}; name the base and the task that it was "
            "trained on, or leave --task out"
        )
    return places, {plain_name(name): tensor for name, tensor in saved.items()}


def _check_tied(model: nn.Module, places: Container[str], tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse a change of one name of a tied weight: written into the model, it would be that of all of its names."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    for tied in (group for group in names.values() if len(group) > 1):
        weights = [tensors[plain_name(name)].float() for name in tied if plain_name(name) in tensors]
        is_adapted = any(name.removesuffix(".weight") in places for name in tied)
        if is_adapted or not all(torch.equal(weights[0], weight) for weight in weights):
            raise ConfigError(f"--task: {source} changes one of {', '.join(tied)}, which are tied; leave --task out")


@torch.no_grad()
def _load(model: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Put tensors by plain name into the model's parameters and saved buffers of the same names; the others stay."""
    for name, parameter in model.state_dict(keep_vars=True).items():
        if (tensor := tensors.get(plain_name(name))) is None:
            continue
        if tensor.shape != parameter.shape:
            shapes = f"{tuple(tensor.shape)} in {source}, {tuple(parameter.shape)} in its model"
            raise ConfigError(f"--task: {name} is {shapes}")
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"{source}: {name} has nan or inf inside: a diverged run or a bad file")
        parameter.copy_(tensor)


def _check_head(model: nn.Module, saved: set[str], updates: Updates) -> None:
    """Refuse a head that nobody trained: neither what was tuned nor the base has it, so it was drawn at random."""
    stored = saved | {plain_name(name) for name in (updates.base.tensors if updates.base else ())}
    lacking = [name for name in head_parameters(model) if plain_name(name) not in stored]
    if lacking:
        raise ConfigError(
            f"--task: {updates.title} has no head for this task: {', '.join(lacking[:3])} is in no file; name the task "
            "that it was trained on, save its head with it (modules_to_save), or leave --task out"
        )
