"""What a sweep says of the matrices that it neither adapts nor measures, before anything trains."""

from __future__ import annotations

from collections.abc import Sequence

from lorax_lab.launch.plan import Run


def lines(runs: Sequence[Run]) -> list[str]:
    """A line for each model, class and choice of targets; none where every matrix of the body is measured.

    The shares are known from the model's configuration: no weight is read. Each run's record has all groups, the norms
    and biases too (`coverage`).
    """
    from lorax_lab.models import choose, groups, in_words, matrix_shapes, not_measured
    from lorax_lab.tasks import kind_of

    trained: dict[tuple[str, str, tuple[str, ...]], bool] = {}
    for config in (run.config for run in runs):
        key = (config.model, kind_of(config.task.kind).model_class, tuple(config.method.target_modules))
        trained[key] = trained.get(key, False) or getattr(config.method, "others", False)
    said = []
    for (model, model_class, targets), in_full in trained.items():
        names = choose(list(matrix_shapes(model, model_class)), list(targets))
        if shares := not_measured(groups(model, tuple(names), model_class)):
            which = "not measured, though full fine-tuning trains it" if in_full else "neither adapted nor measured"
            said.append(f"model={model}: {len(names)} matrices are measured; {which}: {in_words(shares)}")
    return said
