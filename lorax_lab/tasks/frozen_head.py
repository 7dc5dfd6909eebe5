"""The head alone on the frozen base, trained to convergence: the 0 of every share of what fine-tuning brings.

A linear head is fitted to what the model's own head reads of each training example: the mean of the last layer, or its
first token where the head has a pooler. Classes are told by logistic regression, numbers by ridge regression, and the
validation split chooses how strongly the weights are held small. No seed has a part in it.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from lorax_lab.models.matrices import POOLER
from lorax_lab.tasks.kind import Task
from lorax_lab.tasks.split import Split, in_order

STRENGTHS = tuple(10.0**power for power in range(-4, 3))
"""Inverse weights of the penalty, from strong to next to none."""
TOGETHER = 16
"""Examples whose features are read at once, padded: where the solver stops depends on how they round."""
READS_TOKENS = "score"
"""What transformers calls the head of a decoder, which reads every token."""
STEPS = 10_000
"""Of the solver at most; it stops where the gradient is small."""


def fitted_head(model: Any, heads: list[str], splits: dict[str, Split]) -> dict[str, np.ndarray] | None:
    """What the fitted head says to each example of `validation` and `test`, (n, width); None where the model has no
    head that reads one vector for each example.

    Args:
        model: the base before training, in the precision that features are read in.
        heads: the dotted names of the modules of its head.
        splits: `train`, `validation` and `test`.
    """
    task = splits["train"].task
    if not task.head or not heads or heads[0].endswith(READS_TOKENS):
        return None
    read = {name: _features(model, _first_to_read(model, heads), split) for name, split in splits.items()}
    labels, validation = splits["train"].labels, splits["validation"]
    candidates = [_outputs(task, read, labels, strength) for strength in STRENGTHS]
    scores = [task.score(outputs["validation"], validation.labels)[task.metric] for outputs in candidates]
    best = int(np.argmax(scores)) if task.higher_is_better else int(np.argmin(scores))
    return {name: candidates[best][name] for name in ("validation", "test")}


def _first_to_read(model: Any, heads: list[str]) -> str:
    """The head's module that reads the body: a pooler with a layer of its own, which may be drawn at random, stands
    before the classifier (BERT, ALBERT); BEiT's is a norm."""

    def is_layer(head: str) -> bool:
        parts = model.get_submodule(head).modules()
        return head.rpartition(".")[2] == POOLER and any(isinstance(part, nn.Linear) for part in parts)

    return next(filter(is_layer, heads), heads[0])


def _features(model: Any, head: str, split: Split) -> np.ndarray:
    """What a head reads of each example of a split, (n, width)."""
    features: list[torch.Tensor] = []
    order = sorted(range(len(split.sizes)), key=split.sizes.__getitem__)
    batches = [order[start : start + TOGETHER] for start in range(0, len(order), TOGETHER)]
    place = -1 if getattr(model.config, "summary_type", None) == "last" else 0  # XLNet's is the last token

    def keep(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        states = inputs[0]
        features.append((states[:, place] if states.ndim == 3 else states.flatten(1)).float().cpu().clone())

    with model.get_submodule(head).register_forward_pre_hook(keep):
        split.outputs(model, batches)
    return in_order(torch.cat(features), batches).numpy()


def _outputs(task: Task, read: dict[str, np.ndarray], labels: np.ndarray, strength: float) -> dict[str, np.ndarray]:
    """What the fitted head says to each example of every split, (n, width)."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if task.classes and len(set(labels.tolist())) < 2:  # nothing to tell
        return {name: np.eye(len(task.classes))[[int(labels[0])] * len(features)] for name, features in read.items()}
    head = LogisticRegression(C=strength, max_iter=STEPS) if task.classes else Ridge(alpha=1 / strength)
    model = make_pipeline(StandardScaler(), head).fit(read["train"], labels)
    if not task.classes:
        return {name: model.predict(features)[:, None] for name, features in read.items()}
    return {name: _logits(model, features, len(task.classes)) for name, features in read.items()}


def _logits(model: Any, features: np.ndarray, classes: int) -> np.ndarray:
    """(n, classes); a class that is in no training example is never the answer."""
    decision = model.decision_function(features)
    decision = np.stack([-decision / 2, decision / 2], 1) if decision.ndim == 1 else decision
    logits = np.full((len(features), classes), decision.min() - 1)
    logits[:, model.classes_] = decision
    return logits
