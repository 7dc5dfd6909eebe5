"""`python -m lorax_lab.memory model=llama-2-70b rank=8`: what a training step holds, full and with LoRA.

It also says how many GPUs the step needs. Nothing is trained, and no weight is read.
"""

from __future__ import annotations

import itertools
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.record.redact import guard

if TYPE_CHECKING:
    from rich.table import Table

    from lorax_lab.memory.predict import Prediction, Step

HELP = """\
What does a training step hold in memory, and how many GPUs does it need? The answer is a table of full fine-tuning
beside LoRA.

It is predicted from the shape of the model alone. No weight is read and nothing is trained; a model of 180 billion
parameters takes a minute.

overrides (conf/memory.yaml has their defaults; several values, separated by commas, are shown side by side):
  model=minilm           {presets};
                         or the path of a config.json or its folder; or a hub id (org/name), of which only the
                         config.json is fetched
  rank=8                 LoRA's rank
  batch=16 sequence=128  examples, and tokens of each; sequence=null for images
  optimizer=adamw        adamw, sgd (with momentum), muon
  precision=fp32         fp32, bf16 (autocast; LoRA's frozen matrices in bf16), bf16-true (LoRA's factors in fp32),
                         nf4 (as bf16-true, but LoRA's frozen matrices in 4 bits, as QLoRA has them)
  attention=flash        flash (keeps no scores), eager (keeps all), sdpa (torch's choice on a CPU)
  checkpointing=false    true keeps only each layer's input and computes the rest again
  head=auto              lm (logits over the vocabulary), classifier; auto: lm for decoders
  target_modules=all-linear, or [q_proj,v_proj]

examples:
  python -m lorax_lab.memory model=llama-2-70b rank=8 batch=1 sequence=2048
  python -m lorax_lab.memory model=llama-3.2-1b rank=1,8,64 precision=bf16
  python -m lorax_lab.memory model=llama-3-8b rank=16 batch=1 sequence=2048 precision=nf4 checkpointing=true
"""
NOTE = """\
Memory is that at the peak of one step; the checkpoint holds the trained weights. On several GPUs weights, gradients
and optimizer states are sharded (ZeRO 3) and each GPU has its own batch; driver and gaps take 1 GiB of each GPU."""


def main(arguments: list[str] | None = None) -> int:
    """Predict and print. Returns the exit code: 0 done, 2 a setting that is not allowed, 130 stopped."""
    from lorax_lab.memory.architectures import PRESETS

    words = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(words):
        names = textwrap.fill(", ".join(PRESETS), 92).replace("\n", "\n" + " " * 25)
        print(HELP.replace("{presets}", names))
        return 0
    return answer(lambda: _show(steps(words)))


def steps(words: list[str]) -> list[Step]:
    """Every step of the grid that words such as `rank=1,8` make, each with a rank; the rest is from `conf/memory.yaml`.

    Raises:
        ConfigError: an unknown key, a value of a wrong type or out of range.
    """
    from omegaconf import OmegaConf

    from lorax_lab.config.overrides import CONF, values_of
    from lorax_lab.memory.predict import Step

    settings: Any = OmegaConf.to_container(OmegaConf.load(CONF / "memory.yaml"))
    grid: dict[str, list[Any]] = {key: [value] for key, value in settings.items()}
    for word in words:
        key, equals, _ = word.partition("=")
        if key not in settings or not equals:
            raise ConfigError(f"{word} is not possible; settings are written key=value: {suggest(key, list(settings))}")
        grid[key] = values_of(word)
        if any(isinstance(part, dict) for part in grid[key]) or (key == "rank" and None in grid[key]):
            raise ConfigError(f"{word} is not possible; allowed are plain values, such as {key}={settings[key]}")
    return [Step(**dict(zip(grid, values, strict=True))) for values in itertools.product(*grid.values())]


def _show(grid: list[Step]) -> int:
    from lorax_lab.console import bar, console

    for step in grid:
        step.shape()
    tables = {full: [full, *(s for s in dict.fromkeys(grid) if s.full == full)] for full in (s.full for s in grid)}
    wanted = list(itertools.chain(*tables.values()))
    answers: dict[Step, Prediction] = {}
    with bar("predicting") as on_done:
        for number, step in enumerate(wanted):
            on_done(number, len(wanted))
            answers[step] = step.predict()
    for columns in tables.values():
        console.print(table({step: answers[step] for step in columns}))
        console.print(NOTE, highlight=False)
    return 0


def table(answers: dict[Step, Prediction]) -> Table:
    """A row per category, then the peak, the checkpoint and the sizes of GPU.

    A column per step, full fine-tuning first, and beside each other one its share of full.
    """
    from rich.table import Table

    from lorax_lab.memory.free import size
    from lorax_lab.memory.ledger import CATEGORIES
    from lorax_lab.memory.predict import GPU_SIZES, NF4, gpus_needed

    full = next(iter(answers))
    length = "" if full.sequence is None else f" × {full.sequence} tokens"
    more = ", checkpointing" if full.checkpointing else ""
    title = f"{full.model}: batch {full.batch}{length}, {full.optimizer}, {full.precision}, {full.attention}{more}"
    shown = Table("", title=title, title_justify="left")
    whole = "full, bf16-true" if full.precision == NF4 else "full"
    for step in answers:
        shown.add_column(whole if step is full else f"LoRA r={step.rank}", justify="right")
        if step is not full:
            shown.add_column("of full", justify="right")
    predictions = list(answers.values())

    def add(name: str, texts: list[str], counts: list[int] | None = None) -> None:
        shares = [""] * len(texts)
        if counts and counts[0]:  # where full holds next to nothing of a category, a share says nothing
            shares = [f"{count / counts[0]:.1%}" if count <= 10 * counts[0] else "" for count in counts]
        shown.add_row(name, texts[0], *itertools.chain(*zip(texts[1:], shares[1:], strict=True)))

    peaks = {name: [p.ledger.by_category[name] for p in predictions] for name in CATEGORIES}
    for name, counts in (peaks | {"peak": [p.ledger.peak_bytes for p in predictions]}).items():
        add(name.replace("_", " "), [size(count) for count in counts], counts)
    add("peak falls into", [p.ledger.phase for p in predictions])
    shown.add_section()
    stored = [p.stored for p in predictions]
    add("checkpoint", [size(count) for count in stored], stored)
    add("trained", [f"{p.trained:,}" for p in predictions])
    for gib in GPU_SIZES:
        add(f"{gib} GiB GPUs", [str(gpus_needed(p, gib) or "none do") for p in predictions])
    return shown


if __name__ == "__main__":
    guard()
    sys.exit(main())
