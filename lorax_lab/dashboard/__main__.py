"""`python -m lorax_lab.dashboard`: a workspace and a report of W&B for the recorded runs; `--local`: Trackio's page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lorax_lab.config.checks import require_file_name, require_name
from lorax_lab.dashboard import pages, shown
from lorax_lab.errors import ConfigError, answer
from lorax_lab.record.output import guard

RUNS, PROJECT, OUT, PORT = Path("runs"), "lorax_lab", Path("dashboard"), 7860
EPILOG = """\
It lays panels over what the runs show in Weights & Biases: score against rank with full fine-tuning as a line, score
against parameters, truncation curves, effective rank as a share of noise's, spectra, memory by category, learning
curves. The same command saves the same dashboards again. Without a login, or with WANDB_MODE=offline, they are
written as JSON and not sent.

  python -m lorax_lab.dashboard
  python -m lorax_lab.dashboard --study rank_sweep_2
  python -m lorax_lab.dashboard --local

The verdict and the figures of a study are read from docs/study, where `python -m analysis study` puts them. --local
serves on this machine alone what runs with tracking=trackio showed; it needs no login, no network, and trackio:
`pip install lorax_lab[trackio]`.
"""


def main(arguments: list[str] | None = None) -> int:
    """Lay out, write, save. Returns the exit code: 0 done, 1 W&B could not be reached, 2 a wrong input, 130 stopped."""
    options = _parser().parse_args(arguments)
    return answer(lambda: _serve(options) if options.local else _dashboards(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lorax_lab.dashboard",
        description="Dashboards of recorded runs: a workspace and a report of W&B, or a page on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--project", default=PROJECT, metavar="P", help=f"the project of the runs ({PROJECT})")
    parser.add_argument("--entity", metavar="NAME", help="the user or team that owns it (the login's own)")
    several = "a study's verdict, figures and runs; may be given several times"
    parser.add_argument("--study", action="append", default=[], metavar="S", help=several)
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the records are (runs)")
    pages_of = "where the studies' pages and figures are (docs/study)"
    parser.add_argument("--pages", type=Path, default=pages.FOLDER, metavar="FOLDER", help=pages_of)
    parser.add_argument("--out", type=Path, default=OUT, help="where the JSON goes (dashboard)")
    parser.add_argument("--local", action="store_true", help="serve Trackio's page of the runs on this machine")
    parser.add_argument("--port", type=int, default=None, help=f"of --local ({PORT}, or the next that is free)")
    return parser


def _dashboards(options: argparse.Namespace) -> int:
    require_name("--project", options.project)
    require_name("--entity", options.entity, optional=True)
    if options.port is not None:
        raise ConfigError(f"--port {options.port} is of the page on this machine; type --local --port {PORT}")
    studies = [pages.read(options.pages, study) for study in dict.fromkeys(options.study)]
    of_runs = shown.of(options.runs, options.study)
    for study in studies:
        if study.name not in of_runs.studies:
            print(f"no run in {options.runs} says that it is of {study.name}: the panels of its runs may show nothing")

    from lorax_lab.dashboard import layout, save

    place = layout.Place(options.project, options.entity or "")
    written = save.write(options.out, layout.workspace(place, of_runs, studies), layout.report(place, of_runs, studies))
    print(*written, sep="\n", flush=True)
    if why := save.why_not():
        print(why)
        return 0
    if reason := save.save(options.out, place, studies):
        print(f"error: W&B did not save them ({reason}); the same command tries again", file=sys.stderr)
        return 1
    return 0


def _serve(options: argparse.Namespace) -> int:
    from lorax_lab.dashboard import local

    require_name("--project", options.project)
    require_file_name("--project", options.project)
    for key, default in (("study", []), ("entity", None), ("out", OUT), ("pages", pages.FOLDER)):
        if getattr(options, key) != default:
            raise ConfigError(f"--{key} is of the dashboards of W&B, not of the page on this machine; leave it out")
    return local.serve(options.runs, options.project, options.port)


if __name__ == "__main__":
    guard()
    sys.exit(main())
