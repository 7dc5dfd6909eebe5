"""`python -m lorax_lab.audit BASE TUNED`: the rank of the update between two checkpoints, or of an adapter."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.errors import ConfigError, answer
from lorax_lab.record.output import guard

if TYPE_CHECKING:
    from lorax_lab.audit.updates import Updates

EPILOG = """\
BASE and TUNED are folders or files (safetensors, sharded or not; PyTorch .bin, read without running code), hub ids
(org/name, org/name@revision) or presets (minilm, smollm2). TUNED may be a PEFT adapter's folder: LoRA, DoRA, rsLoRA,
PiSSA (BASE is then the original model, not its residual), OLoRA, AdaLoRA. A LoRA folder alone needs no BASE. TUNED
may also be a file of Microsoft's loralib, with tensors named lora_A and lora_B, which needs --alpha, or a file of
kohya's sd-scripts, with tensors named lora_down and lora_up.

  python -m lorax_lab.audit base-folder tuned-folder
  python -m lorax_lab.audit meta-llama/Llama-3.2-1B meta-llama/Llama-3.2-1B-Instruct --top 64
  python -m lorax_lab.audit base-folder adapter-folder --directions
  python -m lorax_lab.audit base-folder tuned-folder --extract rank=16
  python -m lorax_lab.audit lora.bin --alpha 32

An audit that was stopped goes on where it was: type the same command again. Its folder holds audit.csv and
audit.parquet (a row per matrix), report.md (the findings and a table) and every singular value (matrices/*.npz).
For the figures type: python -m analysis audit FOLDER
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write. Returns the exit code: 0 done, 1 some matrices could not be measured, 2 a wrong input,
    130 stopped."""
    options = _parser().parse_args(arguments)
    return answer(lambda: _audit(options), "; what is measured is kept: type the same command to go on")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lorax_lab.audit",
        description="How low is the rank of ΔW = TUNED − BASE? Every 2-D weight is measured, streamed from disk.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("base", metavar="BASE", help="the model that was tuned, or an adapter alone")
    parser.add_argument("tuned", metavar="TUNED", nargs="?", help="the tuned model, or a PEFT adapter on BASE")
    parser.add_argument("--out", type=Path, help="folder of the results (audits/<tuned>-against-<base>-<hash>)")
    parser.add_argument(
        "--top",
        type=int,
        metavar="K",
        help="certified mode: the top K values and brackets around the measures; all values where a bracket is wide",
    )
    parser.add_argument(
        "--directions",
        action="store_true",
        help="measure intruder dimensions and amplification too; the base's singular vectors are kept in the cache",
    )
    parser.add_argument(
        "--no-nulls",
        action="store_true",
        help="draw no noise with the update's own scales, magnitudes or entries (two thirds of the time of an audit)",
    )
    parser.add_argument(
        "--extract", metavar="rank=N|energy=SHARE", help="write the truncated update as a PEFT adapter into the folder"
    )
    parser.add_argument(
        "--alpha", type=float, metavar="N", help="lora_alpha of a file of loralib's factors, which does not contain it"
    )
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    return parser


def _audit(options: argparse.Namespace) -> int:
    if options.top is not None and options.top < 1:
        raise ConfigError(f"--top {options.top}: allowed are numbers ≥ 1; type --top 64")
    if options.alpha is not None and not 0 < options.alpha < math.inf:
        raise ConfigError(f"--alpha {options.alpha:g}: allowed are numbers > 0; type --alpha 16")
    from lorax_lab.audit import extract, report
    from lorax_lab.audit.device import device_of
    from lorax_lab.audit.measure import measure_all
    from lorax_lab.audit.store import open_store
    from lorax_lab.audit.updates import open_updates
    from lorax_lab.console import WorkBar
    from lorax_lab.console import bar as bar_of

    extraction = extract.parse_extraction(options.extract) if options.extract else None
    device = device_of(options.device)
    updates = open_updates(options.base, options.tuned, options.alpha)
    if extraction:
        extract.check(updates)
    folder = open_store(options.out or Path("audits") / updates.slug, _identity(options, updates))
    report.introduce(updates, folder)
    with WorkBar(sum(matrix.cost for matrix in updates.matrices)) as bar:
        more = {"directions": options.directions, "nulls": not options.no_nulls}
        measured, failures = measure_all(updates, folder, device, options.top, bar=bar, **more)
    report.close(updates, measured, failures, folder)
    if extraction and measured:
        target = folder / f"adapter-{options.extract}"
        with bar_of("extracting") as on_done:
            written = extract.write_adapter(target, updates, measured, extraction, device, on_done)
        report.extracted(written, target)
    return 1 if failures or not measured else 0


def _identity(options: argparse.Namespace, updates: Updates) -> dict[str, Any]:
    named = {"base": options.base, "tuned": options.tuned, "fingerprint": updates.fingerprint}
    return named | {"top": options.top, "alpha": options.alpha}


if __name__ == "__main__":
    guard()
    sys.exit(main())
