"""What a fine-tune does to the loss on other texts: before and after, with its update at the norm of another one, and
without the directions that the base does not have (Shuttleworth et al. 2024, https://arxiv.org/abs/2410.21228).

A large update forgets more than a small one, whatever its rank. So that of full fine-tuning is also brought to the norm
of each LoRA's, and LoRA's to that of full fine-tuning. The norm is of all that changed, so full fine-tuning's has the
embeddings too, which LoRA does not train. So its matrices are also scored alone, without embeddings and norms. What the
removal of directions does is held against noise of the same singular values, drawn once a run.

All is scored in fp32, whatever a run's own precision.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.afterwards.trained import Run, Runs
from lorax_lab.config import TaskConfig
from lorax_lab.config.identity import check_planned
from lorax_lab.data import data_sha256
from lorax_lab.methods import METHODS
from lorax_lab.models import load_base, out_in, select
from lorax_lab.record.clusters import GROUPS
from lorax_lab.record.folder import check_file
from lorax_lab.spectra import all_directions, intruders, random_directions
from lorax_lab.streams import generator
from lorax_lab.tasks import KINDS, load_task
from lorax_lab.tasks.language_modeling import NATS, TOKENS
from lorax_lab.tasks.split import Split

Change = dict[str, Tensor]
"""θ − θ0 by the parameter's name, as it is stored; of what did not change nothing."""
BASE = "base"
"""Stands for the arm before training."""
BEFORE, TRAINED, AT_NORM = "before", "trained", "at the norm of"
MATRICES, MATRICES_AT_NORM = "matrices alone", "matrices alone, at the norm of"
WITHOUT_INTRUDERS, WITH_NOISE = "without intruders", "with noise of their size"
"""What is scored."""
Svd = tuple[Tensor, Tensor, Tensor]
"""U (out, k), σ (k,), Vh (k, in)."""


@dataclass(frozen=True, eq=False)
class _Base:
    """The bare model and the hash of its files, its parameters as they were, the left singular vectors (out, m) of each
    matrix that can be adapted, and the test split of each text."""

    model: nn.Module
    sha256: str
    start: Change
    left: dict[str, Tensor]
    splits: dict[str, Split]


def forgetting(runs: Runs, texts: Mapping[str, TaskConfig], reference: str) -> Iterator[dict[str, Any]]:
    """One row for each run, what is scored of it, and text.

    Args:
        runs: full fine-tunes, and LoRAs of the lab's own, of causal language models on one base.
        texts: language modeling tasks by name, whose test examples are scored; the runs' own may be one.
        reference: the arm of full fine-tuning, to whose norm the others' updates are brought.

    Yields:
        `arm, seed`; `change`: one of `BEFORE` (of the arm `BASE`, once), `TRAINED`, `AT_NORM` (θ0 + f · (θ − θ0), where
        `norm_of` is the arm with the same seed whose Frobenius norm ‖θ − θ0‖ that is), `MATRICES` and
        `MATRICES_AT_NORM` (of `reference`: as trained, and at that norm, where only the matrices that can be adapted
        change), `WITHOUT_INTRUDERS` (W0 + ΔW less them; PEFT takes a quarter of them away, and cuts what is left to the
        adapter's rank), `WITH_NOISE` (less as many random directions of their singular values); `factor`, f, and
        `removed`, how many directions, both None where there is none; `text`; `nats` and `tokens` of each example (n,).
        A row of `BEFORE` has the examples' `groups` (n,) besides, where some have one in common.

    Raises:
        ConfigError: the base or the data are not a run's. DamagedRecord: a run's file is not what its record says.
        FileNotFoundError: it is gone.
    """
    base = _base(next(iter(runs.values())), texts)
    norms = {key: _norm(_change(run, base)) for key, run in runs.items()}
    yield from _rows(base, {}, BASE, -1, BEFORE)
    for (arm, seed), run in runs.items():
        change = _change(run, base)
        trained = list(_rows(base, change, arm, seed, TRAINED))
        yield from trained
        is_full = arm == reference
        norms_of_others = {
            other: norm for (other, of_seed), norm in norms.items()
            if of_seed == seed and (other == reference) != is_full
        }  # fmt: skip
        yield from _at_norms(base, change, norms_of_others, arm, seed, AT_NORM)
        if is_full:
            matrices = {key: tensor for key, tensor in change.items() if key in base.left}
            yield from _rows(base, matrices, arm, seed, MATRICES)
            yield from _at_norms(base, matrices, norms_of_others, arm, seed, MATRICES_AT_NORM)
        intruding = _intruders(base, change)
        removed = sum(len(sigma) for _, sigma, _ in intruding.values())
        drawn = generator(seed, f"forgetting/{arm}")
        noise = {key: random_like(*parts, drawn) for key, parts in intruding.items()}
        for name, directions in ((WITHOUT_INTRUDERS, intruding), (WITH_NOISE, noise)):
            if removed:
                yield from _rows(base, _without(base, change, directions), arm, seed, name, removed=removed)
            else:  # nothing to score again
                yield from (row | {"change": name, "removed": 0} for row in trained)


