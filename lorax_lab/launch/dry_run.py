"""`--dry-run`: what a sweep would do. Nothing trains, and nothing is written to the store."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from lorax_lab.config.identity import plain
from lorax_lab.launch import leases
from lorax_lab.launch.durations import in_words, recorded
from lorax_lab.launch.plan import Run
from lorax_lab.launch.references import lacks_comparison
from lorax_lab.record import record, variation


def describe(runs: list[Run], workers: int) -> list[str]:
    """The lines of a dry run: one for each run, then how many are missing and how long they may take.

    A run is `recorded`, `missing`, `in progress` in another launcher, or `failed` (it would be tried again).
    """
    states = [_state(run) for run in runs]
    lines = [
        f"{state:<12}{run.run_id}  {difference}".rstrip() + (f"  ({reason})" if reason else "")
        for run, (state, reason), difference in zip(runs, states, differences(runs), strict=True)
    ]
    counts = Counter(state for state, _ in states)
    to_train = [run for run, (state, _) in zip(runs, states, strict=True) if state not in ("recorded", "in progress")]
    summary = ", ".join(f"{count} {state}" for state, count in counts.items())
    return [
        *lines,
        *_full_rank(runs),
        f"{len(runs)} run{'s' * (len(runs) > 1)}: {summary}",
        _estimate(to_train, workers),
        "dry run: nothing was trained",
    ]


def _full_rank(runs: list[Run]) -> list[str]:
    """For each method with a rank, whose update has full rank all the same, a line that says so."""
    from lorax_lab.methods import METHODS

    names = dict.fromkeys(run.config.method.name for run in runs if run.config.rank is not None)
    full = [name for name in names if METHODS[name].update_rank == "full"]
    return [f"method={name}: ΔW has full rank, whatever the run's rank is (docs/methods.md)" for name in full]


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
    if owner := leases.holder(run.runs_dir, run.run_id):
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
    durations = recorded(Path(runs[0].config.runs_dir))
    seconds = [durations.of(run) for run in runs]
    known = [value for value in seconds if value is not None]
    basis = "by recorded runs of the same method, model and task"
    if not known:
        return f"time unknown: there is no recorded run of the same method, model and task in {runs[0].runs_dir}"
    if len(known) < len(runs):
        rest = len(runs) - len(known)
        return (
            f"about {in_words(sum(known))} for {len(known)} of {len(runs)} runs, {basis}; unknown for the other {rest}"
        )
    together = "one run after the other" if workers < 2 else f"{workers} runs side by side"
    return f"about {in_words(sum(known) / workers)}, {together}, {basis}"
