"""Published runs: what a study commits of each run, primary data alone.

A study's folder has `runs.parquet` (a row for each run: configuration, environment, scores, answers),
`matrices.parquet` (a row for each matrix: its singular values and what needs the weights) and `cuts.parquet` (a row for
each cut of a full update). What was measured of its final runs afterwards stands in further tables, `<name>.parquet`,
each of which says which runs of each condition were measured.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lorax_lab.config.defaults import flat
from lorax_lab.config.identity import portable
from lorax_lab.record import direction, measures
from lorax_lab.record.folder import OUTPUTS, load_arrays, load_spectra
from lorax_lab.record.record import read_record
from lorax_lab.record.redact import redacted
from lorax_lab.record.result import Matrix, Result
from lorax_lab.spectra import Row
from lorax_lab.study.answers import OF_CUTS, Line, answers_of, with_groups
from lorax_lab.study.tables import nested, read_about, read_table, write_table

RUNS, MATRICES, CUTS = "runs.parquet", "matrices.parquet", "cuts.parquet"
"""The tables of a study."""
COPIED = ("run_id", "status", "written", "reason", "code", "git", "versions", "hardware")
COPIED_COMPLETED = ("inputs", "parameters", "time", "metric", "metrics", "baselines", "collapsed")
COLLAPSED = "collapsed"
"""The key of the reasons why a run counts as collapsed; a run has it only if there are any."""
SERIES = {"update": "matrices", "gaussian": "gaussian"}
"""A line's key of each series of matrices: the updates, and the Gaussian matrices that stood in for them."""
SHARED = "shared.parquet"
"""The table of the directions that full fine-tunes of early studies share."""
HEADS = "converged_heads.parquet"
"""The table, beside the studies, of a head alone for each condition of them, trained to convergence."""
NOT_AFTERWARDS = (RUNS, MATRICES, CUTS, SHARED)
RECORDED = "recorded"
"""What columns begin with that hold measures of matrices whose singular values were not published: there they are
primary."""
NULLS, EDGE = "nulls", "rounding_edge"
AS_PUBLISHED = ("module", "layer", "base_norm", "sigma")
EPS_FP32 = 2.0**-23
"""Of the weights of runs that were published without it."""
NOT_RECORDED = {"module", "layer", "shape", "null", "nulls", "captured", "undefined", "untrusted", "base_norm"}
NOT_RECORDED |= {"relative_norm", "rounding_edge", "rounding_share", "spectral_norm", "noise_edge"}
"""What follows from the rest of a row, or is kept under a name of its own."""


def line_of(folder: Path) -> Line:
    """One run's line.

    Raises:
        FileNotFoundError: there is no record. DamagedRecord: it, or one of its arrays, is not what was written.
    """
    record = read_record(folder)
    parts = asdict(record)
    line: Line = {key: parts[key] for key in COPIED if parts[key] is not None} | {"config": portable(record.config)}
    line |= {"method": record.method, "rank": record.rank, "seed": record.seed}
    result = record.result
    if result is None:
        return line
    values = parts["result"]
    line |= {key: values[key] for key in COPIED_COMPLETED if values[key] or key in ("metrics", "metric")}
    line["memory"] = {key: values["memory"][key] for key in ("peak_bytes", "phase", "batch_shape", "by_category")}
    line |= {} if result.higher_is_better else {direction.KEY: False}
    return line | _of_update(folder, result) if result.matrices else line


def _of_update(folder: Path, result: Result) -> Line:
    """What a final run's line has besides: its answers, its matrices and its cuts."""
    spectra, outputs = load_spectra(folder), load_arrays(folder, OUTPUTS)
    rows, drawn = measures.rows(folder), measures.stand_in_rows(folder)
    line: Line = answers_of(outputs.pop("test"), outputs)
    line["matrices"] = {
        name: Measured(_facts(matrix, rows[name]) | {"sigma": spectra[name]["sigma"].astype(np.float32)})
        for name, matrix in result.matrices.items()
    }
    if drawn:
        line["gaussian"] = {}
        for name, row in drawn.items():  # no singular values of it are published: its measures stand for them
            recorded = {f"{RECORDED}.{key}": value for key, value in row.items() if key not in NOT_RECORDED}
            line["gaussian"][name] = Measured(_place(result.matrices[name]) | recorded)
    if result.truncation is not None:
        line["functional"] = [(r["part"], r["k"], r.get("module"), r[result.metric]) for r in result.truncation]
    return line