def _base(run: Run, texts: Mapping[str, TaskConfig]) -> _Base:
    kind = KINDS[run.config.task.kind]
    base = load_base(run.config.model, {}, 0, kind.model_class, kind.processor_class)
    start = {key: parameter.detach().clone() for key, parameter in base.model.named_parameters()}
    tasks = {name: load_task(replace(config, metric="nats")) for name, config in texts.items()}
    splits = {name: Split.encoded(task, task.test, base.processor) for name, task in tasks.items()}
    modules = {name: base.model.get_submodule(name) for name in select(base.model, ["all-linear"])}
    left = {
        f"{name}.weight": all_directions(out_in(module, start[f"{name}.weight"]))[0] for name, module in modules.items()
    }
    return _Base(base.model, base.sha256, start, left, splits)


def _change(run: Run, base: _Base) -> Change:
    method = METHODS[run.config.method.name]
    check_planned(run.config, run.folder.name, base.sha256, data_sha256(run.config.task))
    check_file(run.folder, method.weights)
    _put(base, {})
    model = copy.deepcopy(base.model)
    method.load(model, run.folder)
    places = {key: key.rpartition(".") for key in base.start}
    trained = {key: getattr(model.get_submodule(module), name).detach() for key, (module, _, name) in places.items()}
    change = {key: tensor - base.start[key] for key, tensor in trained.items()}
    return {key: tensor for key, tensor in change.items() if tensor.any()}


def _norm(change: Change) -> float:
    return math.hypot(*(float(tensor.double().norm()) for tensor in change.values()))


def _put(base: _Base, change: Change) -> None:
    with torch.no_grad():
        for key, parameter in base.model.named_parameters():
            parameter.copy_(base.start[key] + change[key] if key in change else base.start[key])


def _rows(base: _Base, change: Change, arm: str, seed: int, name: str, **more: Any) -> Iterator[dict[str, Any]]:
    _put(base, change)
    row = {"arm": arm, "seed": seed, "change": name, "norm_of": None, "factor": None, "removed": None} | more
    for text, split in base.splits.items():
        outputs = split.outputs(base.model).double().numpy()
        of_groups = {GROUPS: split.groups} if name == BEFORE and split.groups is not None else {}
        yield row | {"text": text, "nats": outputs[:, NATS], "tokens": outputs[:, TOKENS].astype(int)} | of_groups


def _at_norms(
    base: _Base, change: Change, norms: Mapping[str, float], arm: str, seed: int, name: str
) -> Iterator[dict[str, Any]]:
    own_norm = _norm(change)
    for other, norm in norms.items():
        factor = norm / own_norm
        scaled = {key: factor * tensor for key, tensor in change.items()}
        yield from _rows(base, scaled, arm, seed, name, norm_of=other, factor=factor)


def _matrix(base: _Base, key: str, tensor: Tensor) -> Tensor:
    """A parameter seen as (out, in), or back."""
    return out_in(base.model.get_submodule(key.removesuffix(".weight")), tensor)


def _intruders(base: _Base, change: Change) -> dict[str, Svd]:
    """Of each matrix that has some, in one order, so that the noise is drawn alike each time."""
    by_matrix = {
        key: intruders(_matrix(base, key, base.start[key] + change[key]), base.left[key])
        for key in sorted(change.keys() & base.left.keys())
    }
    return {key: parts for key, parts in by_matrix.items() if len(parts[1])}


def random_like(U: Tensor, sigma: Tensor, Vh: Tensor, drawn: torch.Generator) -> Svd:
    """As many random directions, with the same singular values."""
    left, right = (random_directions(len(tall), tall.shape[1], drawn) for tall in (U, Vh.T))
    return left, sigma, right.T


def _without(base: _Base, change: Change, directions: Mapping[str, Svd]) -> Change:
    """The change that also takes U diag(σ) Vh away, from W0 + ΔW."""
    taken = {key: _matrix(base, key, (U * sigma @ Vh).float()) for key, (U, sigma, Vh) in directions.items()}
    return change | {key: change[key] - tensor for key, tensor in taken.items()}
