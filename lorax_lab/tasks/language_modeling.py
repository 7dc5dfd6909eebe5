"""Language modeling: a causal model goes on from a prompt with its completion, or from nothing with a whole text.

A row is the prompt's tokens, the completion's and the end token. Only the last two are predicted. Prompt and completion
are tokenized apart, with `task.separator` before the completion, or the tokenizer's chat template around the prompt.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorax_lab.config import TaskConfig
from lorax_lab.config.checks import FROM_ZERO, require
from lorax_lab.data import Example
from lorax_lab.errors import ConfigError, in_short
from lorax_lab.record.folder import UNTRAINED
from lorax_lab.tasks import greedy
from lorax_lab.tasks.greedy import IGNORED, end_token
from lorax_lab.tasks.kind import Inputs, Metric, Row, ratio_of_sums
from lorax_lab.tasks.text import TextKind, require_length

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DAY, CLOCK = "01 Jan 2024", "strftime_now"
"""The day that a chat template is told, and what reads the run's own: then the same run would be another tomorrow."""
LOGITS = 2**26
"""Logits that one pass of scoring makes at most, unless one example has more: 256 MiB."""


@dataclass
class LanguageConfig(TaskConfig):
    """Settings of language modeling.

    Attributes:
        prompt: the prompts' column; null for plain text. `label` is the column of the completions, or of the texts.
        separator: stands between prompt and completion, and is predicted with the completion.
        max_length: tokens of a row; a longer prompt is cut on its left, the completion never.
        few_shot: training examples in the prompt by which the untrained model is scored too; 0 for none.
        chat: whether the prompt is a user's message in the tokenizer's chat template, which the completion answers.
            Then no separator stands between them.
    """

    inputs: ClassVar[Mapping[str, str]] = {"prompt": "text"}
    labels: ClassVar[str] = "texts"
    labels_suffice: ClassVar[bool] = True

    prompt: str | None = None
    separator: str = " "
    max_length: int = 128
    few_shot: int = field(default=4, metadata=FROM_ZERO)
    chat: bool = field(default=False, metadata={"neutral": False})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_length(self.max_length)
        needs = "without a prompt there is no message to answer; type task.prompt=prompt, or leave task.chat out"
        require(not self.chat or self.prompt is not None or self.path is None, "task.chat", self.chat, needs)


def _require_completions(
    examples: Sequence[Example], completions: Sequence[list[int]], config: LanguageConfig, unknown: int | None
) -> None:
    for example, completion in zip(examples, completions, strict=True):
        if not str(example.label).strip() or len(completion) < 2:
            empty = f"task.label: the tokenizer makes no token of the completion {str(example.label)[:40]!r}"
            raise ConfigError(f"{empty}, and there is nothing to learn; leave that row out")
        if unknown is not None and set(completion[:-1]) == {unknown}:
            strange = f"task.label: the tokenizer knows no part of the completion {str(example.label)[:40]!r}"
            raise ConfigError(f"{strange}; leave that row out, or name a model whose tokenizer does")
    longest = max(map(len, completions))
    if longest >= config.max_length:
        long = sum(len(completion) >= config.max_length for completion in completions)
        many = f"{long} of {len(completions)} completions have no room in task.max_length={config.max_length} tokens"
        raise ConfigError(
            f"{many}, with the end token and one token before it; a completion is never cut: leave those rows out, "
            f"or, with a model that reads so many, type task.max_length={longest + 1}"
        )


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def _in_chat(tokenizer: PreTrainedTokenizerBase, message: str) -> str:
    """The text before an answer to this message of a user.

    Raises:
        ConfigError: the tokenizer has no chat template, one that reads the date, or one that refuses the message.
    """
    if not tokenizer.chat_template:
        lacks = f"the tokenizer of {tokenizer.name_or_path} has no chat template"
        raise ConfigError(f"task.chat=true: {lacks}; leave task.chat out, or name a model that has one")
    if CLOCK in tokenizer.chat_template and "date_string" not in tokenizer.chat_template:
        dated = f"the chat template of {tokenizer.name_or_path} reads today's date"
        raise ConfigError(f"task.chat=true: {dated}, so a run would be another one tomorrow; write a date into it")
    messages = [{"role": "user", "content": message}]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, date_string=DAY))
    except Exception as error:  # a template is a program of somebody else's, and raises what it likes
        fault = f"the chat template of {tokenizer.name_or_path} fails on {message[:40]!r}: {in_short(error)}"
        raise ConfigError(f"task.chat=true: {fault}; leave task.chat out, or mend its template") from error


