"""`python -m lorax_lab.audit BASE TUNED`: the rank of the update between two checkpoints, or of an adapter."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.errors import ConfigError, answer

if TYPE_CHECKING:
    import torch

    from lorax_lab.audit.updates import Updates

EPILOG = """\
BASE and TUNED are folders or files (safetensors, sharded or not; PyTorch .bin, read without running code), hub ids
(org/name, org/name@revision) or presets (minilm, smollm2). TUNED may be a PEFT adapter's folder: LoRA, DoRA, rsLoRA,
PiSSA (BASE is then the original model, not its residual), OLoRA, AdaLoRA. A LoRA folder alone needs no BASE.

  python -m lorax_lab.audit base-folder tuned-folder
  python -m lorax_lab.audit meta-llama/Llama-3.2-1B meta-llama/Llama-3.2-1B-Instruct --top 64
  python -m lorax_lab.audit base-folder adapter-folder --directions
  python -m lorax_lab.audit base-folder tuned-folder --extract rank=16

One that was stopped goes on where it was: type the same again. In the folder: audit.csv and .parquet (a row per
matrix), report.md (the words and the tables), figures (PNG, PDF, CSV) and every singular value (matrices/*.npz).
"""


def main(words: list[str] | None = None) -> int:
    """Measure, print, write. Returns the exit code: 0 done, 1 some matrices could not be measured, 2 a wrong input,
    130 stopped."""
    given = _parser().parse_args(words)
    return answer(lambda: _audit(given), "; what is measured is kept: type the same command to go on")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lorax_lab.audit",
        description="How low is the rank of ΔW = TUNED − BASE? Every 2-D weight is measured, streamed from disk.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("base", metavar="BASE", help="the model that was tuned, or an adapter alone")
    parser.add_argument("tuned", metavar="TUNED", nargs="?", help="the tuned model, or a PEFT adapter on BASE")
    parser.add_argument("--out", type=Path, help="folder of the results (audits/<tuned>-against-<base>-<mark>)")
    parser.add_argument(
        "--top",
        type=int,
        metavar="K",
        help="certified mode: the top K values and brackets for the measures, all values only where a bracket is wide",
    )
    parser.add_argument(
        "--directions",
        action="store_true",
        help="also intruder dimensions and amplification; the base's own directions are kept in the cache",
    )
    parser.add_argument(
        "--extract", metavar="rank=N|energy=SHARE", help="write the truncated update as a PEFT adapter, in the folder"
    )
    parser.add_argument("--device", help="cpu or cuda (cuda where there is one)")
    return parser


def _audit(given: argparse.Namespace) -> int:
    if given.top is not None and given.top < 1:
        raise ConfigError(f"--top {given.top}: allowed are numbers ≥ 1; type --top 64")
    from lorax_lab.audit import extract, report
    from lorax_lab.audit.measure import measure_all
    from lorax_lab.audit.store import open_store
    from lorax_lab.audit.updates import open_updates
    from lorax_lab.console import WorkBar
    from lorax_lab.console import bar as bar_of

    cut = extract.parse_cut(given.extract) if given.extract else None
    device = _device(given.device)
    subject = open_updates(given.base, given.tuned)
    folder = open_store(given.out or Path("audits") / subject.slug, _identity(given, subject))
    report.introduce(subject, folder)
    with WorkBar(sum(matrix.cost for matrix in subject.matrices)) as bar:
        measured, failures = measure_all(subject, folder, device, given.top, given.directions, bar)
    report.close(subject, measured, failures, folder)
    if cut and measured:
        target = folder / f"adapter-{given.extract}"
        with bar_of("extracting") as on_done:
            written = extract.write_adapter(target, subject, measured, cut, device, on_done)
        report.extracted(written, target)
    return 1 if failures or not measured else 0


def _identity(given: argparse.Namespace, subject: Updates) -> dict[str, Any]:
    return {"base": given.base, "tuned": given.tuned, "fingerprint": subject.fingerprint, "top": given.top}


def _device(name: str | None) -> torch.device:
    import torch

    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {name} is not to be had here ({reason}); type --device cpu") from None
    return device


if __name__ == "__main__":
    sys.exit(main())
