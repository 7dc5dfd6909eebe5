"""`python -m benchmarks [NAME …]`: the ratios, into JSON and README.md."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import time
from pathlib import Path
from typing import Any

from lorax_lab.config.defaults import defaults
from lorax_lab.record.provenance import git, hardware

HERE = Path(__file__).parent
OF_DEFAULTS = ("step", "tokens", "passes", "sweep", "tracking", "workers")
"""Benches that train by the lab's defaults: their results are stale once one of these has changed."""
BENCHES = (
    "step", "tokens", "passes", "sweep", "spectra", "audit", "serving", "memory", "workers", "tracking",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHES)}; all by default")
    parser.add_argument("--rounds", type=int, default=60, help="timed steps of each contender (step)")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in BENCHES]:
        parser.error(f"there is no bench {unknown[0]}; type one or more of {', '.join(BENCHES)}")
    names = arguments.names or BENCHES
    print("\n".join(map(_expected, names)), flush=True)
    for name in names:
        bench, start = importlib.import_module(f"benchmarks.{name}"), time.monotonic()
        result = {"date": time.strftime("%Y-%m-%d"), "hardware": hardware()}
        result |= bench.measure(arguments.rounds) if name == "step" else bench.measure()
        result |= {"commit": git().commit, "took_seconds": round(time.monotonic() - start)}
        result |= {"defaults": defaults_sha256()} if name in OF_DEFAULTS else {}
        _path(name).write_text(json.dumps(result, indent=2) + "\n")
    write_table()


def _path(name: str) -> Path:
    """Where a bench's result is; one of a card has its name, and stands beside the processor's."""
    device = hardware()["device"]
    return HERE / "results" / (f"{name}.json" if device == "cpu" else f"{name}@{device.replace(' ', '-')}.json")


def _expected(name: str) -> str:
    """`sweep: 412 s the last time`."""
    path = _path(name)
    seconds = json.loads(path.read_text()).get("took_seconds") if path.exists() else None
    return f"{name}: {seconds} s the last time" if seconds else f"{name}: minutes to half an hour, never timed"


def defaults_sha256() -> str:
    """The hash of the defaults that a benched run has, the files of `conf/` being what says them."""
    settings = [dict(defaults("movie_reviews", method)) for method in ("full", "lora")]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def write_table() -> None:
    """Replace the part of `README.md` after its marker by the tables of the results there are."""
    readme, marker = HERE / "README.md", "<!-- results -->"
    lines = []
    for path in sorted((HERE / "results").glob("*.json")):
        result = json.loads(path.read_text())
        machine = result["hardware"]
        lines += [f"### {result['title']}", ""]
        made = f"{result['date']}, commit {(result.get('commit') or 'not noted')[:9]}"
        is_stale = path.stem.partition("@")[0] in OF_DEFAULTS and result.get("defaults") != defaults_sha256()
        stale = " **Stale**: defaults of a run have changed since." if is_stale else ""
        lines += [f"{_named(machine)}, {machine['processors']} cores, {machine['threads']} threads, {made}.{stale}"]
        lines += ["", *_table(result["rows"]), "", result["note"], ""]
    head = readme.read_text().split(marker)[0]
    readme.write_text(head + marker + "\n\n" + "\n".join(lines))


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Rows with the same numbers are one. A spread or an aim that is the same in all rows is in the note."""
    columns = ["ratio", *(name for name in ("spread", "aim") if len({row[name] for row in rows}) > 1)]
    named: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        cells = tuple(_ratio(row[name]) if name == "ratio" else row[name] for name in columns)
        named.setdefault(cells, []).append(row["what"])
    lines = [f"| {' | '.join((', '.join(names), *cells))} |" for cells, names in named.items()]
    return [f"| what | {' | '.join(columns)} |", f"|{'---|' * (1 + len(columns))}", *lines]


def _named(machine: dict[str, Any]) -> str:
    """The accelerator, or the processor with its instruction set and BLAS; results of before these name neither."""
    if machine["device"] != "cpu":
        return str(machine["device"])
    return (
        " · ".join(str(machine[key]) for key in ("processor", "instruction_set", "blas") if machine.get(key)) or "cpu"
    )


def _ratio(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"


if __name__ == "__main__":
    main()