def _place(matrix: Matrix) -> Row:
    place: Row = {"module": matrix.module, "layer": matrix.layer, "out": matrix.shape[0], "in": matrix.shape[1]}
    return place | {"base_norm": matrix.base_norm, "product_rank": matrix.rank}


def _facts(matrix: Matrix, row: Row) -> Row:
    """What of a matrix does not follow from its singular values."""
    facts = _place(matrix)
    if matrix.rounding:
        facts |= {f"rounding_{key}": value for key, value in asdict(matrix.rounding).items()}
    facts |= flat({"captured": asdict(matrix.captured)}) if matrix.captured else {}
    return facts | flat({"nulls": row.get("nulls", {})})


def write_lines(folder: Path, lines: Iterable[Line]) -> None:
    """Write a study's runs, sorted by name; the same runs give the same bytes."""
    ordered = sorted(lines, key=lambda line: str(line["run_id"]))
    write_table(folder / RUNS, [_run_row(line) for line in ordered])
    write_table(folder / MATRICES, [row for line in ordered for row in _matrix_rows(line)])
    write_table(folder / CUTS, [row for line in ordered for row in _cut_rows(line)])


def _run_row(line: Line) -> Row:
    """All that is said of a run as a whole. Its texts, such as a reason, hold no secrets. Its configuration is JSON: a
    setting of null is another than one that there was not yet."""
    left_out = (*SERIES.values(), *OF_CUTS.values(), "functional", "method", "rank", "seed")
    parts = {key: value for key, value in line.items() if key not in left_out}
    arrays = {key: value for key, value in parts.items() if isinstance(value, np.ndarray)}
    shown = redacted({key: value for key, value in parts.items() if key not in arrays})
    return flat(shown | {"config": json.dumps(shown["config"], ensure_ascii=False)}) | arrays


def _matrix_rows(line: Line) -> Iterator[Row]:
    for series, key in SERIES.items():
        for name, matrix in (line.get(key) or {}).items():
            yield {"run_id": line["run_id"], "series": series, "matrix": name} | matrix.facts


def _cut_rows(line: Line) -> Iterator[Row]:
    """The cuts with a score on validation, then those that answered on test alone, and what has no cut."""
    scored = list(line.get("functional", ()))
    answered = dict.fromkeys(place for key in OF_CUTS.values() for place in line.get(key, {}))
    on_test_alone = answered.keys() - {(part, k) for part, k, module, _ in scored if module is None}
    unscored = [(*place, None, None) for place in answered if place in on_test_alone]
    for part, k, module, score in (*scored, *unscored):
        row = {"run_id": line["run_id"], "part": part, "k": k, "module": module, "score": score}
        if module is None:
            row |= {name: line.get(key, {}).get((part, k)) for name, key in OF_CUTS.items()}
        yield row


def read_lines(folder: Path) -> list[Line]:
    """A study's runs; none where there are none yet.

    Raises:
        OSError, ValueError, KeyError: a table cannot be read.
    """
    if not (folder / RUNS).is_file():
        return []
    lines = {row["run_id"]: _line(row) for row in read_table(folder / RUNS)}
    for row in read_table(folder / MATRICES):
        run, series, name = (row.pop(key) for key in ("run_id", "series", "matrix"))
        lines[run].setdefault(SERIES[series], {})[name] = Measured(row)
    for row in read_table(folder / CUTS):
        line, place = lines[row["run_id"]], (row["part"], row["k"])
        if row.get("score") is not None:
            line.setdefault("functional", []).append((*place, row.get("module"), row.get("score")))
        for name, key in OF_CUTS.items():
            if name in row:
                line.setdefault(key, {})[place] = row[name]
    return with_groups(lines.values())


