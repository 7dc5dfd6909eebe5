"""Speech recognition: recordings as they are heard, the loss by hand, word errors by hand, one message per fault."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from bases import save_base, tone
from conftest import ran, tiny_speech_processor, write_csv
from published import everything, settings
from torch import nn
from transformers import AutoModelForSpeechSeq2Seq

from lorax_lab.data import Example
from lorax_lab.data.media import read_sound
from lorax_lab.errors import ConfigError
from lorax_lab.tasks import KINDS, load_task
from lorax_lab.tasks import speech_recognition as speech

KIND = KINDS["speech_recognition"]
RATE = 16_000
WORDS = ["one", "two", "three", "four", "five"]


@pytest.fixture(scope="module")
def whisper(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Whisper with random weights; it hears one second and writes 32 small letters."""
    return save_base("speech_recognition", model_folder, tmp_path_factory.mktemp("base") / "tiny-whisper")


@pytest.fixture(scope="module")
def model(whisper: Path) -> nn.Module:
    return AutoModelForSpeechSeq2Seq.from_pretrained(whisper, dtype=torch.float64).eval()


def table(
    folder: Path, rows: int = 30, rate: Callable[[int], int] = lambda i: RATE, text: Callable[[int], str] | None = None
) -> Path:
    """Recordings of a tone each, no two alike, whose transcript is one word or two."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [("file", "words")]
    for i in range(rows):
        sound = tone(300 + 50 * i, 0.4, rate(i))
        soundfile.write(folder / f"{i}.wav", sound.samples, sound.rate)
        lines.append((f"{i}.wav", text(i) if text else " ".join(WORDS[i % 5 : i % 5 + 1 + i % 2])))
    return write_csv(folder / "table.csv", *lines)


def columns_of(path: Path) -> list[str]:
    return [f"task.path={path}", "task.kind=speech_recognition", "task.audio=file", "task.label=words"]


def test_a_recording_is_read_as_it_is(tmp_path: Path) -> None:
    samples = np.array([[0.5, 0.25], [-1.0, 0.0], [0.0, 0.5]], np.float32)
    for ending in ("wav", "flac"):
        soundfile.write(tmp_path / f"a.{ending}", samples, 8000, subtype="PCM_16")
        for content in (tmp_path / f"a.{ending}", (tmp_path / f"a.{ending}").read_bytes()):
            sound = read_sound(content)
            np.testing.assert_allclose(sound.samples, [0.375, -0.5, 0.25], atol=1e-4)
            assert (sound.rate, sound.seconds, sound.samples.dtype) == (8000, 3 / 8000, np.float32)


def test_another_rate_is_the_same_sound() -> None:
    for rate in (8_000, 22_050, 48_000):
        heard = speech.at_rate(tone(440, 0.5, rate), RATE)
        expected = tone(440, 0.5).samples
        assert abs(len(heard) - len(expected)) <= 1
        inside = slice(800, 7000)
        np.testing.assert_allclose(heard[inside], expected[inside], atol=5e-3)
    same = tone(440, 0.5)
    np.testing.assert_array_equal(speech.at_rate(same, RATE), same.samples)


def batch_of(texts: Sequence[str]) -> dict[str, torch.Tensor]:
    examples = [Example({"audio": tone(300 + 70 * i, 0.3 + 0.1 * i)}, text) for i, text in enumerate(texts)]
    config = settings("local", *columns_of(Path("x.csv")))
    processor = tiny_speech_processor()
    inputs = KIND.collate(processor, KIND.encode(processor, examples, config), None)
    return inputs | {"input_features": inputs["input_features"].double()}


def by_hand(model: nn.Module, features: torch.Tensor, text: str) -> list[float]:
    """−log p of each letter and of the end, given the start tokens and what stands before; one recording alone."""
    tokenizer = tiny_speech_processor().tokenizer
    letters = tokenizer.convert_tokens_to_ids(["Ġ" if letter == " " else letter for letter in text])
    given = tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", "<|notimestamps|>"])
    losses = []
    for token in [*letters, tokenizer.eos_token_id]:
        logits = model(input_features=features[None], decoder_input_ids=torch.tensor([given])).logits[0, -1]
        losses.append(float((torch.logsumexp(logits, 0) - logits[token]).detach()))
        given = [*given, token]
    return losses


TEXTS = ["one two", "a", "three"]


def test_the_loss_is_the_mean_over_letters_and_ends_and_nothing_else(model: nn.Module) -> None:
    inputs = batch_of(TEXTS)
    losses = [by_hand(model, inputs["input_features"][i], text) for i, text in enumerate(TEXTS)]
    assert [len(row) for row in losses] == [8, 2, 6]
    whole = [loss for row in losses for loss in row]
    assert KIND.weight(inputs) == KIND.tokens(inputs) == len(whole) == 16
    assert float(KIND.loss(model, inputs).detach()) == pytest.approx(sum(whole) / 16, abs=1e-6)


def greedy_by_hand(model: nn.Module, features: torch.Tensor) -> list[int]:
    """The likeliest token again and again, each computed anew from all before it; one recording alone."""
    tokenizer = tiny_speech_processor().tokenizer
    given = tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", "<|notimestamps|>"])
    while len(given) < 32 and (len(given) == 2 or given[-1] != tokenizer.eos_token_id):
        logits = model(input_features=features[None], decoder_input_ids=torch.tensor([given])).logits
        given.append(int(logits[0, -1].argmax()))
    return given[2:]


def test_a_score_has_the_nats_and_the_errors_of_what_is_written_greedily(model: nn.Module) -> None:
    """Weights are drawn so wide that the model writes other words of every recording. What the base's own settings of
    generation forbid is written all the same."""
    model, inputs, processor = copy.deepcopy(model), batch_of(TEXTS), tiny_speech_processor()
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim >= 2:
                weight.copy_(0.4 * torch.randn(weight.shape, generator=draw, dtype=weight.dtype))
    letters: Any = model.generation_config
    letters.suppress_tokens, letters.repetition_penalty = list(range(5, 20)), 3.0
    with torch.inference_mode():
        outputs = KIND.outputs(model, inputs, processor)
    longest = 0
    for i, text in enumerate(TEXTS):
        tokens = greedy_by_hand(model, inputs["input_features"][i])
        written = processor.tokenizer.decode(tokens, skip_special_tokens=True).split()
        longest = max(longest, len(written))
        losses = by_hand(model, inputs["input_features"][i], text)
        expected = [*speech.word_errors(text.split(), written), sum(losses), len(losses)]
        assert outputs[i].tolist() == pytest.approx(expected, rel=1e-6)
    assert longest >= 3


def write(sound: Any) -> Callable[[Path], object]:
    return lambda path: soundfile.write(path, sound, RATE)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a broken recording": (lambda path: path.write_bytes(b"RIFF"), r"row 5: .*4\.wav"),
    "no sound": (write(np.zeros(0)), r"row 5: .*4\.wav"),
    "longer than the model hears": (write(tone(404, 1.4).samples), "1 s"),
    "a transcript that the tokenizer cannot write": (lambda path: None, "row 5: .*Zwölf"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_recordings_and_transcripts_that_cannot_be_used_are_named(fault: str, tmp_path: Path) -> None:
    word = "Zwölf" if "transcript" in fault else "five"
    path, (change, named) = table(tmp_path, text=lambda i: word if i == 4 else WORDS[i % 5]), FAULTS[fault]
    change(tmp_path / "4.wav")
    config = settings("local", *columns_of(path))
    with pytest.raises(ConfigError, match=named):
        KIND.encode(tiny_speech_processor(), everything(load_task(config)), config)


def test_a_whisper_is_trained_measured_cut_and_scored(whisper: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    from lorax_lab.record.record import read_record

    runs, path = tmp_path / "runs", table(tmp_path / "data", rows=20, rate=lambda i: 8_000 if i % 2 else RATE)
    words = [f"model={whisper}", "task=local", *columns_of(path), "train.epochs=1", "train.device=cpu"]
    ran(*words, "tracking=disabled", f"runs_dir={runs}", "rank=2")
    full, lora = (read_record(next(runs.glob(f"*{name}*"))).completed for name in ("full", "lora"))
    assert full.truncation
    assert len(full.matrices) == len(lora.matrices) == 32
    assert {"test/word_error_rate", "test/nats", "validation/word_error_rate"} <= set(lora.metrics)
    assert lora.baselines == full.baselines
    assert lora.baselines["untrained/word_error_rate"] > 0.9
    base = AutoModelForSpeechSeq2Seq.from_pretrained(whisper)
    theirs: Any = PeftModel.from_pretrained(base, next(runs.glob("*lora*"))).double()
    assert theirs(**batch_of(["one"])).loss.isfinite()
