"""What is measured of a trained model: its test score, its update, and the scores of the truncated update."""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lorax_lab.config.measured import CONTROLS, CURVE, TEST_CUTS
from lorax_lab.console import Show
from lorax_lab.measure import rows, truncation
from lorax_lab.methods.method import Method
from lorax_lab.models import keep_frozen_in_bf16, put_back
from lorax_lab.record.clusters import GROUPS
from lorax_lab.record.direction import oriented
from lorax_lab.record.result import Matrix, Scoring
from lorax_lab.record.share import needed
from lorax_lab.streams import generator
from lorax_lab.tasks import Task
from lorax_lab.tasks.split import Split

FLIPS = 0.002
"""A share of the answers on validation, a tenth of the margin of studies. A run whose precision changes so many of them
is scored in fp32."""


def scored_in(
    model: nn.Module,
    splits: dict[str, Split],
    frozen: Mapping[str, Tensor],
    precision: str,
    validation: Mapping[str, float],
) -> tuple[dict[str, Split], dict[str, float], Scoring | None]:
    """The splits as the trained model is scored from here on, its score on validation, and what decided it.

    A run in bf16 or fp16 is scored in it where fewer than `FLIPS` of its answers are others in fp32. An answer that is
    a number, or text, has no flips: such a run is scored in fp32.

    Args:
        frozen: the weights that are kept in bf16, as they were.
        validation: the last score on validation, in the run's own precision; empty where there is none.
    """
    of_run = splits["validation"]
    if precision == "fp32":
        return splits, dict(validation) or of_run.score(model), None
    in_fp32 = {name: replace(split, autocast=nullcontext) for name, split in splits.items()}
    kind, counts = of_run.task.kind, dict[str, int]()
    rounded = of_run.outputs(model).numpy() if kind.correct else None
    try:
        put_back(model, frozen)
        exact = in_fp32["validation"].outputs(model).numpy()
        if rounded is not None:
            flips = int((kind.answers(rounded) != kind.answers(exact)).sum())
            counts = {"flips": flips, "examples": len(exact)}
        if rounded is None or flips >= FLIPS * len(exact):
            return in_fp32, of_run.task.score(exact, of_run.labels), Scoring("fp32", **counts)
    except torch.OutOfMemoryError:
        counts = {}
    if frozen:
        keep_frozen_in_bf16(model)
    return splits, dict(validation) or of_run.score(model), Scoring(precision, **counts)


@dataclass
class Findings:
    """What is measured of a trained model besides its validation score; a trial has none of it."""

    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    """Of the test split, as `Split.answered` gives them."""
    matrices: dict[str, Matrix] = field(default_factory=dict)
    spectra: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    truncation: list[dict[str, Any]] | None = None
    cut_outputs: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    """With cuts on test or controls: of the test split under each cut, as `Split.answered` gives them, by `cut/<k>`."""
    truncation_seconds: float = 0.0


def measure(
    model: nn.Module,
    method: Method[Any],
    original: dict[str, Tensor],
    full_update: Mapping[str, Tensor] | None,
    splits: dict[str, Split],
    validation: dict[str, float],
    zero: float | None,
    measured: str,
    seed: int,
    show: Show,
    folder: Path | None = None,
) -> Findings:
    """The update's measures, the test score, and for full fine-tuning the scores of the truncated update.

    Args:
        original: the base's matrices, each (out, in).
        full_update: of the full fine-tune that the run is compared with.
        validation: the score of the trained model on validation.
        zero: what a head alone scores on validation, on the task's metric; None where none was fitted.
        measured: one of `MEASURED`. With controls also the nulls are drawn that keep an update's structure.
        show: is told how far the truncation is.
        folder: on whose disk large factors are mapped.
    """
    updates = method.updates(model, original)
    decomposed = rows.decompose(updates, folder)
    test = splits["test"]
    outputs = test.outputs(model).numpy()
    findings = Findings(
        scores={"test": test.task.score(outputs, test.labels)},
        outputs=test.answered(outputs),
        matrices=rows.measure(updates, original, full_update, method.update_dtype),
        spectra=rows.to_save(decomposed),
    )
    if not method.is_reference:
        return findings
    began, on_validation = time.perf_counter(), splits["validation"]
    on_score = partial(show, "truncating the update")
    if measured in (TEST_CUTS, CONTROLS):  # the rank can then be told by examples that chose nothing
        ranks = truncation.ranks_of(decomposed, with_sixteenth=measured == TEST_CUTS)
        on_test = partial(show, "truncating the update, test")
        tops = truncation.cuts_at(decomposed, ranks)
        seen = truncation.seen_under(model, original, tops, outputs, lambda cut: test.outputs(cut).numpy(), on_test)
        answered = (without_labels(test.answered(cut)) for cut in seen)
        findings.cut_outputs = {f"cut/{k}": answers for k, answers in zip(ranks, answered, strict=True)}
    if measured not in (CURVE, CONTROLS):
        with truncation.with_changes(model, original, validation, on_validation.score) as score:
            findings.truncation = _find_k90(decomposed, score, validation, test.task, zero, on_score)
    else:
        changes = truncation.cuts(decomposed)
        if measured == CONTROLS:
            noise = truncation.gaussian_like(decomposed, generator(seed, "gaussian"))
            nulls = rows.structured(updates, lambda name: generator(seed, f"nulls/{name}"))
            findings.matrices = rows.with_stand_ins(findings.matrices, noise, original)
            findings.spectra = rows.to_save(decomposed, noise, nulls)
            changes += truncation.controls(decomposed, generator(seed, "directions"), noise)
        scores = truncation.seen_under(model, original, changes, validation, on_validation.score, on_score)
        findings.truncation = [
            {"part": change.part, "k": change.k, "module": change.module, **metrics}
            for change, metrics in zip(changes, scores, strict=True)
        ]
    findings.truncation_seconds = time.perf_counter() - began
    return findings


def _find_k90(
    decomposed: truncation.Decompositions,
    score: Callable[[truncation.Change], dict[str, float]],
    uncut: dict[str, float],
    task: Task,
    zero: float | None,
    on_score: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """Rows of `part`, `k`, `module` and metrics: the cuts by which the smallest k is found that keeps 90 % of what the
    whole update brings, and k = 0. What it brings is counted from a head alone or, where none was fitted, from k = 0.
    """
    ranks, higher = truncation.ranks_of(decomposed), task.higher_is_better
    most, by_k = len(ranks).bit_length() + 2, {ranks[-1]: uncut}

    def value(k: int) -> float:
        if k not in by_k:
            by_k[k] = score(*truncation.cuts_at(decomposed, [k]))
            on_score(min(len(by_k) - 1, most), most)
        return by_k[k][task.metric]

    enough = needed(value(0) if zero is None else zero, uncut[task.metric], higher)
    if enough is not None:
        truncation.bisected(ranks[:-1], lambda k: oriented(value(k), higher) >= oriented(enough, higher))
    value(0)
    return [{"part": "cut", "k": k, "module": None, **by_k[k]} for k in sorted(by_k)]


def without_labels(answered: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `Split.answered` gives, without the labels and groups, which are those of the whole model's answers."""
    return {name: array for name, array in answered.items() if name not in ("labels", GROUPS)}