def _line(row: Row) -> Line:
    config = json.loads(row["config"])
    identity = {"method": config["method"]["name"], "rank": config["rank"], "seed": config["seed"]}
    return nested(row) | {"config": config} | identity


@dataclass
class Afterwards:
    """The rows of one condition, and the ids of the runs that were measured."""

    runs: list[str]
    rows: list[Row] = field(default_factory=list)


def names_of(folder: Path) -> list[str]:
    """The names of the rows that a study's folder has."""
    return sorted(path.stem for path in folder.glob("[!.]*.parquet") if path.name not in NOT_AFTERWARDS)


def read_rows(folder: Path, name: str) -> dict[str, Afterwards]:
    """The rows of each condition; none where there is no such table.

    Raises:
        OSError, ValueError: the table cannot be read.
    """
    path = folder / f"{name}.parquet"
    if not path.is_file():
        return {}
    conditions = {condition: Afterwards(runs) for condition, runs in read_about(path)["runs"].items()}
    for row in map(nested, read_table(path)):
        conditions[row["condition"]].rows.append({"layer": None} | row if "matrix" in row else row)
    return conditions


def write_rows(folder: Path, name: str, conditions: Mapping[str, Afterwards]) -> None:
    """Write the rows of all conditions."""
    rows = [flat({"condition": condition} | row) for condition, measured in conditions.items() for row in measured.rows]
    runs = {condition: measured.runs for condition, measured in conditions.items()}
    write_table(folder / f"{name}.parquet", rows, {"runs": runs})


# ---- measures, derived from what is published


class Measured(Mapping[str, Any]):
    """The row of one matrix, from the `facts` that are published of it: its place in the model, what was observed, and
    every measure, derived when it is asked for; None where a measure has no value."""

    def __init__(self, facts: Row) -> None:
        self.facts = facts

    def __getitem__(self, key: str) -> Any:
        if key == "shape":  # what is published is read without deriving a measure
            return [self.facts["out"], self.facts["in"]]
        return self.facts.get(key) if key in AS_PUBLISHED else self._row.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._row

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)

    @cached_property
    def _row(self) -> Row:
        facts = self.facts
        row = {"shape": self["shape"], "module": facts["module"], "layer": facts.get("layer")}
        row |= {key: part for key, part in nested(facts).items() if key in (NULLS, "captured")} | _measures(facts)
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}


def _measures(facts: Row) -> Row:
    import torch

    from lorax_lab.spectra import Rounding, row_of

    shape, base_norm = (facts["out"], facts["in"]), facts.get("base_norm", math.nan)
    if "sigma" not in facts:
        return _of_recorded(facts, shape, base_norm)
    rounding = None
    if EDGE in facts:
        rounding = Rounding(facts.get("rounding_eps", EPS_FP32), facts[EDGE], facts.get("rounding_energy", math.nan))
    sigma = torch.from_numpy(facts["sigma"].astype(float))
    row = row_of(sigma, shape, base_norm, facts.get("product_rank"), rounding)
    return row if "rounding_energy" in facts else {key: value for key, value in row.items() if key != "rounding_share"}


def _of_recorded(facts: Row, shape: tuple[int, int], base_norm: float) -> Row:
    """The measures of a matrix whose singular values were not published."""
    from lorax_lab.spectra import gaussian_null, noise_ceiling

    row = nested(facts).get(RECORDED, {}) | {key: facts[key] for key in (EDGE,) if key in facts}
    norm, stable = row["frobenius_norm"], row.get("stable_rank")
    row |= {"spectral_norm": norm / math.sqrt(stable) if stable else 0.0}  # ‖ΔW‖²_F / σ_1² is the stable rank
    row |= {"noise_edge": noise_ceiling(shape, row["noise_std"])} if "noise_std" in row else {}
    row |= {"base_norm": base_norm, "relative_norm": norm / base_norm if base_norm else math.nan}
    reasons = ([] if norm else ["ΔW is zero"]) + ([] if base_norm else ["W0 is zero"])
    row |= {"undefined": " and ".join(reasons)} if reasons else {}
    return row | {"null": gaussian_null(shape, facts.get("product_rank"))}
