"""What the page says of a folder of runs: what varied, every run, the figures of each group, what went wrong."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

from lorax_lab.errors import in_short
from lorax_lab.record.direction import labelled
from lorax_lab.record.record import Record

from .. import missing, versions
from ..figures import FIGURES, functional_rank
from ..groups import RUNS, CannotDraw, Group, Recorded
from ..scores import without_interval
from ..stamps import stamped
from ..variants import METHOD_NAMES
from . import curves, markup
from .layers import left_out
from .markup import Runs, bullets, text
from .of_runs import VIEWS
from .page import Page, Section
from .plot import Plot

QUESTION = "How low is the rank of the update that fine-tuning makes, and what rank does LoRA need to match it?"
FLAGSHIP, BY_LAYER = "functional_rank", "effective_rank"
"""The figure that has the whole width, and the one that has a place for matrices in layers alone."""
DRAWN = 12
"""Groups that have figures, at most: those with the most runs."""
NO_VERDICT = (
    "The numbers are those of the runs as they are. A verdict with intervals takes a study, with its learning rates "
    "tuned and several seeds."
)
HEADINGS = (
    "run", "status", "model", "task", "arm", "rank", "seed", "metric", "test", "validation", "trained parameters",
    "peak MiB", "seconds", "written",
)  # fmt: skip
NUMERIC = {"rank", "seed", "test", "validation", "trained parameters", "peak MiB", "seconds"}
ALIKE = ("model", "task", "metric")
"""Columns that are left out where every run has the same, which the page then says once."""


def page(recorded: Recorded, runs_dir: Path, out: Path) -> Page:
    """The page of what a folder of runs holds."""
    absent = missing.left_out(runs_dir, recorded)
    statuses = Counter(_status(record) for record in recorded.records.values())
    statuses |= Counter({"damaged": len(recorded.damages)} if recorded.damages else {})
    counted = ", ".join(f"{count:,} {status}" for status, count in sorted(statuses.items()))
    latest = max((record.written for record in recorded.records.values()), default="")
    lead = [f"<p>{sum(statuses.values()):,} records: {text(counted)}. The latest is of {text(latest)}.</p>"]
    groups = sorted(recorded.groups, key=lambda group: (-len(group.runs), group.name))
    sections = [Section("varied", "What varied", _all_varied(groups, runs_dir))] if groups else []
    table, alike = _runs(recorded)
    said = f'<p class="soft">Every run has {text(alike)}.</p>' if alike else ""
    sections.append(Section("runs", "Runs", f"{said}{markup.runs(table)}"))
    if absent:
        lead.append(f'<p class="note"><a href="#left-out">Not in any figure: {len(absent):,}</a></p>')
    for group in groups[:DRAWN]:
        sections.append(Section(_key(group), group.name, _about(group), list(_plots(group, runs_dir, out))))
    if absent:
        plots = _of_unfinished(recorded, runs_dir, out)
        sections.append(Section("left-out", "Without a result, damaged, or left out", bullets(absent), plots))
    return Page(f"Runs in {runs_dir}", QUESTION, "".join(lead), sections)


def _key(group: Group) -> str:
    return f"group-{group.name}"


def _all_varied(groups: Sequence[Group], runs_dir: Path) -> str:
    """What varied in each group; of more than `DRAWN` groups the others are folded, and have no figures."""
    parts = [_varied(group, drawn=True) for group in groups[:DRAWN]]
    if others := groups[DRAWN:]:
        typed = markup.code(shlex.join(["python", "-m", "analysis", *_place(runs_dir)]))
        note = f"{len(others):,} more groups have no figures on this page, for there are many. These draw all: {typed}"
        folded = "".join(_varied(group, drawn=False) for group in others)
        parts.append(f'<p class="note">{note}</p><details><summary>the other groups</summary>{folded}</details>')
    return "".join(parts)


def _place(runs_dir: Path) -> list[str]:
    return [] if runs_dir == RUNS else ["--runs", str(runs_dir)]


def _varied(group: Group, drawn: bool) -> str:
    """What the runs of a group share, and the values of each setting in which they differ."""
    runs = group.runs
    values = {"method": runs["method"], "rank": runs["rank"].dropna().astype(int), "seed": runs["seed"]}
    values |= {key: runs[key] for key in group.dials}
    differing = [f"{key} = {', '.join(map(str, _distinct(column)))}" for key, column in values.items() if len(column)]
    name = f'<a href="#{text(_key(group))}">{text(group.name)}</a>' if drawn else text(group.name)
    count = f"{len(runs):,} run{'s' * (len(runs) > 1)} of {' '.join(group.shared)}"
    said = f'<p class="answer">{text(sentence)}</p>' if (sentence := _sentence(group)) else ""
    return f"<h3>{name}</h3>{said}<p>{text(count)}; what differs:</p>{bullets(differing)}"


def _distinct(column: object) -> list[object]:
    values = list(dict.fromkeys(column))  # type: ignore[call-overload]
    return sorted(values) if all(isinstance(value, int) for value in values) else values


def _about(group: Group) -> str:
    """What a group lacks, and which versions made it."""
    parts = [f'<p class="soft">{text(NO_VERDICT)}</p>']
    for heading, lines in (
        ("Missing", missing.gaps(group)),
        ("Made by unlike versions, so their mean is of no one of them", versions.lines(group)),
    ):
        parts += [f"<h3>{text(heading)}</h3>", bullets(lines)] if lines else []
    return "".join(parts)


def _sentence(group: Group) -> str:
    """What was found in a group, from the numbers of its flagship; nothing where that cannot be drawn."""
    try:
        found = functional_rank.finding(FIGURES[FLAGSHIP].table(group))
    except CannotDraw:
        return ""
    return f"{found[:1].upper()}{found[1:]}."


def _plots(group: Group, runs_dir: Path, out: Path) -> Iterator[Plot]:
    """A group's figures; one that cannot be drawn is there with its reason."""
    place = _place(runs_dir)
    for name, figure in FIGURES.items():
        typed = shlex.join(["python", "-m", "analysis", name, *place])
        try:
            table, stamps = stamped(group, figure.table(group))
        except CannotDraw as reason:
            yield Plot(name, figure.TITLE, [], group.runs[group.columns], typed, (f"not drawn: {reason}",))
            continue
        title = _sentence(group) if name == FLAGSHIP else f"{figure.TITLE[:1].upper()}{figure.TITLE[1:]}"
        if name in VIEWS:
            bars = (without_interval(table).strip(),) if "score" in table and without_interval(table) else ()
            notes = (*bars, *stamps.texts, *(left_out(table[table["best"]]) if name == BY_LAYER else ()))
            yield Plot(name, title, VIEWS[name](table), table, typed, notes, name == FLAGSHIP)
        else:
            yield Plot(name, title, [], table, typed, tuple(stamps.texts), picture=_picture(figure.draw(table)))
    if (made := curves.plot(group, _again(runs_dir, out))) is not None:
        yield made


