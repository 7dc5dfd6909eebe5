"""`python -m lorax_lab.serve RUN RUN …`: the adapters of several runs on one base, proved equal and measured."""

import argparse
import json
import sys
from pathlib import Path

from lorax_lab.errors import answer
from lorax_lab.record.redact import guard

RESULTS = "serving.json"
HELP = """\
Serve many tasks from one base, which is held once. Every answer on every test split, with the adapters exchanged and
merged, is compared with that of the adapter alone. Measured are bytes, and seconds of switches and requests.
"""
EXAMPLES = """\
first train one LoRA for each task, then serve them:
  python -m lorax_lab.run task=tweets,sarcasm rank=8 reference=false -m
  python -m lorax_lab.serve runs/minilm-*-lora-r8-s0-*
"""


def main(arguments: list[str] | None = None) -> int:
    """Serve, print, write. Returns the exit code: 0 all answers are equal, 1 one differs, 2 a wrong input."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m lorax_lab.serve", None, HELP, EXAMPLES, formatter_class=form)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="the folder of a run of method=lora")
    parser.add_argument("--out", type=Path, default=Path("serving"), metavar="FOLDER", help="where serving.json goes")
    options = parser.parse_args(arguments)
    return answer(lambda: _answer(options.runs, options.out))


def _answer(runs: list[Path], folder: Path) -> int:
    from omegaconf import OmegaConf

    from lorax_lab.console import console
    from lorax_lab.record.files import write_text
    from lorax_lab.record.provenance import hardware
    from lorax_lab.serve.prove import costs, open_served, prove

    served = open_served(list(dict.fromkeys(run.absolute() for run in runs)))
    configs = served.configs
    facts = {"hardware": hardware(), "model": next(iter(configs.values())).model}
    facts |= {f"{key}s": {name: getattr(one, key) for name, one in configs.items()} for key in ("rank", "seed")}
    results = facts | prove(served) | costs(served)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / RESULTS, json.dumps(results, indent=1, allow_nan=False) + "\n")
    console.print(OmegaConf.to_yaml(results), markup=False)
    verdict = "Equal: every answer is the same" if results["equal"] else "NOT EQUAL: an answer differs, or the base"
    console.print(f"{verdict}, alone, exchanged and merged.", markup=False)
    console.print(f"in {folder}: {RESULTS}", soft_wrap=True)
    return 0 if results["equal"] else 1


if __name__ == "__main__":
    guard()
    sys.exit(main())
