"""The table that closes a sweep: a column for each dial that differs, the results of each run, and why a run has none.

Runs that were scored on different splits or by different metrics are not put under one heading: each says which.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

from lorax_lab.config import RunConfig
from lorax_lab.config.identity import plain
from lorax_lab.record import measures, variation
from lorax_lab.record.answer import answers, gain, longer
from lorax_lab.record.comparable import comparable, key_of, settings_of
from lorax_lab.record.direction import labelled, oriented, scored_on
from lorax_lab.record.folder import HEAD_ALONE, HEAD_ON_VALIDATION
from lorax_lab.record.probes import probe_lines
from lorax_lab.record.record import Record
from lorax_lab.record.result import Result
from lorax_lab.record.share import difference, reference_of, share_kept

DIFFERENCE, SHARE = "from full", "share kept"
"""The headings of a run's difference from full fine-tuning, above 0 is better, and of the share that it keeps of what
full fine-tuning brings over the head alone."""
LINEAR, BAG = "linear probe", "bag of words"
"""What a task scores without fine-tuning: a head that was fitted alone, and the strongest of the leak probes."""
ALWAYS = ("method.name", "rank")
"""Dials that have a column even where all runs are alike in them."""
Runs = dict[int, tuple[Path, Result]]
"""The folder and the result of each run of an arm, by seed."""
Cells = dict[str, str]
"""What a row of the table has under each heading."""


@dataclass(frozen=True)
class Row:
    """A run of the sweep: its configuration, its record where it has a result, and its status in words."""

    config: RunConfig
    done: Record | None
    status: str

    @property
    def collapsed(self) -> list[str]:
        """Why the run counts as collapsed."""
        return self.done.completed.collapsed if self.done else []


def table(rows: list[Row], runs_dir: Path) -> Group:
    """One line per run. Below the table stand the scores of untrained models, and the whole reason why a run has no
    result or is flagged as collapsed."""
    settings, kinds = _settings(rows), {score_name(row.done) for row in rows if row.done}
    cells = [dials | _result(row, kinds, runs_dir) for dials, row in zip(settings, rows, strict=True)]
    frame = pd.DataFrame(cells).fillna("")
    frame["status"] = ["collapsed" if row.collapsed else row.status.partition(":")[0] for row in rows]
    shown = Table(title=f"{len(rows)} runs in {runs_dir}", title_justify="left", padding=(0, 0, 0, 1))
    for heading in frame:
        words = heading in ("scored", "status")
        justify: Literal["left", "right"] = "left" if words or heading in settings[0] else "right"
        shown.add_column(Text(str(heading)), justify=justify, no_wrap=words, overflow="fold")
    for texts in frame.itertuples(index=False):
        shown.add_row(*map(Text, texts))
    notes = []
    for row, dials in zip(rows, settings, strict=True):
        name = ", ".join(f"{heading} {value}" for heading, value in dials.items() if value)
        notes += [f"{name}, {row.status}"] if ":" in row.status else []
        notes += [f"{name}, collapsed: {'; '.join(row.collapsed)}"] if row.collapsed else []
    probes = probe_lines(row.done for row in rows if row.done)
    lines = [*_baselines(rows), *probes, *_intervals(rows, settings, runs_dir), *notes]
    lines += _next(rows, runs_dir)
    return Group(shown, *(Text(line, overflow="fold") for line in lines))


def _settings(rows: list[Row]) -> list[Cells]:
    """Each run's values by heading: the main dials, whatever else differs, and last the seed."""
    runs = [variation.settings(plain(row.config)) for row in rows]
    differing = variation.dials(runs)
    main = [key for key in variation.MAIN if key in differing or key in ALWAYS]
    headings = variation.headings([*main, *(key for key in differing if key not in main), variation.SEED])
    return [{headings[key]: value for key, value in run.items()} for run in variation.labels(runs, headings)]


def _result(row: Row, kinds: set[str], runs_dir: Path) -> Cells:
    """The score under a heading that says what it is (`test accuracy`) with measures, or, where runs are scored in
    several ways, beside a cell that does; and the share that is kept."""
    record = row.done
    score = f"{record.completed.score(record.split):.3f}" if record else ""
    cells = {next(iter(kinds), "score"): score}
    if len(kinds) > 1:
        cells = {"scored": score_name(record) if record else "", "score": score}
    if not record:
        return cells
    if len(kinds) < 2:
        result, ranks = record.completed, measures.effective_ranks(runs_dir / record.run_id)
        cells |= {
            "trained": f"{result.parameters.trainable / 1e6:,.2f} M",
            "peak memory": f"{result.memory.peak_bytes / 2**20:,.0f} MiB",
            "effective rank": _number(ranks[0], 1) if ranks else "",
            "of noise's": _percent(ranks[0] / ranks[1] if ranks[0] and ranks[1] else None) if ranks else "",
            "seconds": f"{result.time.total_seconds:.0f}",
        }
    if full := reference_of(record, runs_dir):
        share = share_kept(record, full)
        from_full = difference(record, full)
        cells[DIFFERENCE] = "—" if from_full is None else f"{from_full:+.3f}"
        cells |= {} if share is None else {SHARE: _percent(share)}
    return cells


