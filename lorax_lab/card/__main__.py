"""`python -m lorax_lab.card ADAPTER|CHECKPOINT`: one page about any adapter or fine-tune on disk."""

from __future__ import annotations

import argparse
import functools
import math
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lorax_lab.errors import ConfigError, answer
from lorax_lab.record.output import guard

if TYPE_CHECKING:
    from lorax_lab.card.make import Request

MARGIN = 0.02
STOPPED, FAILED = 130, 70
ENDS = {
    0: "made",
    1: "made, but not all that was asked",
    2: "refused",
    FAILED: "failed, by a fault of the lab that stands above",
    STOPPED: "stopped",
}
"""What exit codes say of a card."""
AFTER = "; what is measured is kept: type the same command to go on"
EPILOG = """\
ADAPTER is a PEFT folder (a run's folder is one), or a single file: loralib's .bin or .pt of plain tensors, kohya's
.safetensors (lora_down, lora_up, alpha). CHECKPOINT is a folder or file of a fine-tuned model; it needs --base.

  python -m lorax_lab.card runs/RUN --task
  python -m lorax_lab.card adapter-folder
  python -m lorax_lab.card adapter-folder --base org/name --task movie_reviews
  python -m lorax_lab.card adapter-folder --base org/name --task local task.path=my.csv --extract
  python -m lorax_lab.card tuned-folder --base base-folder --extract energy=0.9
  python -m lorax_lab.card lora.bin --alpha 32
  python -m lorax_lab.card runs/*-lora-* --task

Its folder gets card.html (one file, with its picture), card.md, card.png, and the numbers behind them: card.json,
card.csv, audit.csv. A card that was stopped goes on where it was: type the same command again.
More figures: python -m analysis audit FOLDER
Of many cards, whether the chosen cuts held on test: python -m analysis cards cards
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, score, write. Returns the exit code: 0 done, 1 some matrices could not be measured, or nothing could be
    extracted, or what was does not load or not score as its cut, 2 a wrong input, 130 stopped. Of several cards the
    highest; a wrong input does not stop the others."""
    options = _parser().parse_args(arguments)

    def work() -> int:
        requests = _requests(options)
        from lorax_lab.card.make import make

        return make(requests[0]) if len(requests) == 1 else _each(requests, make)

    return answer(work, AFTER)


def _each(requests: list[Request], make: Callable[[Request], int]) -> int:
    """Make each card; what fails for one stops no other. Ends with how many were made."""
    codes: list[int] = []
    for number, request in enumerate(requests, 1):
        print(f"[{number}/{len(requests)}] {request.tuned}", flush=True)
        try:
            codes.append(answer(functools.partial(make, request), AFTER))
        except Exception:
            traceback.print_exc()
            codes.append(FAILED)
        if codes[-1] == STOPPED:
            break
    counts = {words: codes.count(code) for code, words in ENDS.items()}
    counts["not reached"] = len(requests) - len(codes)
    parts = [f"{count} {words}" for words, count in counts.items() if count]
    print(f"of {len(requests)} cards: {', '.join(parts)}")
    return max(codes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lorax_lab.card",
        description="A card of an adapter or fine-tune: its parameters, its spectrum beside a valid null of noise, the "
        "rank that holds its energy, layers that hardly moved, and the smallest rank that keeps its score.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "tuned",
        nargs="+",
        metavar="ADAPTER|CHECKPOINT",
        help="a folder, a file, or a hub id of a checkpoint; of several, a card each",
    )
    parser.add_argument("--base", metavar="BASE", help="the model that was tuned; a folder, a hub id or a preset")
    parser.add_argument(
        "--task",
        nargs="*",
        metavar="WORD",
        help="score it when cut: a task's name and its settings (task.KEY=VALUE) as of python -m lorax_lab.run; alone, "
        "for a run's folder, the task of that run",
    )
    parser.add_argument(
        "--margin", type=float, default=MARGIN, help=f"how much worse a cut may score, in the metric's unit ({MARGIN})"
    )
    parser.add_argument(
        "--extract",
        nargs="?",
        const="",
        metavar="rank=N|energy=SHARE",
        help="write the cut adapter into the folder, as PEFT loads it; alone, with --task, at the smallest rank within "
        "the margin",
    )
    parser.add_argument("--alpha", type=float, metavar="N", help="lora_alpha of a plain file that does not contain it")
    parser.add_argument("--out", type=Path, help="folder of the card (cards/<name>-<hash>)")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    return parser


def _requests(options: argparse.Namespace) -> list[Request]:
    """The checked command line, a request for each card.

    Raises:
        ConfigError: a number that is not possible, or an --extract that has no rank.
    """
    if not 0 <= options.margin < math.inf:
        raise ConfigError(
            f"--margin {options.margin:g}: allowed are numbers ≥ 0, in the metric's unit; type --margin 0.02"
        )
    if options.alpha is not None and not 0 < options.alpha < math.inf:
        raise ConfigError(f"--alpha {options.alpha:g}: allowed are numbers > 0; type --alpha 16")
    if options.extract == "" and options.task is None:
        raise ConfigError("--extract needs a rank, or --task to choose one by; type --extract rank=16")
    if options.out is not None and len(options.tuned) > 1:
        raise ConfigError(
            f"--out {options.out} is the folder of one card, and {len(options.tuned)} are asked for; leave --out out"
        )
    from lorax_lab.card.make import Request

    return [Request(**(vars(options) | {"tuned": tuned})) for tuned in options.tuned]


if __name__ == "__main__":
    guard()
    sys.exit(main())
