"""Words as recordings: each letter is a chord of two tones, each word its letters in a row, with noise and a voice.

No recording of people is in these files, and nobody's speech is imitated. They are real audio files with transcripts,
which a model has to hear in time and write down letter by letter.
"""

from __future__ import annotations

import csv
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RATE = 16_000
OTHER_RATE = 8_000
EVERY = 4
"""Each fourth recording has `OTHER_RATE`: a telephone's."""
LOW = (320.0, 450.0, 580.0, 720.0, 880.0)
HIGH = (1200.0, 1480.0, 1800.0, 2150.0, 2550.0, 3000.0)
"""Hertz of the two tones; letter i has `LOW[i % 5]` and `HIGH[i // 5]`."""
PAUSE = 0.05
"""Seconds between two words, and before and after all."""


@dataclass(frozen=True)
class Voice:
    """How a speaker sounds.

    Args:
        pitch: what all tones are multiplied by; each recording varies it by 2 %.
        letter: seconds of a letter; each letter varies it by 15 %.
        noise: standard deviation of white noise, beside tones of amplitude about .3.
    """

    pitch: float = 1.0
    letter: float = 0.045
    noise: float = 0.02


def say(words: Sequence[str], voice: Voice, draw: np.random.Generator) -> np.ndarray:
    """The words as samples (n,), from -1 to 1, `RATE` in a second."""
    pitch = voice.pitch * draw.uniform(0.98, 1.02)
    parts = [_silence()]
    for word in words:
        parts += [_letter(letter, pitch, voice.letter * draw.uniform(0.85, 1.15), draw) for letter in word]
        parts.append(_silence())
    samples = np.concatenate(parts)
    return np.clip(samples + voice.noise * draw.standard_normal(len(samples)), -1.0, 1.0)


def _letter(letter: str, pitch: float, seconds: float, draw: np.random.Generator) -> np.ndarray:
    number = string.ascii_lowercase.index(letter)
    time = np.arange(int(seconds * RATE)) / RATE
    tones = (LOW[number % len(LOW)], HIGH[number // len(LOW)])
    sound = sum(np.sin(2 * np.pi * (tone * pitch * time + draw.uniform())) for tone in tones)
    return np.asarray(draw.uniform(0.1, 0.2) * np.hanning(len(time)) ** 0.5 * sound)


def _silence() -> np.ndarray:
    return np.zeros(int(PAUSE * RATE))


def record(folder: Path, phrases: Sequence[Sequence[str]], voice: Voice, seed: int) -> Path:
    """Write a WAV file of 16 bits for each phrase, and `metadata.csv` with the columns `file_name` and `text`.

    Returns:
        The path of the table.
    """
    import soundfile

    draw = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, words in enumerate(phrases):
        samples, name = say(words, voice, draw), f"{i:04}.wav"
        telephone = i % EVERY == 0
        heard = _telephone(samples) if telephone else samples
        soundfile.write(folder / name, heard, OTHER_RATE if telephone else RATE, subtype="PCM_16")
        rows.append((name, " ".join(words)))
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("file_name", "text"), *rows])
    return folder / "metadata.csv"


def _telephone(samples: np.ndarray) -> np.ndarray:
    from scipy.signal import resample_poly

    return np.clip(resample_poly(samples, OTHER_RATE, RATE), -1.0, 1.0)
