"""What a sweep says before it trains: which runs are missing, what is not measured, and how long it may take."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from lorax_lab.comparison import lacks_comparison
from lorax_lab.config.identity import plain
from lorax_lab.launch.runs import Run
from lorax_lab.models import census, choose, matrix_shapes, not_measured, without_weights
from lorax_lab.record import variation
from lorax_lab.record.lease import is_leased
from lorax_lab.record.record import read_record, scan, status_of
from lorax_lab.tasks import kind_of


def not_measured_lines(runs: Sequence[Run]) -> list[str]:
    """A line for each model, class and choice of targets about the matrices that are not measured, from the model's
    configuration alone; none where every matrix of the body is measured. A run's record has all groups."""
    configs = [run.config for run in runs]
    choices = [(c.model, kind_of(c.task.kind).model_class, tuple(c.method.target_modules)) for c in configs]
    lines = []
    for model, model_class, targets in dict.fromkeys(choices):
        names = choose(list(matrix_shapes(model, model_class)), list(targets))
        shares = not_measured(census(without_weights(model, model_class), names))
        words = (f"{reason} ({100 * share:.1f} % of the body's parameters)" for reason, share in shares.items())
        parts = ", ".join(words)
        lines += [f"model={model}: {len(names)} matrices are measured; not measured: {parts}"] if parts else []
    return lines


def dry_run_lines(runs: list[Run], workers: int) -> list[str]:
    """The lines of a dry run: one for each run, then how many are missing and how long they may take."""
    states, lines = [_state(run) for run in runs], []
    for run, (state, reason), setting in zip(runs, states, _differences(runs), strict=True):
        lines.append(f"{state:<12}{run.run_id}  {setting}".rstrip() + (f"  ({reason})" if reason else ""))
    counts = ", ".join(f"{count} {state}" for state, count in Counter(state for state, _ in states).items())
    missing = [run for run, (state, _) in zip(runs, states, strict=True) if state not in ("recorded", "in progress")]
    total = f"{len(runs)} run{'s' * (len(runs) > 1)}: {counts}"
    return [*lines, total, _estimate(missing, workers), "dry run: nothing was trained"]


def _differences(runs: list[Run]) -> list[str]:
    """For each run the settings in which it differs from the others, as overrides."""
    settings = [variation.settings(plain(run.config)) for run in runs]
    seeds = (variation.SEED,) if len({run.config.seed for run in runs}) > 1 else ()
    values = variation.labels(settings, (*variation.dials(settings), *seeds))
    return [
        " ".join(f"{key.removesuffix('.name')}={value}" for key, value in row.items() if value not in ("", "null"))
        for row in values
    ]


def _state(run: Run) -> tuple[str, str]:
    """The state of a run and, if it has no result, why."""
    status = status_of(run.folder)
    if status == "completed" and not run.config.force:
        return "recorded", "not compared with its reference yet" if lacks_comparison(run.folder, run.reference) else ""
    if is_leased(run.folder):
        return "in progress", "in another launcher"
    if status == "completed":
        return "forced", "recorded; force=true trains it again"
    if status in (None, "damaged"):
        return "missing", "its record is damaged" if status else ""
    reason = read_record(run.folder).reason
    return "failed", f"{status}: {reason}" if reason else "it was interrupted"


def _estimate(runs: list[Run], workers: int) -> str:
    if not runs:
        return "nothing to train"
    if (seconds := seconds_of(runs)) is None:
        return f"time unknown: there is no recorded run in {runs[0].runs_dir}"
    seconds /= workers
    time = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    time = time if seconds < 5400 else f"{seconds / 3600:.1f} h"
    together = "one run after the other" if workers < 2 else f"{workers} runs side by side"
    return f"about {time}, {together}, by the recorded runs that are most alike"


def seconds_of(runs: Sequence[Run]) -> float | None:
    """Seconds for all of the runs: each as long as the mean of the recorded runs that are most alike, by method, model,
    measure and task, or by the first of these. None where no run is completed."""

    def kind(config: Mapping[str, Any]) -> tuple[str, ...]:
        return config["method"]["name"], config["model"], config["measure"], config["task"]["name"]

    took: dict[tuple[str, ...], list[float]] = {}
    for record in scan(runs[0].runs_dir)[0].values():
        for length in range(5) if record.result else ():
            took.setdefault(kind(record.config)[:length], []).append(record.completed.time.total_seconds)

    def expected(run: Run) -> float:
        alike = kind(plain(run.config))
        return mean(next(took[alike[:length]] for length in range(4, -1, -1) if alike[:length] in took))

    return sum(map(expected, runs)) if took else None
