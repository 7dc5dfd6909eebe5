"""`python -m analysis report [--runs runs] [--out report.html]`: one page of all runs, to open in a browser.

The page is one file that asks nothing of any network: what varied, a table of the runs to sort and filter, every figure
as a picture, and what is missing, with what to type. Its words stand in `pages/report.html.j2`; here are its facts.
"""

import argparse
import base64
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from lorax_lab.errors import ConfigError, in_short
from lorax_lab.record.direction import labelled
from lorax_lab.record.files import write_text
from lorax_lab.record.probes import probe_lines
from lorax_lab.record.record import Record

from . import gaps, style
from .figures import FIGURES
from .groups import FIRST, NULL, RUNS, CannotDraw, Group, Recorded, command, load
from .pages import environment
from .variants import METHOD_NAMES

OUT = Path("report.html")
DRAWN = 12
"""Groups that have figures on the page, at most: those with the most runs."""
DPI = 120
CODES = "exit codes: 0 the page is written; 1 it is, but no run is completed; 2 nothing to show, or a wrong input"
WRITTEN = "written"
"""The last column of the table."""
Row = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Write the page. Returns one of the exit codes."""
    parser = argparse.ArgumentParser(prog="python -m analysis report", description=__doc__, epilog=CODES)
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the records are (runs)")
    parser.add_argument("--out", type=Path, default=OUT, help="the file (report.html); its folder is made")
    options = parser.parse_args(arguments)
    runs_dir, out = options.runs, options.out
    recorded = load(runs_dir)
    if not recorded.records and not recorded.damages:
        raise ConfigError(f"there is no run in {runs_dir}; type {command(FIRST, runs_dir)}")
    write_text(out, environment(html=True).get_template("report.html.j2").render(facts(recorded, runs_dir)))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {len(recorded.records)} runs; open it in a browser")
    return 0 if recorded.groups else 1


def facts(recorded: Recorded, runs_dir: Path) -> Row:
    """What the page says of a folder of runs."""
    groups = sorted(recorded.groups, key=lambda group: (-len(group.runs), group.name))
    rows = _rows(recorded, groups)
    statuses = Counter(row["status"].partition(":")[0] for row in rows)
    statuses |= Counter({"damaged": len(recorded.damages)} if recorded.damages else {})
    columns = _columns(rows)
    return {
        "runs_dir": str(runs_dir),
        "statuses": [f"{count:,} {status}" for status, count in sorted(statuses.items())],
        "data": [*probe_lines(recorded.records.values()), *_notes(recorded.records.values())],
        "latest": max((record.written for record in recorded.records.values()), default=""),
        "groups": [_group(group, runs_dir) for group in groups[:DRAWN]],
        "others": [_varied(group) for group in groups[DRAWN:]],
        "draw_all": _typed(runs_dir),
        "columns": columns,
        "rows": [[_text(row.get(name)) for name, _ in columns] for row in rows],
        "left_out": gaps.left_out(runs_dir, recorded),
    }


def _notes(records: Iterable[Record]) -> list[str]:
    """What was said of each task's data before training, once."""
    noted = [
        (record.config["task"]["name"], note) for record in records if record.result for note in record.result.notes
    ]
    return list(dict.fromkeys(f"{Path(task).name}: {note}" for task, note in noted))


def _typed(runs_dir: Path, *words: str) -> str:
    place = [] if runs_dir == RUNS else ["--runs", str(runs_dir)]
    return shlex.join(["python", "-m", "analysis", *words, *place])


def _varied(group: Group) -> Row:
    """The group's name, what its runs share, and the values of each setting in which they differ."""
    runs = group.runs
    values = {"method": runs["method"], "rank": runs["rank"].dropna().astype(int), "seed": runs["seed"]}
    values |= {key: runs[key] for key in group.dials}
    distinct = {key: [str(value) for value in dict.fromkeys(column) if value != ""] for key, column in values.items()}
    varied = [f"{key} = {', '.join(texts)}" for key, texts in distinct.items() if texts]
    return {"name": group.name, "count": len(runs), "shared": " ".join(group.shared), "varied": varied}


