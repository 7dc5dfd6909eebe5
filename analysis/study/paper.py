"""The LoRA paper's own numbers (Hu et al. 2021), by study, column and arm, to stand beside ours."""

from __future__ import annotations

from collections.abc import Mapping

WIKISQL, MNLI = "GPT-3, WikiSQL", "GPT-3, MNLI"
RANKS = (1, 2, 4, 8, 64)
"""Of Table 6."""


def _by_rank(prefix: str, scores: tuple[float, ...]) -> dict[str, float]:
    return {f"{prefix} r={rank}": score for rank, score in zip(RANKS, scores, strict=True)}


TABLES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "paper_which_matrices": {
        WIKISQL: {
            "query r=8": 70.4,
            "key r=8": 70.0,
            "value r=8": 73.0,
            "attention's output r=8": 73.2,
            "query and key r=4": 71.4,
            "query and value r=4": 73.7,
            "attention r=2": 73.7,
        },
        MNLI: {
            "query r=8": 91.0,
            "key r=8": 90.8,
            "value r=8": 91.0,
            "attention's output r=8": 91.3,
            "query and key r=4": 91.3,
            "query and value r=4": 91.3,
            "attention r=2": 91.7,
        },
    },
    "paper_which_rank": {
        WIKISQL: {
            **_by_rank("query", (68.8, 69.6, 70.5, 70.4, 70.0)),
            **_by_rank("query and value", (73.4, 73.3, 73.7, 73.8, 73.5)),
            **_by_rank("attention", (74.1, 73.7, 74.0, 74.0, 73.9)),
        },
        MNLI: {
            **_by_rank("query", (90.7, 90.9, 91.1, 90.7, 90.7)),
            **_by_rank("query and value", (91.3, 91.4, 91.3, 91.6, 91.4)),
            **_by_rank("attention", (91.2, 91.7, 91.7, 91.5, 91.4)),
        },
    },
}
"""Tables 5 and 6: validation accuracy in per cent, one seed, the best of one tuning."""
LOSSES = dict(
    zip((2**power for power in range(11)), (1.23, 1.21, 1.18, 1.17, *[1.16] * 6, 1.17), strict=True),
)
"""Table 18: validation loss by rank, GPT-2 medium on E2E after 26,000 steps, one seed."""
BLEU = dict(
    zip(LOSSES, (68.72, 69.17, 70.38, 69.57, 69.61, 69.33, 69.24, 68.73, 68.92, 68.78, 69.37), strict=True),
)
"""Table 18: BLEU by rank, of the same runs."""
SIZES: Mapping[str, Mapping[int, float]] = {
    "full": {100: 60.2, 1000: 85.8, 10_000: 88.9, 392_000: 89.5},
    "LoRA r=8": {100: 63.8, 1000: 85.6, 10_000: 89.2, 392_000: 91.7},
}
"""Table 16: validation accuracy on MNLI in per cent by arm and number of training examples, GPT-3, one seed."""
NORMS_OF_TABLE_7: Mapping[int, Mapping[str, float]] = {
    4: {"delta_norm": 6.91, "base_in_delta": 0.32, "base_in_random": 0.02, "base_in_base": 21.67},
    64: {"delta_norm": 3.57, "base_in_delta": 1.90, "base_in_random": 0.33, "base_in_base": 37.71},
}
"""Table 7 by r: the norm of the update, and that of W in its directions, in random ones and in W's own; of the query
matrix of layer 48 of GPT-3. It has no Gaussian."""
FACTORS: Mapping[int, Mapping[str, float]] = {
    4: {"factor": 21.5, "random_factor": 350, "base_factor": 0.32},
    64: {"factor": 1.9, "random_factor": 11, "base_factor": 0.095},
}
"""The update's norm over each of the other three. 21.5 is the paper's own; the others follow from these norms, with
two digits: .02 stands for .015 to .025, and so 350 for 280 to 460."""
