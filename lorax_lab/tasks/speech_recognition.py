"""Speech recognition: the transcript of a recording, by a model like Whisper.

The decoder is given the start tokens that the tokenizer puts before a text, and learns the text and the end token. When
a model is scored, it is given the same start tokens and writes greedily until its end token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorax_lab.config import TaskConfig
from lorax_lab.data import Example
from lorax_lab.data.media import Sound
from lorax_lab.errors import ConfigError
from lorax_lab.record.folder import UNTRAINED
from lorax_lab.tasks.greedy import IGNORED, decode
from lorax_lab.tasks.kind import Inputs, Kind, Metric, Row, ratio_of_sums

ERRORS, WORDS, NATS, TOKENS = range(4)
"""What the columns of the outputs are, each counted over one transcript; its end token is one."""


@dataclass
class SpeechConfig(TaskConfig):
    """Settings of speech recognition. `audio` names a column of paths, or of recordings in a data set; `label` names
    the column of transcripts."""

    inputs: ClassVar[Mapping[str, str]] = {"audio": "audio"}
    labels: ClassVar[str] = "texts"

    audio: str | None = None


def _require_speech(processor: Any, config: TaskConfig) -> None:
    hears = hasattr(getattr(processor, "feature_extractor", None), "n_samples")
    if not hears or not _tokens(processor.tokenizer, "a", "")[0]:
        unlike = f"{type(processor).__name__} of the model does not hear and start transcripts as Whisper's does"
        raise ConfigError(f"task={config.name}: {unlike}; name such a model, as in model=openai/whisper-tiny")


def _tokens(tokenizer: Any, text: str, where: str) -> tuple[list[int], list[int]]:
    """The start tokens, and those of the text and its end."""
    tokens = tokenizer(text).input_ids
    bare = tokenizer(text, add_special_tokens=False).input_ids
    start = len(tokens) - len(bare) - 1
    if _words(tokenizer, bare) != text.split():
        written = " ".join(_words(tokenizer, bare))
        change = f"the model's tokenizer writes {text[:40]!r} as {written[:40]!r}"
        raise ConfigError(f"{where}: {change}; mend task.label")
    return tokens[:start], tokens[start:]


def _words(tokenizer: Any, tokens: Any) -> list[str]:
    text: str = tokenizer.decode(tokens, skip_special_tokens=True)
    return text.split()


def at_rate(sound: Sound, rate: int) -> np.ndarray:
    """The samples (n,), fp32; of another rate they pass a low-pass filter and are taken anew (polyphase)."""
    from scipy.signal import resample_poly

    samples: np.ndarray = resample_poly(sound.samples, rate, sound.rate)
    return samples.astype(sound.samples.dtype)


def _greedy(model: Any, inputs: Inputs, end: int) -> Tensor:
    """What the model writes after the start tokens (n, longest), to its end token or to its last position.

    Whisper's own `generate` would choose start tokens itself, other than those of the training."""
    start = int((inputs["labels"][0] != IGNORED).int().argmax()) + 1
    features = inputs["input_features"]
    begun = {
        "input_features": features,
        "attention_mask": torch.ones_like(features[:, 0], dtype=torch.long),
        "decoder_input_ids": inputs["decoder_input_ids"][:, :start],
    }
    return decode(model, begun, model.config.max_target_positions - start, end, end)[:, start:]


def word_errors(reference: Sequence[str], written: Sequence[str]) -> tuple[int, int]:
    """The least number of words to substitute, leave out or add, and the words of the reference; `jiwer` counts them.

    >>> word_errors("a b c d".split(), "a x c".split()), word_errors(["a"], [])
    ((2, 4), (1, 1))
    """
    try:
        import jiwer
    except ImportError:
        raise ConfigError("audio needs soundfile and jiwer: type pip install 'lorax_lab[audio]'") from None

    counted = jiwer.process_words(" ".join(reference), " ".join(written))
    return counted.substitutions + counted.deletions + counted.insertions, len(reference)


