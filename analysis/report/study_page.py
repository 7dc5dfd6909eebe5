"""What the page says of a study: its verdict with every interval, its figures, its runs."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from lorax_lab.study.published import Line

from ..study import beside, update
from ..study import page as verdict_page
from ..study.command import figures_of
from ..study.figures import FIGURES, answer, cost
from ..study.markdown import listed
from ..study.records import RECORDS, Records, collapsed, has_collapsed, rate_of, score_of
from ..study.validator import breaches, not_begun, notes
from ..study.verdict import rulings
from . import layers, markup, spectra
from .markup import Runs, bullets, text
from .of_study import VIEWS
from .page import Page, Section
from .plot import Plot

if TYPE_CHECKING:
    import pandas as pd

BARS = {
    "arms": "Bars: 95 % intervals over seeds and test examples; of one seed over its test examples.",
    "losses": "Bars: 95 % intervals over seeds and test examples; of one seed over its test examples.",
    "spectral": "Bars: 95 % intervals over seeds, of the mean over matrices; one seed has none.",
    "functional": "Bars: from the lowest to the highest seed; of one seed the 95 % interval over its examples.",
    "modules": "Bars: 95 % intervals over seeds; one seed has none.",
    "shared": "Bars: 95 % intervals over the pairs.",
}
"""What the bars of an interactive figure are; `trials` has none. Those of `answer` and `cost` depend on the records."""
WIDE = "answer"
NO_CURVES = "Published records have no learning curves; runs have, as in a report of a folder of runs."
HEADINGS = (
    "run", "task", "arm", "stage", "seed", "learning rate", "status", "test", "validation", "trained, head apart",
    "peak MiB", "train seconds",
)  # fmt: skip
NUMERIC = {"seed", "learning rate", "test", "validation", "trained, head apart", "peak MiB", "train seconds"}


def page(records: Records, controls: Sequence[Records], out: Path, folder: Path = RECORDS) -> Page:
    """The page of a study. One that is not fair, or not complete, has its faults, no verdict and no figures."""
    faults = [*breaches(records), *not_begun(records)]
    _, _, found, rest = verdict_page.write(records, controls).split("\n\n", 3)  # heading and question stand above
    lead = [f'<div class="answer">{markup.markdown(found)}</div>']
    said = [*notes(records), *_unchecked(records), *([note] if (note := collapsed(records)) else [])]
    lead += [bullets(said), f'<p class="soft">{text(NO_CURVES)}</p>']
    own = [] if folder == RECORDS else ["--records", str(folder)]
    typed = ["python", "-m", "analysis", "study", records.name, *own]
    sections = []
    if faults:
        unfair = shlex.join([*typed, "--allow-unfair"])
        content = f"<p>There are none of a study like this; {markup.code(unfair)} draws them, stamped.</p>"
        sections.append(Section("figures", "Figures", content))
    else:
        sections.append(Section("figures", "Figures", "", list(_plots(records, typed, own, out))))
    sections.append(Section("verdict", "Verdict", markup.markdown(rest)))
    if records.damages:
        sections.append(Section("damaged", "Damaged lines, left out", bullets(records.damages)))
    sections.append(Section("runs", "Runs", markup.runs(_runs(records))))
    question = " ".join(records.declared.texts["question"].split())
    return Page(f"Study {records.name}", question, "".join(lead), sections)


def _unchecked(records: Records) -> list[str]:
    return (
        [f"Not checked for damage, for lack of checksums: {', '.join(records.unchecked)}."] if records.unchecked else []
    )


def _plots(records: Records, typed: list[str], own: list[str], out: Path) -> Iterator[Plot]:
    command = shlex.join(typed)
    for name in figures_of(records):
        if (table := FIGURES[name].table(records)) is None:
            continue
        shows = f"{FIGURES[name].TITLE[:1].upper()}{FIGURES[name].TITLE[1:]}"
        title = f"{_ruled(records)} {shows}" if name == WIDE else shows
        if name in VIEWS:
            said = (*_bars(name, table), *_ended_badly(name, table))
            yield Plot(name, title, VIEWS[name](table), table, command, said, wide=name == WIDE)
        else:
            buffer = BytesIO()
            FIGURES[name].draw(table).savefig(buffer, format="png", dpi=120)
            yield Plot(name, title, [], table, command, picture=buffer.getvalue())
    again = shlex.join(["python", "-m", "analysis", "report", "--study", records.name, *own, "--out", str(out)])
    for part in (layers, spectra):
        if (table := part.table(records)) is not None:
            said = layers.left_out(table) if part is layers else ()
            yield Plot(part.NAME, part.TITLE, part.of_study(table), table, again, said)


def _bars(name: str, table: pd.DataFrame) -> tuple[str, ...]:
    """What the bars mean, as the picture that matplotlib draws says it."""
    if name == WIDE:
        both = (f"{side}: {answer.covered(table, key)}" for key, side in (("rank", "LoRA"), ("k", "cuts")))
        return (f"Dots are seeds. {'; '.join(both)}.",)
    if name == "cost":
        seconds = beside.of_seconds(table)
        shown = "Bars, and the grey band of full fine-tuning" if cost.has_ends(table) else "Points"
        bars = f"{shown}: {cost.over(table)}."
        return (bars, f"{seconds[0].upper()}{seconds[1:]}.") if seconds else (bars,)
    return (BARS[name],) if name in BARS else ()


def _ended_badly(name: str, table: pd.DataFrame) -> Iterator[str]:
    """Which runs of a task diverged or collapsed, where the picture says it in the heading over the task."""
    if name not in (WIDE, "cost"):
        return
    for task, rows in table.groupby("task", sort=False):
        if name == "cost" and (parts := cost.ended_badly(rows)):
            yield f"{task}: {'; '.join(parts)}."
        if name == WIDE and (ranks := answer.diverged(rows)):
            yield f"{task}: a run diverged, so no mean: rank {ranks}."


def _ruled(records: Records) -> str:
    """The verdict of each task."""
    of_tasks = [f"{ruling.verdict} on {ruling.task}" for ruling in rulings(records) if ruling.module == update.ALL]
    return f"Low rank: {listed(of_tasks)}."


def _runs(records: Records) -> Runs:
    lines = sorted(records.lines, key=lambda line: str(line["run_id"]))
    return Runs(list(HEADINGS), NUMERIC, [_row(records, line) for line in lines])


def _row(records: Records, line: Line) -> list[str]:
    cell = records.cell(line)
    place = [cell.condition, cell.arm, cell.stage] if cell else ["", f"{line['method']}, of no arm", ""]
    status = f"{line['status']}{', collapsed' if has_collapsed(line) else ''}"
    status += f": {line['reason']}" if line.get("reason") else ""
    first = [line["run_id"], *place, str(line["seed"]), f"{rate_of(line):g}", status]
    if line["status"] != "completed":
        return [*first, *[""] * 5]
    scores = ["" if math.isnan(score := score_of(line, split)) else f"{score:.4f}" for split in ("test", "validation")]
    costs = [f"{line['parameters']['adapter']:,}", f"{line['memory']['peak_bytes'] / 2**20:,.0f}"]
    return [*first, *scores, *costs, f"{line['time']['train_seconds']:.0f}"]
