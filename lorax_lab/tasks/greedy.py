"""Greedy decoding: the likeliest token each time, and nothing else; what a causal model answers to prompts, compared
with the completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lorax_lab.errors import ConfigError
from lorax_lab.tasks.kind import Inputs, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

METRIC = "exact_match"
"""The score that needs it."""
IGNORED = -100
"""The label of a token that is not predicted, as in torch and transformers."""


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a completion: the tokenizer's end token, or its separator where it has no end token.

    Raises:
        ConfigError: it has neither.
    """
    for token in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        if isinstance(token, int):
            return token
    where = f"the tokenizer of {tokenizer.name_or_path} has no end token, and a completion ends with one"
    raise ConfigError(f"{where}; set eos_token in its tokenizer_config.json, or name another model")


def pad(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], side: str = "right") -> Inputs:
    """What a tokenizer made of each row, padded on one side to the longest: each key as (n, longest), long."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = end_token(tokenizer)
    tokenizer.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = True  # these are no texts: nothing is faster
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    padded = tokenizer.pad(columns, padding_side=side, return_tensors="pt")
    return {key: torch.as_tensor(padded[key]) for key in columns}


def attended(ids: list[int]) -> Row:
    """A row of tokens that are all attended to, also where they have the padding's id."""
    return {"input_ids": ids, "attention_mask": [1] * len(ids)}


def decode(model: Any, inputs: Inputs, longest: int, end: int, filler: int) -> Tensor:
    """The start of each row and what `model` writes after it, the likeliest token each time, to the token `end` or to
    `longest` tokens: (n, length), padded on the right with `filler`.

    The generation settings in the base's folder are not used. Many bases have some: a penalty of repetitions makes a
    model miss 77, and Whisper may write no bracket.
    """
    from transformers import GenerationConfig, GenerationMixin

    settings, model.generation_config = model.generation_config, GenerationConfig()
    start = int(inputs["decoder_input_ids"][0, 0]) if "decoder_input_ids" in inputs else None
    tokens: dict[str, Any] = {"eos_token_id": end, "pad_token_id": filler, "decoder_start_token_id": start}
    try:
        written: Tensor = GenerationMixin.generate(
            model, **inputs, **tokens, max_new_tokens=longest, do_sample=False, num_beams=1
        )
    finally:
        model.generation_config = settings
    return written


def matches(model: Any, inputs: Inputs, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Whether `model` goes on from each prompt with exactly the text of its completion, and then ends: (n,) of 0 and 1.

    Spaces around a text do not count. As many tokens are made as the longest completion of the batch has. Rows for
    which the model has no positions together are gone on with one by one.
    """
    labels, end = inputs["labels"], end_token(tokenizer)
    rows = [ids[mask.bool()] for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]
    targets = [row[row != IGNORED].tolist() for row in labels]
    prompts = [attended(ids[: len(ids) - len(target)].tolist()) for ids, target in zip(rows, targets, strict=True)]
    batch = {key: value.to(labels.device) for key, value in pad(tokenizer, prompts, "left").items()}
    longest, positions = max(map(len, targets)), getattr(model.config, "max_position_embeddings", None)
    if positions is not None and len(rows) > 1 and batch["input_ids"].shape[1] + longest > positions:  # each alone fits
        alone = ({key: value[[i]] for key, value in inputs.items()} for i in range(len(rows)))
        return torch.cat([matches(model, one, tokenizer) for one in alone])
    made = decode(model, batch, longest, end, int(tokenizer.pad_token_id))

    def text(ids: list[int]) -> str | None:
        """What stands before the first end token."""
        return str(tokenizer.decode(ids[: ids.index(end)])).strip() if end in ids else None

    answers = made[:, batch["input_ids"].shape[1] :].tolist()
    right = [text(answer) == text(target) for answer, target in zip(answers, targets, strict=True)]
    return torch.tensor(right, dtype=torch.float32, device=labels.device)
