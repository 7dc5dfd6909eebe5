"""Published lines: one line of JSON per run, without weights, small enough to be committed with a study.

A line carries what tables, figures and tests need: the scores, which test examples were answered correctly, every
matrix's measures, the truncations' scores, where the run comes from, and the SHA-256 of the line's own content.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.errors import in_short
from lorax_lab.record import direction
from lorax_lab.record.folder import OUTPUTS, load_arrays, load_spectra
from lorax_lab.record.record import DamagedRecord, read_record
from lorax_lab.record.redact import redacted
from lorax_lab.record.result import Result, Row
from lorax_lab.record.sums import read_checked, write_summed
from lorax_lab.study.answers import check_answers, packed_answers

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
"""Version of a line's layout."""
DIGITS = 6
SIGMA_DIGITS = 4
COPIED = ("run_id", "status", "method", "rank", "seed", "code", "git", "versions", "hardware", "written")
COPIED_COMPLETED = ("inputs", "parameters", "metric", "metrics")
NOT_KEPT = {"": ("runs_dir", "tracking", "force", "isolate"), "task": ("path",), "train": ("device",)}
"""Settings that a line leaves out: where things lie, and how a run was watched."""
MEASURED_NOW = "base_norm"
"""A measure that every row has, unless the row is older than spikes and the rounding edge."""
COLLAPSED = "collapsed"
"""The key of the reasons why a run counts as collapsed; a line has it only if there are any."""
SHARED_RANKS = (1, 2, 4, 8, 16, 32)
SHARED_COLUMNS = ("task", "seed", "other_task", "other_seed", "matrix", "module", "layer", "k", "column", "row")

Line = dict[str, Any]


def line_of(folder: Path) -> Line:
    """One run's line.

    Raises:
        FileNotFoundError: there is no record. DamagedRecord: it, or one of its arrays, is not what was written, or an
            older version measured its matrices.
    """
    record = read_record(folder)
    parts = asdict(record)
    line: Line = {"format": FORMAT} | {key: parts[key] for key in COPIED} | {"config": portable(record.config)}
    result = record.result
    if result is None:
        return _rounded(line | {"reason": record.reason}, DIGITS)
    values = parts["result"]
    memory = {key: values["memory"][key] for key in ("peak_bytes", "phase", "batch_shape", "by_category")}
    line |= {key: values[key] for key in COPIED_COMPLETED} | {"memory": memory, "time": values["time"]}
    if not result.higher_is_better:
        line[direction.KEY] = False
    if result.baselines:
        line["baselines"] = dict(result.baselines)
    if result.collapsed:
        line[COLLAPSED] = result.collapsed
    if not result.matrices:
        return _rounded(line, DIGITS)
    spectra, outputs = load_spectra(folder), load_arrays(folder, OUTPUTS)
    line |= packed_answers(outputs.pop("test"), outputs)
    line = _rounded(line | {"matrices": _rows(result, folder), "gaussian": result.gaussian}, DIGITS)
    if result.truncation is not None:
        line["functional"] = [[r["part"], r["k"], r.get("module"), r[result.metric]] for r in result.truncation]
        line["sigma"] = {name: _rounded(parts["sigma"].tolist(), SIGMA_DIGITS) for name, parts in spectra.items()}
    return line


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    """Write the lines, sorted by run, each with its checksum; the same lines give the same bytes."""
    shown = [redacted(line) for line in sorted(lines, key=lambda line: str(line["run_id"]))]
    write_summed(path, "".join(_text(line | {"sha256": checksum(line)}) + "\n" for line in shown))


def read_lines(path: Path) -> tuple[list[Line], list[str]]:
    """The intact lines of a file, and what is wrong with each of the others; both empty where there is no file."""
    from lorax_lab.record.shapes import check_line

    checked = read_checked(path)
    lines, damages = [], list(checked.damages)
    runs: set[str] = set()
    for number, text in checked.lines.items():
        try:
            line = json.loads(text)
            stated = line.pop("sha256", None)
            if stated != checksum(line) or text != _text(line | {"sha256": stated}):
                raise DamagedRecord("it is not what was written: its checksum does not match")
            if line["format"] != FORMAT:
                raise DamagedRecord(f"it has format {line['format']}; this version reads {FORMAT}")
            if line["run_id"] in runs:
                raise DamagedRecord(f"it is a second line of {line['run_id']}")
            check_line(text, line)
            runs.add(line["run_id"])
            check_answers(line)
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            damages.append(f"{path.name}, line {number}: {in_short(error)}")
        else:
            lines.append(line)
    return lines, damages


