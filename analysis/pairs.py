"""`python -m analysis pairs train.precision`: what one setting changes, by pairs of runs that differ in it alone.

Two runs are a pair if every other setting that decides a result is the same, the seed among them. Each number is
compared within pairs, and the mean difference over seeds has Student's 95 % interval. Nothing is trained.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.record import variation
from lorax_lab.record.direction import oriented
from lorax_lab.record.files import write_csv
from lorax_lab.record.folder import OUTPUTS
from lorax_lab.record.measures import means
from lorax_lab.record.record import Record, scan
from lorax_lab.record.variation import SEED, Settings
from lorax_lab.study.answers import log_losses_of

from .gaps import unlike
from .groups import RUNS, settings_of
from .study.statistics import t_interval

CLOSE = 0.01
"""k* here is the smallest k at which the truncated update's validation score is at most this much worse."""
COLUMNS = ("setting", "against", "runs", "what", "before", "after", "difference", "low", "high", "pairs")


def main(arguments: list[str] | None = None) -> int:
    """Print the table, and write it. Returns the exit code: 0, or 2 where there is nothing to compare."""
    parser = argparse.ArgumentParser(prog="python -m analysis pairs", description=__doc__)
    parser.add_argument("key", metavar="KEY", help="the setting, such as train.precision")
    parser.add_argument("--base", metavar="VALUE", help="the value that the others are compared with (the first)")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the records are (runs)")
    parser.add_argument("--out", type=Path, help="a CSV file for the table")
    options = parser.parse_args(arguments)
    return answer(lambda: _main(options))


def _main(options: argparse.Namespace) -> int:
    scanned, damages = scan(options.runs)
    for damage in damages:
        print(f"left out: {damage.reason}")
    records = {folder: record for folder, record in scanned.items() if record.result}
    if not records:
        raise ConfigError(f"there is no completed run in {options.runs}; name a folder, as in --runs runs")
    table = compare(records, options.key, options.base)
    for (setting, against, runs), part in table.groupby(["setting", "against", "runs"], sort=False):
        print(f"{options.key}={setting} against {against}, {runs}")
        for row in part.to_dict("records"):
            values = f"{row['before']:.5g} became {row['after']:.5g}: {row['difference']:+.3g}"
            interval = f"[{row['low']:+.3g}, {row['high']:+.3g}], {row['pairs']} pairs"
            print(f"  {row['what']:<32}{values} {interval if row['pairs'] > 1 else '(one pair)'}")
    if alone := table.attrs["alone"]:
        print(f"runs without a partner, left out: {alone}")
    if differing := unlike({record.run_id: record for record in records.values()}):
        print(f"made by unlike versions of {', '.join(differing)}")
    if options.out:
        write_csv(options.out, table)
        print(options.out)
    return 0


def compare(records: dict[Path, Record], key: str, base: str | None = None) -> pd.DataFrame:
    """A row of `COLUMNS` for each value of the setting, each arm, and each number that both runs of its pairs have.
    `attrs["alone"]` says how many runs have no partner.

    Args:
        records: completed runs by their folders.
        key: a setting, dotted, as on the command line.
        base: its value, as typed, that the others are compared with; by default the first in order.

    Raises:
        ConfigError: a setting that no pair differs in, or a value that no run has.
    """
    cells: dict[str, dict[str, tuple[Settings, dict[str, float]]]] = {}
    for folder, record in records.items():
        rest = settings_of(record) | {"measure": record.config.get("measure")}
        level = variation.text(rest.pop(key, None))
        cells.setdefault(json.dumps(rest, sort_keys=True), {})[level] = rest, numbers(folder, record)
    paired = [cell for cell in cells.values() if len(cell) > 1]
    if not paired:
        dials = variation.dials([settings_of(record) for record in records.values()])
        raise ConfigError(f"no two runs differ in {key} alone; settings that differ here: {', '.join(dials) or 'none'}")
    levels = sorted({level for cell in paired for level in cell}, key=_order)
    first = levels[0] if base is None else base
    if first not in levels:
        raise ConfigError(f"--base {base} is no value of {key} here; {suggest(str(base), levels)}")
    rows = [row for level in levels if level != first for row in _rows(paired, first, level)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.attrs["alone"] = len(cells) - len(paired)
    return table


def _order(level: str) -> tuple[float, str]:
    """Numbers by size, then words."""
    try:
        return float(level), ""
    except ValueError:
        return math.inf, level


def _rows(paired: Sequence[Any], first: str, level: str) -> Iterator[dict[str, Any]]:
    both = [(cell[first], cell[level]) for cell in paired if first in cell and level in cell]
    dials = variation.dials([settings for (settings, _), _ in both])
    arms: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {}
    labels = variation.labels([settings for (settings, _), _ in both], dict.fromkeys(("method.name", "rank", *dials)))
    for ((_, before), (_, after)), label in zip(both, labels, strict=True):
        words = [f"{key.removesuffix('.name')}={value}" for key, value in label.items() if value and key != SEED]
        arms.setdefault(" ".join(words), []).append((before, after))
    for arm, pairs in arms.items():
        for name in (name for name in pairs[0][0] if all(name in before and name in after for before, after in pairs)):
            change = t_interval([after[name] - before[name] for before, after in pairs])
            means = [float(np.mean([numbers[name] for numbers in side])) for side in zip(*pairs, strict=True)]
            values = (level, first, arm, name, *means, change.mean, change.low, change.high, len(pairs))
            yield dict(zip(COLUMNS, values, strict=True))


def numbers(folder: Path, record: Record) -> dict[str, float]:
    """What is compared of a completed run: its scores, its test log loss where it classifies, the means over matrices
    of its measures, k*, and its seconds."""
    result = record.completed
    compared = {name: value for name, value in result.metrics.items() if isinstance(value, float)}
    compared |= _log_loss(folder / OUTPUTS)
    compared |= {key: value for key, value in means(folder).items() if isinstance(value, float)}
    cuts = [row for row in result.truncation or [] if row["part"] == "cut" and row.get("module") is None]
    if cuts:
        scores = {row["k"]: oriented(row[result.metric], result.higher_is_better) for row in cuts}
        compared["k*"] = float(min(k for k, score in scores.items() if score >= scores[max(scores)] - CLOSE - 1e-9))
    compared["seconds"] = result.time.total_seconds
    return {name: value for name, value in compared.items() if math.isfinite(value)}


def _log_loss(path: Path) -> dict[str, float]:
    """The mean of −log p of the true class on test, of what classifies into classes of whole numbers."""
    if not path.is_file():
        return {}
    with np.load(path) as arrays:
        losses = log_losses_of({part: arrays[f"test/{part}"] for part in ("outputs", "labels")})
    return {} if losses is None else {"test/log_loss": float(losses.mean())}
