"""What leak probes say of runs, in lines for the closing table and the report."""

from collections.abc import Iterable
from pathlib import Path

from lorax_lab.record.direction import labelled, oriented
from lorax_lab.record.record import Record
from lorax_lab.record.result import Probe, Result
from lorax_lab.record.share import MOST


def explaining(result: Result) -> list[Probe]:
    """The probes that explain a run's test score: which surely, by the lower end of the 95 % interval over test
    examples, bring `MOST` of what the run brings over one answer for all. None where the run brings nothing."""
    if not result.probes:
        return []
    constant, *fitted = result.probes
    brings = oriented(result.score("test") - constant.score, result.higher_is_better)
    least = MOST * brings
    surely = [oriented(probe.sure - constant.score, result.higher_is_better) for probe in fitted]
    return [probe for probe, gain in zip(fitted, surely, strict=True) if brings > 0 and gain >= least]


def probe_lines(records: Iterable[Record]) -> list[str]:
    """A line for each task and set of scores, and a warning for each probe that explains the scores of any runs."""
    by_task: dict[tuple[str, tuple[Probe, ...]], list[Record]] = {}
    for record in records:
        if record.result and record.result.probes:
            task = Path(record.config["task"]["name"]).name
            by_task.setdefault((task, tuple(record.result.probes)), []).append(record)
    lines = []
    for (task, probes), runs in by_task.items():
        metric = labelled(f"test {runs[0].completed.metric}", runs[0].completed.higher_is_better)
        lines.append(f"leak probes of {task}, {metric}: {', '.join(f'{_name(p)} {p.score:.3f}' for p in probes)}")
        for probe in probes:
            count = sum(probe in explaining(run.completed) for run in runs)
            if count:
                share = f"{100 * MOST:.0f} % of what {count} of {len(runs)} runs bring over one answer for all"
                lines.append(f"warning: {task}: {_name(probe)} alone surely brings {share}, and explains their score")
    return lines


def _name(probe: Probe) -> str:
    return probe.name if probe.token is None else f"{probe.name} {probe.token!r}"