def shared_rows(first: Path, second: Path) -> list[dict[str, Any]]:
    """How much two full updates share of their top k directions, matrix by matrix. It is φ(k, k) of the column and of
    the row spaces (Hu et al. 2021, sec. 7.2), beside the values of random subspaces, k / out and k / in."""
    import torch

    from lorax_lab.spectra import subspace_similarity

    one, other = load_spectra(first), load_spectra(second)
    table, rows = read_record(first).completed.matrices, []
    for name in one:
        out, into = table[name]["shape"]
        place = {"matrix": name, "module": table[name]["module"], "layer": table[name]["layer"]}
        for k in SHARED_RANKS:
            if k <= min(one[name]["U"].shape[1], out, into):
                column = subspace_similarity(*(torch.from_numpy(s[name]["U"][:, :k]) for s in (one, other)))
                row = subspace_similarity(*(torch.from_numpy(s[name]["Vh"][:k].T) for s in (one, other)))
                shares = {"k": k, "column": column, "random_column": k / out, "row": row, "random_row": k / into}
                rows.append(place | _rounded(shares, DIGITS))
    return rows


def shared_table(path: Path) -> tuple[pd.DataFrame | None, list[str]]:
    """The intact rows of the table of directions that full fine-tunes share, and what is wrong with the others; None
    where there is no table, or none that can be read. Conditions and matrices are text, whatever they are called: a
    condition `100` is no number, and `NA` is no missing value."""
    import pandas as pd

    checked = read_checked(path)
    if 1 not in checked.lines:
        return None, checked.damages
    texts = dict.fromkeys(("task", "other_task", "matrix", "module"), str)
    numbers = {key: [""] for key in ("layer", "column", "row")}
    try:
        table = pd.read_csv(io.StringIO(checked.text), dtype=texts, keep_default_na=False, na_values=numbers)
    except ValueError as error:
        return None, [*checked.damages, f"{path.name}: {in_short(error)}"]
    if lacking := [column for column in SHARED_COLUMNS if column not in table]:
        return None, [*checked.damages, f"{path.name}: it has no column {', '.join(lacking)}"]
    return table, checked.damages


def read_shared(path: Path) -> pd.DataFrame:
    """The intact rows of the table of shared directions; none where there is no table."""
    import pandas as pd

    table, _ = shared_table(path)
    return pd.DataFrame(columns=list(SHARED_COLUMNS)) if table is None else table


def write_shared(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows to the table of shared directions; of what is there the intact rows stay, to the letter."""
    import pandas as pd

    before = read_checked(path).text if shared_table(path)[0] is not None else ""
    write_summed(
        path, before + pd.DataFrame(redacted(rows)).to_csv(index=False, header=not before, lineterminator="\n")
    )


def _rows(result: Result, folder: Path) -> dict[str, Row]:
    """The matrices' rows as the record has them.

    Raises:
        DamagedRecord: an older version measured them, which recorded nothing about noise and rounding.
    """
    if any(MEASURED_NOW not in row for row in result.matrices.values()):
        raise DamagedRecord(
            f"{folder} was measured by an older version: its matrices have no {MEASURED_NOW}; "
            "type the run's command with force=true"
        )
    return result.matrices


def portable(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as a line keeps it: without places and windows, and only the name of a model's folder."""
    kept: dict[str, Any] = {key: dict(v) if isinstance(v, dict) else v for key, v in config.items()}
    if Path(kept["model"]).is_absolute():
        kept["model"] = Path(kept["model"]).name
    for section, keys in NOT_KEPT.items():
        for key in keys:
            (kept.get(section, {}) if section else kept).pop(key, None)
    return kept


def _rounded(value: Any, digits: int) -> Any:
    """The same with every float to so many significant digits, and null for one that is not finite."""
    if isinstance(value, dict):
        return {key: _rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item, digits) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value


def _text(line: Line) -> str:
    return json.dumps(line, separators=(",", ":"), allow_nan=False)


def checksum(line: Line) -> str:
    """The SHA-256 of a line's content."""
    text = json.dumps(line, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