def _again(runs_dir: Path, out: Path) -> str:
    """The command that makes this page."""
    return shlex.join(["python", "-m", "analysis", "report", *_place(runs_dir), "--out", str(out)])


def _of_unfinished(recorded: Recorded, runs_dir: Path, out: Path) -> list[Plot]:
    """The curves of runs without a result that no group has."""
    homes = {run.run_id for group in recorded.groups for run in group.unfinished}
    runs = [run for run in recorded.records.values() if not run.result and run.run_id not in homes]
    made = curves.of_unfinished(runs, runs_dir, _again(runs_dir, out))
    return [] if made is None else [made]


def _picture(figure: object) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120)  # type: ignore[attr-defined]
    return buffer.getvalue()


def _runs(recorded: Recorded) -> tuple[Runs, str]:
    """Every record in a row, the groups' order first, without the columns in which all are alike; and these, in
    words."""
    arms = {run_id: arm for group in recorded.groups for run_id, arm in _arms(group)}
    order = {run_id: number for number, run_id in enumerate(arms)}
    records = sorted(
        recorded.records.values(), key=lambda record: (order.get(record.run_id, len(order)), record.run_id)
    )
    rows = [_row(record, arms.get(record.run_id, "")) for record in records]
    values = {name: {row[HEADINGS.index(name)] for row in rows} - {""} for name in ALIKE}
    alike = {name: "".join(of) for name, of in values.items() if len(of) <= 1 < len(rows)}
    kept = [number for number, heading in enumerate(HEADINGS) if heading not in alike]
    table = Runs([HEADINGS[i] for i in kept], NUMERIC, [[row[i] for i in kept] for row in rows])
    return table, ", ".join(f"{name} {value}" for name, value in alike.items() if value)


def _arms(group: Group) -> Iterator[tuple[str, str]]:
    yield from zip(group.runs["run_id"], group.runs["arm"], strict=True)


def _row(record: Record, arm: str) -> list[str]:
    result = record.result
    name = arm or METHOD_NAMES.get(record.method, record.method) + (f" r = {record.rank}" if record.rank else "")
    first = [
        record.run_id,
        _status(record),
        Path(record.config["model"]).name,
        Path(record.config["task"]["name"]).name,
    ]
    first += [name, "" if record.rank is None else str(record.rank), str(record.seed)]
    if result is None:
        reason = "" if record.reason is None else in_short(ValueError(record.reason))
        return [*first[:1], f"{first[1]}: {reason}" if reason else first[1], *first[2:], *[""] * 6, record.written]
    scores = ["" if math.isnan(score := result.score(split)) else f"{score:.4f}" for split in ("test", "validation")]
    costs = [f"{result.parameters.trainable:,}", f"{result.memory.peak_bytes / 2**20:,.0f}"]
    metric = labelled(result.metric, result.higher_is_better)
    return [*first, metric, *scores, *costs, f"{result.time.total_seconds:.0f}", record.written]


def _status(record: Record) -> str:
    """As the closing table of a sweep says it."""
    if record.result is None:
        return record.status
    collapsed = bool(record.result.collapsed)
    return f"{'collapsed ' * collapsed}trial" if record.is_trial else "collapsed" if collapsed else record.status