def _group(group: Group, runs_dir: Path) -> Row:
    return _varied(group) | {
        "finding": group.answer,
        "missing": gaps.missing(group),
        "unlike": gaps.versions(group),
        "figures": [_figure(name, group, runs_dir) for name in FIGURES],
    }


def _figure(name: str, group: Group, runs_dir: Path) -> Row:
    figure = FIGURES[name]
    described: Row = {"title": figure.TITLE, "command": _typed(runs_dir, name)}
    try:
        table = figure.table(group)
    except CannotDraw as reason:
        return described | {"reason": str(reason), "stamp": "", "picture": ""}
    return described | {"reason": "", "stamp": gaps.stamp(group, table), "picture": _picture(figure.draw(table))}


def _picture(figure: Figure) -> str:
    """A PNG in base 64, which the page takes as it is."""
    buffer = BytesIO()
    with mpl.rc_context(style.LOOK):
        figure.savefig(buffer, format="png", dpi=DPI)
    return Markup(base64.b64encode(buffer.getvalue()).decode())


def _rows(recorded: Recorded, groups: Iterable[Group]) -> list[Row]:
    """Every record in a row, in the order of the groups, then the others by their run ids; of a run in a group with the
    mean of each measure over its matrices."""
    arms = {run["run_id"]: run["arm"] for group in groups for run in group.runs.to_dict("records")}
    means = {run_id: row for group in groups for run_id, row in group.measures.to_dict("index").items()}
    rest = sorted(recorded.records.keys() - arms.keys())
    return [_row(recorded.records[run_id], arms.get(run_id, ""), means.get(run_id, {})) for run_id in (*arms, *rest)]


def _row(record: Record, arm: str, measures: Mapping[Any, float]) -> Row:
    name = METHOD_NAMES.get(record.method, record.method) + (f" r = {record.rank}" if record.rank else "")
    row: Row = {"run": record.run_id, "status": _status(record), "model": Path(record.config["model"]).name}
    row |= {"task": Path(record.config["task"]["name"]).name, "arm": arm or name}
    row |= {"rank": record.rank, "seed": record.seed}
    if (result := record.result) is not None:
        row["metric"] = labelled(result.metric, result.higher_is_better)
        row |= {split: result.score(split) for split in ("test", "validation")}
        row |= {"trained parameters": result.parameters.trainable, "peak MiB": result.memory.peak_bytes / 2**20}
        row["seconds"] = result.time.total_seconds
    row |= {name.replace("_", " "): value for name, value in measures.items() if not name.startswith(NULL)}
    return row | {WRITTEN: record.written}


def _status(record: Record) -> str:
    """As the closing table of a sweep says it; of a run without a result also why."""
    if record.result is None:
        return f"{record.status}: {in_short(ValueError(record.reason))}" if record.reason else record.status
    collapsed = bool(record.result.collapsed)
    return f"{'collapsed ' * collapsed}trial" if record.is_trial else "collapsed" if collapsed else record.status


def _columns(rows: Sequence[Row]) -> list[tuple[str, bool]]:
    """The columns of the table that have any value, and whether each has numbers."""
    names = dict.fromkeys(name for row in rows for name in row if name != WRITTEN)
    shown = [name for name in (*names, WRITTEN) if any(_text(row.get(name)) for row in rows)]
    return [(name, not any(isinstance(row.get(name), str) for row in rows)) for name in shown]


def _text(value: Any) -> str:
    """A value as a cell of the table has it.

    >>> _text(None), _text(float("nan")), _text(0.87341), _text(1234.5), _text(24832), _text("full")
    ('', '', '0.8734', '1,234.5', '24,832', 'full')
    """
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:,.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
