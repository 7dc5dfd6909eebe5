"""Small bases of the lab's own training: random weights, trained fully by an ordinary run, kept as a model's folder.

    python -m experiments.bases vit bases/vit
    python -m lorax_lab.run model=bases/vit task=digits_high train.epochs=30 rank=1,2,4,8 -m
    python -m experiments.bases whisper bases/whisper
    python -m lorax_lab.run model=bases/whisper task=local task.kind=speech_recognition \\
        task.path=bases/whisper/digits/metadata.csv task.audio=file_name task.label=text rank=1,2,4,8 -m

No pretrained vision or speech model can be had without a model hub. What a fine-tune of such a base shows is how the
lab treats images and recordings; its weights are nobody's published ones. The ViT knows the digits 0 to 4, real images
that come with scikit-learn; the task is the digits 5 to 9. The Whisper knows how letters sound: each letter is a chord
of two tones, each word its letters in a row, with noise and a voice. No recording of people is in these files, and
nobody's speech is imitated. They are real audio files with transcripts, which a model has to hear letter by letter.
"""

from __future__ import annotations

import argparse
import csv
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.study import trained_by
from lorax_lab.errors import answer
from lorax_lab.record.redact import guard
from lorax_lab.tasks import KINDS

SEED = 0
TRAINED = "model.safetensors"
PIXELS, PATCH = 8, 2
SIZES: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128}
VIT_BUDGET = ["task=digits_low", "train.epochs=20", "train.learning_rate=1e-3"]
RATE = 16_000
OTHER_RATE = 8_000
EVERY = 4
"""Each fourth recording has `OTHER_RATE`: a telephone's."""
LOW = (320.0, 450.0, 580.0, 720.0, 880.0)
HIGH = (1200.0, 1480.0, 1800.0, 2150.0, 2550.0, 3000.0)
"""Hertz of the two tones; letter i has `LOW[i % 5]` and `HIGH[i // 5]`."""
PAUSE = 0.05
"""Seconds between two words, and before and after all."""
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
LAYERS = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
WIDTHS: dict[str, Any] = {"d_model": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "init_std": 0.06}
"""A wider draw of the weights than Whisper's own .02, with which so small a model learns several times slower."""
SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>")
WHISPER_BUDGET = [
    "task.validation_examples=100",
    "task.test_examples=100",
    "train.epochs=6",
    "train.learning_rate=2e-3",
]


class Voice(NamedTuple):
    """How a speaker sounds: what all tones are multiplied by (each recording varies it by 2 %), seconds of a letter
    (each letter varies it by 15 %), and the standard deviation of white noise, beside tones of amplitude about .3."""

    pitch: float = 1.0
    letter: float = 0.045
    noise: float = 0.02


