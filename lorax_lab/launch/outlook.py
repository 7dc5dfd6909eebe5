"""What a sweep says before it trains: which runs are missing, what is not measured, and how long it may take."""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import mean

from lorax_lab.comparison import lacks_comparison
from lorax_lab.config import RunConfig
from lorax_lab.config.identity import plain
from lorax_lab.launch.room import Read, Sizes, adapted
from lorax_lab.launch.runs import Run
from lorax_lab.models import census, choose, matrix_shapes, not_measured, without_weights
from lorax_lab.record import variation
from lorax_lab.record.lease import is_leased
from lorax_lab.record.provenance import hardware
from lorax_lab.record.record import Record, read_record, scan, status_of
from lorax_lab.tasks import kind_of
from lorax_lab.train import plan_steps


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


def dry_run_lines(runs: list[Run], sizes: Sizes, width: int, elsewhere: bool) -> list[str]:
    """The lines of a dry run: one for each run, then how many are missing and how long they may take.

    Args:
        sizes: of the data that are here.
        width: how many runs are trained at once.
        elsewhere: a launcher trains them on other machines.
    """
    states, lines = [_state(run) for run in runs], []
    for run, (state, reason), setting in zip(runs, states, _differences(runs), strict=True):
        lines.append(f"{state:<12}{run.run_id}  {setting}".rstrip() + (f"  ({reason})" if reason else ""))
    counts = ", ".join(f"{count} {state}" for state, count in Counter(state for state, _ in states).items())
    missing = [run for run, (state, _) in zip(runs, states, strict=True) if state not in ("recorded", "in progress")]
    total = f"{len(runs)} run{'s' * (len(runs) > 1)}: {counts}"
    return [*lines, total, _estimate(missing, sizes, width, elsewhere), "dry run: nothing was trained"]


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


def _estimate(runs: list[Run], sizes: Sizes, width: int, elsewhere: bool) -> str:
    if not runs:
        return "nothing to train"
    records = [record for record in scan(runs[0].runs_dir)[0].values() if record.result]
    here = hardware()
    is_here = [all(record.hardware.get(key) == here[key] for key in ("processor", "device")) for record in records]
    records = [record for record, was_here in zip(records, is_here, strict=True) if was_here != elsewhere]
    took = [_seconds(run, sizes, records) for run in runs]
    known, width = [seconds for seconds in took if seconds is not None], min(width, len(runs))
    if len(known) < len(runs):
        lacking = runs[took.index(None)].config
        where = "on another machine" if elsewhere else "on this machine"
        reason = f"no run of method={lacking.method.name} measure={lacking.measure} on such a task is recorded {where}"
        is_read = _read(lacking, sizes).examples > 0
        return f"time unknown: {reason if is_read else 'model or data are not on this machine yet'}"
    seconds = max(sum(known) / width, max(known))
    time = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    time = time if seconds < 5400 else f"{seconds / 3600:.1f} h"
    together = "one run after the other" if width < 2 else f"{width} runs side by side"
    return f"about {time}, {together}, by the recorded runs that are most alike"


def _read(config: RunConfig, sizes: Sizes) -> Read:
    return sizes.get((config.model, repr(config.task)), Read(0))


def _seconds(run: Run, sizes: Sizes, records: Sequence[Record]) -> float | None:
    """Seconds that a run may take: those of the recorded runs that are most alike, of which training is scaled by the
    parameters × tokens, and the rest by the parameters.

    Alike are runs of one method, measure, precision and kind of task. Those of the same model and task count first, and
    then those of the same model. None where there are none, or the data are not here.
    """
    config = run.config
    read = _read(config, sizes)
    tokens = read.tokens * min(
        plan_steps(config.train, math.ceil(read.examples / config.train.batch_size))
        * config.train.batch_size * config.train.gradient_accumulation,
        config.train.epochs * read.examples,
    )  # fmt: skip
    took: list[tuple[tuple[bool, bool], float]] = []
    for like, done in ((record.config, record.completed) for record in records if tokens):
        alike = (config.method.name, config.measure, config.task.kind, config.train.precision)
        same = alike == (like["method"]["name"], like["measure"], like["task"]["kind"], like["train"]["precision"])
        if not (same and done.coverage and done.time.tokens):
            continue
        larger, longer = adapted(config) / done.coverage.adapted, tokens / done.time.tokens
        rest = done.time.total_seconds - done.time.train_seconds
        is_model = config.model == like["model"]
        nearness = (is_model and config.task.name == like["task"]["name"], is_model)
        took.append((nearness, larger * (longer * done.time.train_seconds + rest)))
    nearest = max((nearness for nearness, _ in took), default=None)
    return mean(seconds for nearness, seconds in took if nearness == nearest) if took else None
