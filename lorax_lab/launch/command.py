"""The console command `lorax-lab`: one sub-command for each thing that `python -m` starts."""

from __future__ import annotations

import runpy
import sys

import lorax_lab
from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.record.redact import guard

COMMANDS = {
    "run": ("lorax_lab.run", "train the runs of a command line; what is recorded is not trained again"),
    "figures": ("analysis", "draw figures and tables of what is recorded"),
    "sync": ("lorax_lab.windows sync", "upload recorded runs to Weights & Biases"),
    "dashboard": ("lorax_lab.windows dashboard", "lay out recorded runs in W&B"),
    "audit": ("lorax_lab.audit", "measure the update in an adapter or checkpoint from elsewhere"),
    "card": ("lorax_lab.audit card", "one page about an adapter or checkpoint: its ranks, noise, smallest cut"),
    "export": ("lorax_lab.export", "write a run as a Hugging Face folder with a model card, and push it to the hub"),
    "memory": ("lorax_lab.memory", "predict what a training step will hold"),
    "serve": ("lorax_lab.serve", "serve several adapters on one base, and measure it"),
}
"""Of each sub-command the module that it stands for, with its first argument, and what it does."""
HELP = """\
How low is the rank of the update that fine-tuning makes, and what rank does LoRA need to match it?

usage: lorax-lab COMMAND …

commands:
{commands}

lorax-lab COMMAND --help says what a command takes; lorax-lab --version prints the version.
python -m MODULE does the same; the modules: {modules}
"""


def main() -> None:
    """Hand the command line over to the module of its sub-command, as `python -m` would."""
    guard()
    sys.exit(answer(lambda: _main(sys.argv[1:])))


def _main(typed: list[str]) -> int:
    name, *rest = typed or ["--help"]
    if name in ("--help", "-h"):
        commands = "\n".join(f"  {name:<10}{does}" for name, (_, does) in COMMANDS.items())
        print(HELP.format(commands=commands, modules=", ".join(module for module, _ in COMMANDS.values())))
    elif name == "--version":
        print(f"lorax_lab {lorax_lab.__version__}")
    elif name in COMMANDS:
        module, *first = COMMANDS[name][0].split()
        sys.argv[1:] = [*first, *rest]
        runpy.run_module(module, run_name="__main__")
    else:
        raise ConfigError(f"there is no command {name}; {suggest(name, list(COMMANDS))}")
    return 0


if __name__ == "__main__":
    main()