def main(arguments: list[str] | None = None) -> int:
    """Make a base, unless the folder has it already. Returns the exit code: 0, 2 for a wrong input, 130 stopped."""
    guard()
    parser = argparse.ArgumentParser(
        prog="python -m experiments.bases", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", choices=list(BASES))
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where it goes; then type model=FOLDER")
    options = parser.parse_args(arguments)

    def work() -> int:
        if not (options.folder / "config.json").is_file():
            BASES[options.base](options.folder)
        print(f"the base: model={options.folder}")
        return 0

    return answer(work, "; the same command begins anew")


def vit(folder: Path) -> None:
    """Write the ViT into `folder`, in about half a minute on one core."""
    from transformers import ViTConfig, ViTImageProcessorPil

    config = ViTConfig(image_size=PIXELS, patch_size=PATCH, **SIZES)
    processor = ViTImageProcessorPil(size={"height": PIXELS, "width": PIXELS})
    train(folder, "image_classification", config, processor, VIT_BUDGET)


def whisper(folder: Path) -> None:
    """Write `folder/alphabet` and `folder/digits` (recordings with their tables), and the model into `folder`."""
    draw = np.random.default_rng(SEED)

    def phrases(words: Sequence[str], count: int) -> list[list[str]]:
        return [[str(word) for word in draw.choice(words, draw.integers(1, LONGEST + 1))] for _ in range(count)]

    table = record(folder / "alphabet", phrases(ALPHABET, BASE), Voice(), SEED)
    record(folder / "digits", phrases(DIGITS, TASK), Voice(pitch=1.1, letter=0.04, noise=0.05), SEED + 1)
    columns = [f"task.path={table}", "task.audio=file_name", "task.label=text"]
    task = ["task=local", "task.kind=speech_recognition", *columns]
    train(folder, "speech_recognition", *_whisper(), [*task, *WHISPER_BUDGET])


def _whisper() -> tuple[Any, Any]:
    """The configuration of a Whisper of two and two layers, 64 wide, and its processor, whose tokenizer has 26 letters
    and the space."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer

    tokens = [*SPECIAL, "Ġ", *string.ascii_lowercase]
    tokenizer: Any = WhisperTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=[], pad_token=SPECIAL[0],
        additional_special_tokens=list(SPECIAL[1:]),
    )  # fmt: skip
    ears = WhisperFeatureExtractor(feature_size=BANDS, chunk_length=SECONDS)
    end, start, _ = tokenizer.convert_tokens_to_ids(list(SPECIAL))
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=BANDS,
        max_source_positions=ears.nb_max_frames // 2,
        max_target_positions=POSITIONS,
        decoder_start_token_id=start,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        begin_suppress_tokens=None,
        **(LAYERS | WIDTHS),
    )
    return config, WhisperProcessor(ears, tokenizer)


BASES = {"vit": vit, "whisper": whisper}


def train(folder: Path, kind: str, config: Any, processor: Any, overrides: list[str]) -> None:
    """Write `folder/training/random` (the model with random weights), train all of it by one run in
    `folder/training/runs`, and write the trained model into `folder`: the body, with an output layer over a vocabulary
    where it has one, without the head. The kind of task names the model's class; `overrides` are those of the run."""
    import torch
    import transformers
    from safetensors.torch import load_file

    random, runs = folder / "training" / "random", folder / "training" / "runs"
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model: Any = getattr(transformers, KINDS[kind].model_class).from_config(config)
    body = model if model.get_output_embeddings() is not None else model.base_model
    processor.save_pretrained(random)
    body.save_pretrained(random)
    settings = (f"model={random}", "method=full", f"seed={SEED}", *overrides)
    tensors = load_file(trained_by(settings, runs, TRAINED))
    fitting = {key: tensors[key] for key, weight in model.state_dict().items() if tensors[key].shape == weight.shape}
    model.load_state_dict(fitting, strict=False)
    processor.save_pretrained(folder)
    body.save_pretrained(folder)


def say(words: Sequence[str], voice: Voice, draw: np.random.Generator) -> np.ndarray:
    """The words as samples (n,), from -1 to 1, `RATE` in a second."""
    pitch = voice.pitch * draw.uniform(0.98, 1.02)
    pause = np.zeros(int(PAUSE * RATE))
    parts = [pause]
    for word in words:
        parts += [_letter(letter, pitch, voice.letter * draw.uniform(0.85, 1.15), draw) for letter in word]
        parts.append(pause)
    samples = np.concatenate(parts)
    return np.clip(samples + voice.noise * draw.standard_normal(len(samples)), -1.0, 1.0)


def _letter(letter: str, pitch: float, seconds: float, draw: np.random.Generator) -> np.ndarray:
    number = string.ascii_lowercase.index(letter)
    time = np.arange(int(seconds * RATE)) / RATE
    tones = (LOW[number % len(LOW)], HIGH[number // len(LOW)])
    sound = sum(np.sin(2 * np.pi * (tone * pitch * time + draw.uniform())) for tone in tones)
    return np.asarray(draw.uniform(0.1, 0.2) * np.hanning(len(time)) ** 0.5 * sound)


def record(folder: Path, phrases: Sequence[Sequence[str]], voice: Voice, seed: int) -> Path:
    """Write a WAV file of 16 bits for each phrase, and `metadata.csv`, whose path is returned, with the columns
    `file_name` and `text`."""
    import soundfile
    from scipy.signal import resample_poly

    draw = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, words in enumerate(phrases):
        samples, name, rate = say(words, voice, draw), f"{i:04}.wav", RATE
        if i % EVERY == 0:
            samples, rate = np.clip(resample_poly(samples, OTHER_RATE, RATE), -1.0, 1.0), OTHER_RATE
        soundfile.write(folder / name, samples, rate, subtype="PCM_16")
        rows.append((name, " ".join(words)))
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("file_name", "text"), *rows])
    return folder / "metadata.csv"


if __name__ == "__main__":
    raise SystemExit(main())
