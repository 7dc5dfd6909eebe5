"""A tiny base with random weights for each kind of task, and a tone to hear."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from conftest import tiny_config, tiny_speech_processor
from families import SIZES
from transformers import AutoConfig, AutoTokenizer

from lorax_lab.data.media import Sound
from lorax_lab.tasks import KINDS

CONFIGS = {
    "AutoModelForSequenceClassification": lambda: tiny_config("bert"),
    "AutoModelForCausalLM": lambda: tiny_config("gpt2"),
    "AutoModelForImageClassification": lambda: AutoConfig.for_model("vit", **SIZES, image_size=8, patch_size=4),
    "AutoModelForSpeechSeq2Seq": lambda: tiny_config("whisper"),
}
"""A tiny base for each class of transformers."""
PROCESSORS: dict[str, Callable[[Path], Any]] = {
    "AutoTokenizer": AutoTokenizer.from_pretrained,
    "AutoImageProcessor": lambda _: transformers.ViTImageProcessorPil(size={"height": 8, "width": 8}),
    "AutoProcessor": lambda _: tiny_speech_processor(),
}
"""A processor for each class of transformers; the tokenizer's is the one of the folder."""


def tone(hertz: float, seconds: float, rate: int = 16_000) -> Sound:
    time = np.arange(int(seconds * rate)) / rate
    return Sound((0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32), rate, "a tone")


def save_base(kind_name: str, tokenizer: Path, folder: Path) -> Path:
    """A base as it is published: without a head, unless the head is pretrained with it."""
    kind = KINDS[kind_name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, kind.model_class).from_config(CONFIGS[kind.model_class]())
    (model if model.get_output_embeddings() is not None else model.base_model).save_pretrained(folder)
    PROCESSORS[kind.processor_class](tokenizer).save_pretrained(folder)
    return folder
