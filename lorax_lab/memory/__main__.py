"""`python -m lorax_lab.memory model=llama-2-70b rank=8`: what a training step holds and computes, full and with LoRA.

It also says how many GPUs the step needs. Nothing is trained, and no weight is read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.record.output import guard

if TYPE_CHECKING:
    from lorax_lab.memory.operations import Operations
    from lorax_lab.memory.predict import Prediction
    from lorax_lab.memory.step import Step

HELP = """\
What does a training step hold in memory, how much does it compute, and how many GPUs does it need? The answer is a
table of full fine-tuning beside LoRA.

It is predicted from the shape of the model alone. No weight is read and nothing is trained; a model of 180 billion
parameters takes seconds.

overrides (conf/memory.yaml has their defaults):
  model=minilm           {presets};
                         or the path of a config.json or its folder; or a hub id (org/name), of which only the
                         config.json is fetched
  rank=8                 LoRA's rank; rank=1,8,64 -m puts several side by side
  batch=16 sequence=128  examples, and tokens of each; sequence=null for images
  optimizer=adamw        adamw, sgd (with momentum), adam8bit, lion
  precision=fp32         fp32, bf16 (autocast; LoRA's frozen matrices in bf16), bf16-true (LoRA's factors in fp32)
  attention=flash        flash (keeps no scores), eager (keeps all), sdpa (torch's choice on a CPU)
  checkpointing=false    true keeps only each layer's input and computes the rest again
  head=auto              lm (logits over the vocabulary), classifier; auto: lm for decoders
  target_modules=all-linear, or [q_proj,v_proj]

options:
  -m, --multirun         allow several values of an override
  --tables FOLDER        write the tables of three fixed grids (every preset; one model over batch and sequence; over
                         rank) into FOLDER, which takes minutes; `python -m analysis step FOLDER` draws them

examples:
  python -m lorax_lab.memory model=llama-2-70b rank=8 batch=1 sequence=2048
  python -m lorax_lab.memory model=llama-3.2-1b rank=1,8,64 precision=bf16 -m
  python -m lorax_lab.memory model=qwen3-8b batch=1,4,16 checkpointing=true precision=bf16-true -m
  python -m lorax_lab.memory --tables tables
"""
OPTIONS = ("-m", "--multirun", "-h", "--help", "--tables")


def main(arguments: list[str] | None = None) -> int:
    """Predict and print. Returns the exit code: 0 done, 2 a setting that is not allowed, 130 stopped."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(arguments):
        print(_help())
        return 0
    return answer(lambda: _answer(arguments))


def _answer(arguments: list[str]) -> int:
    for argument in arguments:
        if argument.startswith("-") and argument not in OPTIONS:
            raise ConfigError(f"{argument} is not possible; {suggest(argument, OPTIONS)}")
    if "--tables" in arguments:
        _write_tables(arguments)
    else:
        overrides = [argument for argument in arguments if not argument.startswith("-")]
        _show(overrides, multirun=len(overrides) < len(arguments))
    return 0


def _help() -> str:
    import textwrap

    from lorax_lab.memory.architectures import PRESETS

    names = textwrap.fill(", ".join(PRESETS), 92).replace("\n", "\n" + " " * 25)
    return HELP.replace("{presets}", names)


def _show(overrides: list[str], multirun: bool) -> None:
    from lorax_lab.console import bar
    from lorax_lab.memory.operations import closed_form
    from lorax_lab.memory.overrides import steps
    from lorax_lab.memory.report import show

    asked = list(dict.fromkeys(steps(overrides, multirun)))
    for step in asked:
        step.shape()
    fulls = list(dict.fromkeys(step.full for step in asked))
    predictions: dict[Step, Prediction] = {}
    operations: dict[Step, Operations] = {}
    with bar("predicting") as on_done:
        wanted = list(dict.fromkeys([*fulls, *asked]))
        for number, step in enumerate(wanted):
            on_done(number, len(wanted))
            predictions[step], operations[step] = step.predict(), closed_form(step)
    for full in fulls:
        of_full = (full, *(step for step in asked if step.full == full))
        show(full, {step: predictions[step] for step in of_full}, operations)


def _write_tables(arguments: list[str]) -> None:
    from lorax_lab.console import bar, console
    from lorax_lab.memory.grids import write_tables

    place = arguments.index("--tables") + 1
    folder = arguments[place] if place < len(arguments) else ""
    if not folder or folder.startswith("-") or "=" in folder:
        raise ConfigError("--tables needs the folder that the tables go to; type --tables FOLDER")
    if not os.access(next(path for path in (Path(folder), *Path(folder).absolute().parents) if path.exists()), os.W_OK):
        raise ConfigError(f"--tables {folder} cannot be written; name another folder")
    if os.path.lexists(folder) and not Path(folder).is_dir():
        raise ConfigError(f"--tables {folder} is no folder; name another, as in --tables tables")
    if others := arguments[: place - 1] + arguments[place + 1 :]:
        raise ConfigError(f"{others[0]} is not possible with --tables, whose grids are fixed; leave it out")
    with bar("predicting") as on_done:
        files = write_tables(Path(folder), on_done)
    for path in files:
        console.print(str(path), soft_wrap=True, markup=False, highlight=False)
    console.print(f"for the figures type: python -m analysis step {folder}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    guard()
    sys.exit(main())
