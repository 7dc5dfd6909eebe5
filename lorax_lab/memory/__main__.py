"""`python -m lorax_lab.memory model=llama-2-70b rank=8`: what a training step takes, fully and with LoRA, and on what
cards it fits. Nothing is trained, and no weight is read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lorax_lab.errors import ConfigError, answer, suggest

if TYPE_CHECKING:
    from lorax_lab.memory.operations import Operations
    from lorax_lab.memory.predict import Prediction
    from lorax_lab.memory.step import Step

HELP = """\
What does a training step take, full fine-tuning beside LoRA, how much does it compute, and on what cards does it fit?

It is predicted from the shape of the model alone: no weight is read, nothing is trained, seconds for 180 billion
parameters.

settings (conf/memory.yaml has their defaults):
  model=minilm           {presets};
                         the path of a config.json or its folder; or a hub id (org/name), its config.json alone
  rank=8                 LoRA's rank; rank=1,8,64 -m puts several side by side
  batch=16 sequence=128  examples, and tokens of each; sequence=null for images
  optimizer=adamw        adamw, sgd (with momentum), adam8bit, lion
  precision=fp32         fp32, bf16 (autocast over fp32 weights), bf16-true (LoRA's factors stay fp32)
  attention=flash        flash (keeps no scores), eager (keeps all), sdpa (torch's choice on a CPU)
  checkpointing=false    keep each layer's input only, compute the rest again
  head=auto              lm (logits over the vocabulary), classifier; auto: lm for decoders
  target_modules=all-linear, or [q_proj,v_proj]

examples:
  python -m lorax_lab.memory model=llama-2-70b rank=8 batch=1 sequence=2048
  python -m lorax_lab.memory model=llama-3.2-1b rank=1,8,64 precision=bf16 -m
  python -m lorax_lab.memory model=qwen3-8b batch=1,4,16 checkpointing=true precision=bf16-true -m
  python -m lorax_lab.memory --figures     all presets, and one over batch, sequence and rank: minutes, into figures/
"""
FLAGS = ("-m", "--multirun", "-h", "--help", "--figures")
FIGURES = "figures"


def main(words: list[str] | None = None) -> int:
    """Predict and print. Returns the exit code: 0 done, 2 a setting that cannot be, 130 stopped."""
    words = sys.argv[1:] if words is None else words
    flags = [word for word in words if word.startswith("-")]
    if {"-h", "--help"} & set(flags):
        print(_help())
        return 0
    return answer(lambda: _answer([word for word in words if word not in flags], flags))


def _answer(settings: list[str], flags: list[str]) -> int:
    for flag in flags:
        if flag not in FLAGS:
            raise ConfigError(f"{flag} is not possible; {suggest(flag, FLAGS)}")
    if "--figures" in flags:
        _draw(settings + [flag for flag in flags if flag != "--figures"])
    else:
        _show(settings, bool(flags))
    return 0


def _help() -> str:
    import textwrap

    from lorax_lab.memory.architectures import PRESETS

    names = textwrap.fill(", ".join(PRESETS), 92).replace("\n", "\n" + " " * 25)
    return HELP.replace("{presets}", names)


def _show(words: list[str], multirun: bool) -> None:
    from lorax_lab.console import bar
    from lorax_lab.memory.operations import closed_form
    from lorax_lab.memory.overrides import steps
    from lorax_lab.memory.report import show

    asked = steps(words, multirun)
    for step in asked:
        step.shape()
    tables = list(dict.fromkeys(step.full for step in asked))
    found: dict[Step, Prediction] = {}
    operations: dict[Step, Operations] = {}
    with bar("predicting") as on_done:
        wanted = list(dict.fromkeys([*tables, *asked]))
        for number, step in enumerate(wanted):
            on_done(number, len(wanted))
            found[step], operations[step] = step.predict(), closed_form(step)
    for full in tables:
        ranks = [step for step in dict.fromkeys(asked) if step.full == full]
        show(full, {step: found[step] for step in (full, *ranks)}, operations)


def _draw(others: list[str]) -> None:
    from analysis import step as figures
    from lorax_lab.console import bar, console
    from lorax_lab.memory.study import STUDIES, predictions

    if others:
        raise ConfigError(f"{others[0]} is not possible with --figures, whose steps are fixed; leave it out")
    wanted = {name: steps() for name, steps in STUDIES.items()}
    with bar("predicting") as on_done:
        found = predictions([step for steps in wanted.values() for step in steps], on_done)
    tables, start = {}, 0
    for name, steps in wanted.items():
        tables[name] = found.iloc[start : start + len(steps)].reset_index(drop=True)
        start += len(steps)
    for line in figures.draw_all(tables, Path(FIGURES)):
        console.print(f"{FIGURES}/{line}", soft_wrap=True, markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