def _intervals(rows: list[Row], settings: list[Cells], runs_dir: Path) -> list[str]:
    """The difference of each arm of several seeds from full fine-tuning with its interval, and the answer of all runs
    of the store that may be compared with these."""
    by_arm: dict[str, tuple[Runs, Runs]] = {}
    groups: dict[str, Record] = {}
    for row, dials in zip(rows, settings, strict=True):
        if (done := row.done) is None or done.is_trial:
            continue
        groups.setdefault(key_of(settings_of(done)), done)
        if (full := reference_of(done, runs_dir)) and difference(done, full) is not None:
            arm = ", ".join(f"{heading} {value}" for heading, value in dials.items() if value and heading != "seed")
            runs, references = by_arm.setdefault(arm, ({}, {}))
            runs[done.seed] = runs_dir / done.run_id, done.completed
            references[done.seed] = runs_dir / str(done.completed.reference), full
    lines = []
    for arm, (runs, references) in by_arm.items():
        if len(runs) > 1:
            of_arm = gain(runs, references)
            over = f"{of_arm.count} seeds" + (f" and {of_arm.examples:,} examples" if of_arm.examples else " alone")
            interval = f"{of_arm.mean:+.3f} [{of_arm.low:+.3f}, {of_arm.high:+.3f}]"
            lines.append(f"{arm}: {interval} from full fine-tuning, 95 % over {over}")
    return lines + [sentence for record in groups.values() for sentence in answers(comparable(record, runs_dir))]


def _percent(share: float | None) -> str:
    return "—" if share is None else f"{100 * share:.0f} %"


def _next(rows: list[Row], runs_dir: Path) -> list[str]:
    """What to type next."""
    if not any(row.done and not row.done.is_trial for row in rows):
        return []
    runs = "" if runs_dir == Path("runs") else f" --runs {runs_dir}"
    seeds = len({row.config.seed for row in rows if row.done})
    more = "seed=0,1,2 for intervals"
    compared = [(row.done, full) for row in rows if row.done and (full := reference_of(row.done, runs_dir))]
    if any(difference(run, full) is None for run, full in compared):
        more = f"{longer(compared[0][0].config)} (full fine-tuning does not beat the linear probe)"
    elif seeds > 1:
        more = f"python -m analysis compare {runs_dir} (shares; intervals over examples too)"
    return [f"next: python -m analysis report{runs} (one page of all runs); {more}"]


def score_name(record: Record) -> str:
    """What a run's score is: `test accuracy`, or `training accuracy` of a memorised task."""
    split = scored_on(record.config, record.split)
    return labelled(f"{split} {record.completed.metric}", record.completed.higher_is_better)


def _number(value: float | None, digits: int = 3) -> str:
    return "—" if value is None else f"{value:.{digits}f}"


def _baselines(rows: list[Row]) -> list[str]:
    """What the models of the sweep score on the test split before training, and a linear probe of them, a line for each
    model and task; and the stronger of that probe and of a bag of words, below which no fine-tuning counts."""
    lines: dict[str, None] = {}
    for row in rows:
        if not row.done or not (baselines := row.done.completed.baselines):
            continue
        result, task = row.done.completed, row.config.task.name
        of_test = {key: value for key, value in baselines.items() if not key.startswith(HEAD_ON_VALIDATION)}
        names = {key: key.replace(f"{HEAD_ALONE}/", f"{LINEAR} ").replace("/", " ") for key in of_test}
        scores = ", ".join(f"{names[key]} {_number(value)}" for key, value in of_test.items())
        lines[f"the frozen {Path(row.config.model).name} on {task}: {scores}"] = None
        zeros = {probe.name: probe.score for probe in result.probes if probe.name == BAG}
        head = baselines.get(f"{HEAD_ALONE}/{result.metric}")
        if zeros and head is not None:
            zeros[LINEAR] = head
            best, other = sorted(zeros, key=lambda name: oriented(-zeros[name], result.higher_is_better))
            stronger = f"{best} {zeros[best]:.3f}, before {other} {zeros[other]:.3f}"
            lines[f"the best on {task} without fine-tuning: {stronger} (test {result.metric})"] = None
    return list(lines)
