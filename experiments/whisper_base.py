"""A small Whisper that knows how letters sound: the base of speech recognition on words of another voice.

    python -m experiments.whisper_base bases/whisper
    python -m lorax_lab.run model=bases/whisper task=local task.kind=speech_recognition \\
        task.path=bases/whisper/digits/metadata.csv task.audio=file_name task.label=text rank=1,2,4,8 -m
"""

from __future__ import annotations

import string
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.base import SEED, main, train
from experiments.tones import Voice, record

WHAT = """\
Write recordings of our own making, in which chords of two tones spell words, and train a small Whisper on some of them,
from random weights. No speech of people and no published weights are in it."""
BASE, TASK = 1600, 900
"""Recordings that the base is trained on, and those of the task."""
SECONDS, BANDS, POSITIONS = 1, 40, 32
"""What the model hears at most, how many mel bands it hears, and how many tokens it writes at most."""
ALPHABET = [
    "alfa", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo", "lima", "mike",
    "november", "oscar", "papa", "quebec", "romeo", "sierra", "tango", "uniform", "victor", "whiskey", "xray",
    "yankee", "zulu",
]  # fmt: skip
"""The words of the base's recordings; they have every letter."""
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
"""The words of the task, none of which the base has heard."""
LONGEST = 2
"""Words in a recording at most."""
OTHER_VOICE = Voice(pitch=1.1, letter=0.04, noise=0.05)
LAYERS = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
WIDTHS: dict[str, Any] = {"d_model": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "init_std": 0.06}
"""A wider draw of the weights than Whisper's own .02, with which so small a model learns several times slower."""
SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>")
BUDGET = ["task.validation_examples=100", "task.test_examples=100", "train.epochs=6", "train.learning_rate=2e-3"]


def make(folder: Path) -> None:
    """Write `folder/alphabet` and `folder/digits` (recordings with their tables), and the model into `folder`."""
    draw = np.random.default_rng(SEED)
    table = record(folder / "alphabet", [_phrase(ALPHABET, draw) for _ in range(BASE)], Voice(), SEED)
    record(folder / "digits", [_phrase(DIGITS, draw) for _ in range(TASK)], OTHER_VOICE, SEED + 1)
    processor = processor_of(SECONDS, BANDS)
    columns = [f"task.path={table}", "task.audio=file_name", "task.label=text"]
    task = ["task=local", "task.kind=speech_recognition", *columns]
    train(folder, "speech_recognition", config_of(processor), processor, [*task, *BUDGET])


def _phrase(words: Sequence[str], draw: np.random.Generator) -> list[str]:
    return [str(word) for word in draw.choice(words, draw.integers(1, LONGEST + 1))]


def processor_of(seconds: int, bands: int) -> Any:
    """Whisper's own processor, with a tokenizer of 26 letters and the space."""
    from transformers import WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer

    tokens = [*SPECIAL, "Ġ", *string.ascii_lowercase]
    tokenizer = WhisperTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=[], pad_token=SPECIAL[0],
        additional_special_tokens=list(SPECIAL[1:]),
    )  # fmt: skip
    return WhisperProcessor(WhisperFeatureExtractor(feature_size=bands, chunk_length=seconds), tokenizer)


def config_of(processor: Any) -> Any:
    """A Whisper of two and two layers, 64 wide, that hears and writes what the processor does."""
    from transformers import WhisperConfig

    end, start, _ = processor.tokenizer.convert_tokens_to_ids(list(SPECIAL))
    return WhisperConfig(
        vocab_size=len(processor.tokenizer),
        num_mel_bins=processor.feature_extractor.feature_size,
        max_source_positions=processor.feature_extractor.nb_max_frames // 2,
        max_target_positions=POSITIONS,
        decoder_start_token_id=start,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        begin_suppress_tokens=None,
        **(LAYERS | WIDTHS),
    )


if __name__ == "__main__":
    sys.exit(main(WHAT, "experiments.whisper_base", make))
