"""`python -m lorax_lab.audit BASE TUNED`: the rank of an update; `… audit card ADAPTER`: one page about an adapter."""

import argparse
import functools
import math
import sys
from pathlib import Path

from lorax_lab.errors import ConfigError, answer
from lorax_lab.record.redact import guard

AFTER = "; what is measured is kept: type the same command to go on"
MARGIN = 0.02
ADAPTERS = """\
An adapter is a PEFT folder (a run's folder is one): LoRA, DoRA, rsLoRA, PiSSA (BASE is then the original model, not its
residual), OLoRA, AdaLoRA. Or it is a single file: of Microsoft's loralib, with tensors named lora_A and lora_B, which
needs --alpha, or of kohya's sd-scripts, with tensors named lora_down and lora_up. A checkpoint is a folder or file
(safetensors, sharded or not; PyTorch .bin, read without running code), a hub id (org/name, org/name@revision) or a
preset (minilm, minilm_l3, smollm2, whisper_base). What was stopped goes on where it was: type the same command again.
"""
QUESTION = "How low is the rank of ΔW = TUNED − BASE? Every 2-D weight is measured, streamed from disk."
AUDIT = """
  python -m lorax_lab.audit base-folder tuned-folder
  python -m lorax_lab.audit meta-llama/Llama-3.2-1B meta-llama/Llama-3.2-1B-Instruct
  python -m lorax_lab.audit base-folder adapter-folder
  python -m lorax_lab.audit lora.bin --alpha 32
  python -m lorax_lab.audit card --help

The folder holds audit.csv (a row per matrix), report.md (the findings and a table) and every singular value
(matrices/*.npz). For the figures type: python -m analysis audit FOLDER
"""
PAGE = """\
A card of an adapter or fine-tune: its parameters, its spectrum beside a valid null of noise, the rank that holds its
energy, layers that hardly moved, and the smallest rank that keeps its score."""
CARD = """
  python -m lorax_lab.audit card runs/RUN --task
  python -m lorax_lab.audit card adapter-folder --base org/name --task local task.path=my.csv --extract
  python -m lorax_lab.audit card tuned-folder --base base-folder --extract rank=16
  python -m lorax_lab.audit card lora.bin --alpha 32

The folder gets card.md, card.png, and the numbers behind them: card.json and audit.csv.
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write. Returns the exit code: 0 done, 1 some matrices could not be measured, or an extract is not
    what was asked, 2 a wrong input, 130 stopped."""
    typed = sys.argv[1:] if arguments is None else arguments
    is_card = typed[:1] == ["card"]
    options = _parser(is_card).parse_args(typed[is_card:])
    return answer(functools.partial(_card if is_card else _audit, options), AFTER)


def _audit(options: argparse.Namespace) -> int:
    from lorax_lab.audit import findings
    from lorax_lab.audit.measure import fastest_device, measure_all, open_store
    from lorax_lab.audit.updates import open_updates

    updates = open_updates(options.base, options.tuned, options.alpha)
    identity = {"base": options.base, "tuned": options.tuned, "fingerprint": updates.fingerprint}
    folder = open_store(options.out or Path("audits") / updates.slug, identity | {"alpha": options.alpha})
    measured, failures = measure_all(updates, folder, "report.md", fastest_device(), nulls=not options.no_nulls)
    findings.close(updates, measured, failures, folder)
    return 1 if failures or not measured else 0


def _card(options: argparse.Namespace) -> int:
    if not 0 <= options.margin < math.inf:
        raise ConfigError(f"--margin {options.margin:g}: allowed are numbers ≥ 0, in the metric's unit; as .02")
    if options.extract == "" and options.task is None:
        raise ConfigError("--extract needs a rank, or --task to choose one by; type --extract rank=16")
    from lorax_lab.audit.card import make

    return make(options.tuned, options)


def _parser(is_card: bool) -> argparse.ArgumentParser:
    name, text, examples = ("audit card", PAGE, CARD) if is_card else ("audit", QUESTION, AUDIT)
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        f"python -m lorax_lab.{name}", None, text, ADAPTERS + examples, formatter_class=form
    )
    add = parser.add_argument
    add("--out", type=Path, help="folder of the results; by default named after what is measured")
    add("--alpha", type=float, metavar="N", help="lora_alpha of a plain file that does not contain it")
    if is_card:
        add("tuned", metavar="ADAPTER|CHECKPOINT", help="a folder, a file, or a hub id of a checkpoint")
        add("--base", metavar="BASE", help="the model that was tuned; a folder, a hub id or a preset")
        task = "score it when cut: a task and its settings (task.KEY=VALUE); alone, for a run's folder, that run's task"
        add("--task", nargs="*", metavar="WORD", help=task)
        margin = f"how much worse a cut may score, in the metric's unit ({MARGIN})"
        add("--margin", type=float, default=MARGIN, help=margin)
        extract = "write the cut adapter, as PEFT loads it; alone, with --task, the smallest that is within the margin"
        add("--extract", nargs="?", const="", metavar="rank=N", help=extract)
    else:
        add("base", metavar="BASE", help="the model that was tuned, or an adapter alone")
        add("tuned", metavar="TUNED", nargs="?", help="the tuned model, or an adapter on BASE")
        nulls = "draw no noise with the update's own scales, magnitudes or entries (a fifth of the time of an audit)"
        add("--no-nulls", action="store_true", help=nulls)
    return parser


if __name__ == "__main__":
    guard()
    sys.exit(main())