def _start(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token that the tokenizer puts before every text, where it does."""
    begun = tokenizer("")["input_ids"][:1]
    return begun if begun and begun[0] == tokenizer.bos_token_id else []


def _first(labels: Tensor) -> int:
    return int((labels != IGNORED).any(0).nonzero()[0])


def _predictions(model: nn.Module, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The logits (n, m, vocabulary) from which the targets (n, m) are predicted, from the batch's first target on: the
    logits at one place predict the token at the next. Those of the prompts are not computed where the model allows."""
    labels = inputs["labels"]
    first = _first(labels)
    places = torch.arange(first - 1, labels.shape[1] - 1, device=labels.device)
    read = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    if "logits_to_keep" in inspect.signature(type(model).forward).parameters:
        return model(**read, logits_to_keep=places).logits, labels[:, first:]
    return model(**read).logits[:, places], labels[:, first:]


NATS, TOKENS, EXACT = range(3)
"""What the columns of the outputs are: −log p of a completion, its number of tokens, the end token among them, and
whether greedy decoding gives it, where that is asked for."""
nats = ratio_of_sums(NATS, TOKENS)


def pseudo_values_of_nats(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The pseudo-values of nats per token, (n,).

    >>> pseudo_values_of_nats(np.array([[3.0, 2.0], [1.0, 6.0]]), np.array(["a", "b"]))
    array([1., 0.])
    """
    sums, tokens, score = outputs[:, NATS].astype("f8"), outputs[:, TOKENS].astype("f8"), nats(outputs, labels)
    return score + (sums - score * tokens) / tokens.mean()


def exact_match(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Share of completions that greedy decoding gives, in [0, 1]."""
    return float(outputs[:, EXACT].mean(dtype="f8"))


def commonest(labels: np.ndarray, classes: int) -> float:
    """The share of the most frequent completion, which is the exact match of that answer for every prompt.

    >>> import numpy as np
    >>> commonest(np.array(["yes", "no", "yes "]), 0)
    0.6666666666666666
    """
    counts = Counter(str(label).strip() for label in labels)
    return max(counts.values()) / len(labels)


class LanguageModeling(TextKind):
    """Completions of prompts, or whole texts, by a causal model, whose output layer is pretrained."""

    config = LanguageConfig
    model_class = "AutoModelForCausalLM"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "nats": Metric(nats, higher_is_better=False, pseudo_values=pseudo_values_of_nats),
        greedy.METRIC: Metric(
            exact_match, constant=commonest, pseudo_values=lambda outputs, labels: outputs[:, EXACT].astype("f8")
        ),
    }
    always = ("nats",)

    def encode(self, processor: Any, examples: Sequence[Example], config: Any) -> list[Row]:
        """The tokens of each example: `input_ids`, how many of them `completion` counts (the end token is one), how
        many tokens of the prompt were `cut`, and whether the answer is generated (`greedy`).

        Raises:
            ConfigError: a tokenizer without an end token; a completion of which it makes no token, or that is too long;
                a message in a chat that is too long.
        """
        if not examples:
            return []
        end, start = end_token(processor), _start(processor)
        messages = [example.inputs.get("prompt", "") for example in examples]
        prompts = _tokens(processor, [_in_chat(processor, text) for text in messages] if config.chat else messages)
        separators = [config.separator * ("prompt" in example.inputs and not config.chat) for example in examples]
        texts = [f"{separator}{example.label}" for separator, example in zip(separators, examples, strict=True)]
        completions = [[*ids, end] for ids in _tokens(processor, texts)]
        _require_completions(examples, completions, config, processor.unk_token_id)
        rows = []
        for prompt, completion in zip(prompts, completions, strict=True):
            begins = config.chat and prompt[:1] == start  # by its template
            first = [] if begins else start or ([] if prompt else [end])
            room = config.max_length - len(completion) - len(first)
            if config.chat and len(prompt) > room:
                long = f"a message in its chat template has {len(prompt)} tokens, and task.max_length leaves {room}"
                longer = config.max_length + len(prompt) - room
                raise ConfigError(f"{long}; a chat is never cut: type task.max_length={longer}, or leave that row out")
            tail = prompt[max(0, len(prompt) - room) :]
            row = {"input_ids": [*first, *tail, *completion], "completion": len(completion)}
            rows.append(row | {"cut": len(prompt) - len(tail), "greedy": config.metric == greedy.METRIC})
        return rows

    def seen(self, row: Row) -> Sequence[int]:
        """Tokens of the prompt, and what stands before it."""
        return row["input_ids"][: -row["completion"]]

    def writes(self, row: Row) -> bool:
        return bool(row["greedy"])

    def notes(self, rows: Sequence[Row], config: Any) -> list[str]:
        cut = [row["cut"] for row in rows if row["cut"]]
        if not cut:
            return []
        counted = f"{len(cut)} of {len(rows)} prompts do not fit task.max_length={config.max_length}"
        return [f"{counted}: each is cut on its left, by up to {max(cut)} tokens; no completion is cut"]

    def baselines(
        self, processor: Any, train: Sequence[Row], test: Sequence[Row], config: Any, limit: int | None
    ) -> dict[str, list[Row]]:
        """The test rows as they are (`untrained`), and behind the first `task.few_shot` training rows (`few_shot_4`).

        The first training rows are fixed by the data and `task.split_seed`. Each has its end token, as in training, and
        a line break, without which a model does not tell the examples apart. A token that begins texts stands once.
        Where so many do not fit before the longest test row, only the first that fit are taken; the name says how many.
        """
        (line_break,) = _tokens(processor, ["\n"])
        shots = [row["input_ids"] + line_break for row in train[: config.few_shot]]
        longest = max(map(self.size, test))
        while limit is not None and shots and sum(map(len, shots)) + longest > limit:
            shots.pop()
        rows = {UNTRAINED: list(test)}
        if shots:
            begun = len(_start(processor))
            before = shots[0] + [token for shot in shots[1:] for token in shot[begun:]]
            rows[f"few_shot_{len(shots)}"] = [row | {"input_ids": before + row["input_ids"][begun:]} for row in test]
        return rows

    def collate(self, processor: Any, rows: Sequence[Row], labels: Any) -> Inputs:
        """One batch, padded on the right: `input_ids`, `attention_mask` and `labels`, each (n, longest), and `greedy`
        (n,) where answers are to be generated.

        A label is the token itself in the completion, its end token included, and `IGNORED` elsewhere. Only a token's
        place decides that: the padding may have the end token's id.
        """
        batch = greedy.pad(processor, [greedy.attended(row["input_ids"]) for row in rows])
        targets = torch.full_like(batch["input_ids"], IGNORED)
        for target, row in zip(targets, rows, strict=True):
            end, start = self.size(row), self.size(row) - row["completion"]
            target[start:end] = torch.tensor(row["input_ids"][start:])
        batch["labels"] = targets
        return batch | ({"greedy": torch.ones(len(rows))} if rows[0]["greedy"] else {})

    def weight(self, inputs: Inputs) -> float:
        """How many tokens of a batch are predicted."""
        return float((inputs["labels"] != IGNORED).sum())

    def loss(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """−log p in nats of the completions' tokens, the mean over all of them in the batch, a scalar."""
        logits, targets = _predictions(model, inputs)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED)

    def outputs(self, model: nn.Module, inputs: Inputs, processor: Any) -> Tensor:
        """`NATS` and `TOKENS` of each example, (n, 2), with `EXACT` (n, 3)."""
        labels = inputs["labels"]
        vocabulary = int(getattr(model.config.get_text_config(), "vocab_size", 1))  # type: ignore[operator,union-attr]
        rows = max(1, LOGITS // (vocabulary * (labels.shape[1] - _first(labels) + 1)))
        parts = []
        for start in range(0, len(labels), rows):
            logits, targets = _predictions(model, {key: value[start : start + rows] for key, value in inputs.items()})
            nats = F.cross_entropy(logits.transpose(1, 2).float(), targets, ignore_index=IGNORED, reduction="none")
            parts.append(torch.stack([nats.sum(1), (targets != IGNORED).sum(1)], 1))
        scores = torch.cat(parts)
        if "greedy" not in inputs:
            return scores
        return torch.cat([scores, greedy.matches(model, inputs, processor)[:, None]], 1)
