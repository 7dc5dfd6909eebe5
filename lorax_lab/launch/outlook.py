"""What a sweep says before it trains: which runs are missing, what is not measured, and how long it may take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from lorax_lab.comparison import lacks_comparison
from lorax_lab.config.identity import plain
from lorax_lab.launch.leases import holder
from lorax_lab.launch.plan import Run
from lorax_lab.record import record, variation

Like = tuple[str, str, str, str]
"""Method, model, task and measure: runs that share all four are taken to last equally long."""


class Durations:
    """Seconds that completed runs took, by the settings that affect the time most."""

    def __init__(self) -> None:
        self._seconds: dict[Like, list[float]] = {}

    def add(self, like: Like, seconds: float) -> None:
        """Count one completed run."""
        self._seconds.setdefault(like, []).append(seconds)

    def left(self, runs: list[Run]) -> float | None:
        """Seconds for all of the runs: each as long as the mean of those like it, or of all where none is like it. None
        where no run is completed."""
        if not self._seconds:
            return None
        every = [seconds for alike in self._seconds.values() for seconds in alike]
        return sum(mean(self._seconds.get(like_of(run), every)) for run in runs)


def like_of(run: Run) -> Like:
    """The settings of a run by which its duration is looked up."""
    return run.config.method.name, run.config.model, run.config.task.name, run.config.measure


def recorded_durations(runs_dir: Path) -> Durations:
    """Durations of the completed runs of a store."""
    durations = Durations()
    for content in record.scan(runs_dir)[0].values():
        if content.result:
            config = content.config
            like = (content.method, config["model"], config["task"]["name"], config.get("measure", "standard"))
            durations.add(like, content.result.time.total_seconds)
    return durations


def in_words(seconds: float) -> str:
    """
    >>> in_words(42.4), in_words(372), in_words(9000)
    ('42 s', '6 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def not_measured_lines(runs: Sequence[Run]) -> list[str]:
    """A line for each model, class and choice of targets about the matrices that are neither adapted nor measured;
    none where every matrix of the body is measured.

    The shares are known from the model's configuration: no weight is read. Each run's record has all groups, the norms
    and biases too (`coverage`).
    """
    from lorax_lab.models import census, choose, in_words, matrix_shapes, not_measured, without_weights
    from lorax_lab.tasks import kind_of

    trained: dict[tuple[str, str, tuple[str, ...]], bool] = {}
    for config in (run.config for run in runs):
        key = (config.model, kind_of(config.task.kind).model_class, tuple(config.method.target_modules))
        trained[key] = trained.get(key, False) or getattr(config.method, "others", False)
    lines = []
    for (model, model_class, targets), in_full in trained.items():
        names = choose(list(matrix_shapes(model, model_class)), list(targets))
        if shares := not_measured(census(without_weights(model, model_class), names)):
            which = "not measured, though full fine-tuning trains it" if in_full else "neither adapted nor measured"
            lines.append(f"model={model}: {len(names)} matrices are measured; {which}: {in_words(shares)}")
    return lines


def dry_run_lines(runs: list[Run], workers: int) -> list[str]:
    """The lines of a dry run: one for each run, then how many are missing and how long they may take.

    A run is `recorded`, `missing`, `in progress` in another launcher, or `failed` (it would be tried again).
    """
    from lorax_lab.methods import METHODS

    states = [_state(run) for run in runs]
    lines = [
        f"{state:<12}{run.run_id}  {difference}".rstrip() + (f"  ({reason})" if reason else "")
        for run, (state, reason), difference in zip(runs, states, differences(runs), strict=True)
    ]
    names = dict.fromkeys(run.config.method.name for run in runs if run.config.rank is not None)
    full = [name for name in names if METHODS[name].update_rank == "full"]
    lines += [f"method={name}: ΔW has full rank, whatever the run's rank is (docs/methods.md)" for name in full]
    counts = ", ".join(f"{count} {state}" for state, count in Counter(state for state, _ in states).items())
    to_train = [run for run, (state, _) in zip(runs, states, strict=True) if state not in ("recorded", "in progress")]
    lines += [f"{len(runs)} run{'s' * (len(runs) > 1)}: {counts}", _estimate(to_train, workers)]
    return [*lines, "dry run: nothing was trained"]


def differences(runs: list[Run]) -> list[str]:
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
    status = record.status_of(run.folder)
    if status == "completed" and not run.config.force:
        return "recorded", "not compared with its reference yet" if lacks_comparison(run.folder, run.reference) else ""
    if owner := holder(run.runs_dir, run.run_id):
        return "in progress", f"in {owner}"
    if status == "completed":
        return "forced", "recorded; force=true trains it again"
    if status in (None, "damaged"):
        return "missing", "its record is damaged" if status else ""
    content = record.read_record(run.folder)
    return "failed", f"{status}: {content.reason}" if content.reason else "it was interrupted"


def _estimate(runs: list[Run], workers: int) -> str:
    if not runs:
        return "nothing to train"
    seconds = recorded_durations(runs[0].runs_dir).left(runs)
    if seconds is None:
        return f"time unknown: there is no recorded run in {runs[0].runs_dir}"
    together = "one run after the other" if workers < 2 else f"{workers} runs side by side"
    return f"about {in_words(seconds / workers)}, {together}, by the recorded runs that are most alike"
