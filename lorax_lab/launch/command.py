"""The console command `lorax-lab`: one sub-command for each thing that `python -m` starts."""

from __future__ import annotations

import os
import runpy
import sys
from dataclasses import dataclass

import lorax_lab
from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.record.redact import guard


@dataclass(frozen=True)
class Command:
    """A sub-command: the module that it stands for, and its first arguments."""

    does: str
    module: str
    arguments: tuple[str, ...] = ()


COMMANDS = {
    "run": Command("train the runs of a command line; what is recorded is not trained again", "lorax_lab.run"),
    "figures": Command("draw figures and tables of what is recorded", "analysis"),
    "sync": Command("upload recorded runs to Weights & Biases", "lorax_lab.windows", ("sync",)),
    "dashboard": Command(
        "lay out recorded runs in W&B, or serve them on this machine", "lorax_lab.windows", ("dashboard",)
    ),
    "audit": Command("measure the update in an adapter or checkpoint from elsewhere", "lorax_lab.audit"),
    "card": Command(
        "one page about an adapter or checkpoint: its ranks, noise, smallest cut", "lorax_lab.audit", ("card",)
    ),
    "memory": Command("predict what a training step will hold", "lorax_lab.memory"),
    "serve": Command("serve several adapters on one base, and measure it", "lorax_lab.serve"),
}
HELP = """\
How low is the rank of the update that fine-tuning makes, and what rank does LoRA need to match it?

usage: lorax-lab COMMAND …

commands:
{commands}

lorax-lab COMMAND --help says what a command takes; lorax-lab --version prints the version.
python -m MODULE does the same; the modules: {modules}
"""
COMPLETION = ("--shell-completion", "-sc")


def main() -> None:
    """Hand the command line over to the module of its sub-command, as `python -m` would."""
    guard()
    sys.exit(answer(lambda: _main(sys.argv[1:])))


def _main(typed: list[str]) -> int:
    name, *rest = typed or ["--help"]
    if name in ("--help", "-h"):
        commands = "\n".join(f"  {name:<10}{command.does}" for name, command in COMMANDS.items())
        print(HELP.format(commands=commands, modules=", ".join(command.module for command in COMMANDS.values())))
        return 0
    if name == "--version":
        print(f"lorax_lab {lorax_lab.__version__}")
        return 0
    if name in COMPLETION:
        return _complete(typed)
    if name not in COMMANDS:
        raise ConfigError(f"there is no command {name}; {suggest(name, list(COMMANDS))}")
    _hand_over(COMMANDS[name], rest)
    return 0


def _hand_over(command: Command, rest: list[str]) -> None:
    sys.argv[1:] = [*command.arguments, *rest]
    runpy.run_module(command.module, run_name="__main__")


def _complete(typed: list[str]) -> int:
    """Shell completion: names of commands first; after `run`, what Hydra proposes for an override."""
    parts = os.environ.get("COMP_LINE", "").split(" ")
    if typed[-1].startswith("query=") and len(parts) < 3:
        print(" ".join(COMMANDS))
        return 0
    if typed[-1].startswith("query=") and parts[1] != "run":
        return 0
    os.environ["COMP_LINE"] = " ".join([parts[0], *parts[2:]])  # Hydra knows no sub-commands
    _hand_over(COMMANDS["run"], typed)
    return 0


if __name__ == "__main__":
    main()
