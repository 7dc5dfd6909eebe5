"""`python -m benchmarks [NAME …]`: the ratios, into JSON and README.md."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BENCHES = (
    "step", "sweep", "spectra", "audit", "serving", "memory", "workers", "tracking",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHES)}; all by default")
    parser.add_argument("--rounds", type=int, default=60, help="timed steps of each contender (step)")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in BENCHES]:
        parser.error(f"there is no bench {unknown[0]}; type one or more of {', '.join(BENCHES)}")
    for name in arguments.names or BENCHES:
        bench = importlib.import_module(f"benchmarks.{name}")
        result = bench.measure(arguments.rounds) if name == "step" else bench.measure()
        (HERE / "results" / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    write_table()


def write_table() -> None:
    """Replace the part of `README.md` after its marker by the tables of the results there are."""
    readme, marker = HERE / "README.md", "<!-- results -->"
    lines = []
    for path in sorted((HERE / "results").glob("*.json")):
        result = json.loads(path.read_text())
        machine = result["hardware"]
        lines += [f"### {result['title']}", ""]
        lines += [f"{_named(machine)}, {machine['processors']} cores, {machine['threads']} threads, {result['date']}."]
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
