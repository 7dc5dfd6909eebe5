"""Tiny causal models with a tokenizer of words, and a table of prompts and completions."""

import random
from pathlib import Path
from typing import Any

import torch
from conftest import BAD, GOOD, PLAIN, tiny_config, write_csv
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from lorax_lab.data import Example
from lorax_lab.tasks import KINDS, Task
from lorax_lab.tasks.language_modeling import LanguageConfig
from lorax_lab.tasks.split import Split

KIND = KINDS["language_modeling"]
WORDS = ["[UNK]", "[END]", "\n", *GOOD, *BAD, *PLAIN]
PAIRS = [
    ("the film is", "good"), ("a", "bad dull end"),
    ("it is a story of a", "warm scene"), ("with it and a plot", "grim"),
    ("quite a scene and a very", "lovely sweet brave end"), ("the end", "the end"),
]  # fmt: skip
EXAMPLES = [Example({"prompt": prompt}, completion) for prompt, completion in PAIRS]
PLAIN_TEXTS = [Example({}, f"{prompt} {completion}") for prompt, completion in PAIRS]
MODELS = ("gpt2", "llama")


def word_tokenizer(begins: bool = False) -> PreTrainedTokenizerFast:
    """A token for each word and for a line break, and none for padding; `begins` puts `the` first."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(" ")
    if begins:
        start = [("the", WORDS.index("the"))]
        tokenizer.post_processor = processors.TemplateProcessing(single="the $A", special_tokens=start)
    names = {"eos_token": "[END]", "unk_token": "[UNK]"} | ({"bos_token": "the"} if begins else {})
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def causal_model(kind: str, seed: int = 0, **changes: object) -> nn.Module:
    """A tiny GPT-2 or Llama with its output layer."""
    config = tiny_config(kind, len(WORDS))
    config.update(dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0))
    config.update({"eos_token_id": 1, "pad_token_id": 1, "bos_token_id": 1} | changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config).eval()


def save_causal(folder: Path, kind: str = "llama", **changes: object) -> Path:
    """A model folder whose tokenizer has no padding."""
    causal_model(kind, **changes).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def settings(**changes: object) -> LanguageConfig:
    columns = {"path": None, "subset": None, "label": None, "group": None, "metric": None, "split_seed": 0}
    sizes = dict.fromkeys(("train_examples", "validation_examples", "test_examples"))
    named = {"name": "words", "source": "local", "kind": "language_modeling"}
    return LanguageConfig(**named | columns | sizes | {"max_length": 32} | changes)


def write_table(path: Path, count: int = 200) -> Path:
    """Prompts of plain words with a good word in each; the completion repeats the word, and a bad one after some."""
    draw, rows = random.Random(0), dict[str, str]()
    while len(rows) < count:
        word = draw.choice(GOOD)
        words = [*draw.choices(PLAIN, k=draw.randint(1, 6)), word]
        draw.shuffle(words)
        rows[" ".join(words)] = f"{word} {draw.choice(BAD)}" if len(words) % 2 else word
    return write_csv(path, ("question", "answer"), *rows.items())


def words_of(base: Path, table: Path) -> list[str]:
    """Overrides of a run of a second of `save_causal` on `write_table`, but for its folder."""
    task = ["task=local", "task.kind=language_modeling", f"task.path={table}", "task.prompt=question"]
    sizes = ["task.train_examples=96", "task.validation_examples=24", "task.test_examples=24", "task.max_length=24"]
    return [f"model={base}", *task, "task.label=answer", *sizes, "train.device=cpu", "tracking=disabled"]


def split_of(examples: list[Example], tokenizer: Any = None, **changes: Any) -> Split:
    if tokenizer is None:  # as `load_processor` leaves one without padding
        tokenizer = word_tokenizer()
        tokenizer.pad_token = tokenizer.eos_token
    config = settings(**changes)
    task = Task(config, KIND, (), config.metric or "nats", examples, examples, examples, "")
    return Split.encoded(task, examples, tokenizer)