class SpeechRecognition(Kind):
    """Transcripts of recordings; the output layer over the vocabulary is pretrained."""

    config = SpeechConfig
    model_class = "AutoModelForSpeechSeq2Seq"
    processor_class = "AutoProcessor"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "word_error_rate": Metric(  # above 1 where more words are added than there are; 1 for silence
            ratio_of_sums(ERRORS, WORDS), higher_is_better=False, constant=lambda labels, classes: 1.0
        ),
        "nats": Metric(ratio_of_sums(NATS, TOKENS), higher_is_better=False),
    }
    always = ("word_error_rate", "nats")

    def encode(self, processor: Any, examples: Sequence[Example], config: TaskConfig) -> list[Row]:
        """Each recording at the model's rate, `samples` (n,), and its transcript: the `prompt` of start tokens, and the
        `text` of tokens that follow, the end token among them.

        Raises:
            ConfigError: a processor that reads no audio or starts no transcript; recordings longer than the model
                hears; a transcript that the tokenizer cannot write.
        """
        _require_speech(processor, config)
        extractor, rows = processor.feature_extractor, []
        heard = extractor.n_samples / extractor.sampling_rate
        if longer := [e.inputs["audio"] for e in examples if e.inputs["audio"].seconds > heard]:
            longest = max(longer, key=lambda sound: sound.seconds)
            too_long = f"{len(longer)} of {len(examples)} recordings are longer than the model's {heard:g} s"
            which = f"the longest with {longest.seconds:.1f} s is {longest.name}"
            split = "split them with their transcripts, or leave them out"
            raise ConfigError(f"task={config.name}: {too_long}, {which}; {split}")
        for example in examples:
            sound = example.inputs["audio"]
            prompt, text = _tokens(processor.tokenizer, str(example.label), sound.name)
            rows.append({"samples": at_rate(sound, extractor.sampling_rate), "prompt": prompt, "text": text})
        return rows

    def collate(self, processor: Any, rows: Sequence[Row], labels: Any) -> Inputs:
        """One batch: `input_features` (n, mel bands, frames), padded with silence to what the model hears;
        `decoder_input_ids` and `labels` (n, longest), long, the labels -100 at start tokens and padding.

        Args:
            labels: not read; the rows have the transcripts' tokens.
        """
        extractor = processor.feature_extractor
        samples = [row["samples"] for row in rows]
        features = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        longest, end = max(map(self.size, rows)), processor.tokenizer.eos_token_id
        given = torch.full((len(rows), longest), end)
        wanted = torch.full((len(rows), longest), IGNORED)
        for i, row in enumerate(rows):
            tokens, start = torch.tensor(row["prompt"] + row["text"]), len(row["prompt"])
            given[i, : len(tokens) - 1] = tokens[:-1]
            wanted[i, start - 1 : len(tokens) - 1] = tokens[start:]
        return {"input_features": features.input_features, "decoder_input_ids": given, "labels": wanted}

    def size(self, row: Row) -> int:
        """Tokens that the decoder is given of a row."""
        return len(row["prompt"]) + len(row["text"]) - 1

    def writes(self, row: Row) -> bool:
        return True

    def tokens(self, inputs: Inputs) -> int:
        """Tokens of a batch that the model learns to write."""
        return int((inputs["labels"] != IGNORED).sum())

    def weight(self, inputs: Inputs) -> float:
        """As many as `tokens`: the loss is their mean."""
        return self.tokens(inputs)

    def outputs(self, model: nn.Module, inputs: Inputs, processor: Any) -> Tensor:
        """For each transcript (n, 4): errors in words (substituted, left out and added) of what the model writes
        greedily, words, nats of the transcript's tokens, and tokens."""
        labels, tokenizer = inputs["labels"], processor.tokenizer
        logits = super().outputs(model, inputs, processor).float()
        nats = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none").sum(1)
        references = [_words(tokenizer, row[row != IGNORED]) for row in labels]
        written = [_words(tokenizer, row) for row in _greedy(model, inputs, tokenizer.eos_token_id)]
        counts = [word_errors(*pair) for pair in zip(references, written, strict=True)]
        errors = torch.tensor(counts, dtype=nats.dtype, device=nats.device).reshape(-1, 2)
        return torch.cat([errors, nats[:, None], (labels != IGNORED).sum(1, keepdim=True)], dim=1)

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """Errors in words of each transcript, (n,)."""
        return outputs[:, ERRORS]

    def correct(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Whether every word of a transcript is right, (n,) bool."""
        return outputs[:, ERRORS] == 0

    def baselines(
        self, processor: Any, train: Sequence[Row], test: Sequence[Row], config: TaskConfig, limit: int | None
    ) -> dict[str, list[Row]]:
        """The test rows as they are: the base writes transcripts before it trains."""
        return {UNTRAINED: list(test)}
