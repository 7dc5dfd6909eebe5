"""Language modeling: which tokens count, checked by hand; greedy decoding; what is refused and what is cut."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOOD, ran
from here import plan
from language import (
    EXAMPLES,
    KIND,
    MODELS,
    PAIRS,
    PLAIN_TEXTS,
    WORDS,
    causal_model,
    save_causal,
    split_of,
    word_tokenizer,
    words_of,
    write_table,
)  # fmt: skip
from torch import nn

from lorax_lab import execute
from lorax_lab.data import Example
from lorax_lab.errors import ConfigError
from lorax_lab.launch.plan import check
from lorax_lab.record import read_record
from lorax_lab.record.folder import CACHE, load_arrays, save_arrays
from lorax_lab.tasks.split import Split, check_unlike

END = WORDS.index("[END]")


def baselines(splits: dict[str, Split], limit: int | None) -> dict[str, Split]:
    train, test = splits["train"], splits["test"]
    rows = KIND.baselines(test.processor, train.rows, test.rows, test.task.config, limit)
    return {name: replace(test, rows=chosen) for name, chosen in rows.items()}


def nats_by_hand(model: nn.Module, prompt: list[int], completion: list[int]) -> float:
    """−Σ log p of the completion, one token after the other, by a softmax in fp64; no batch and no mask."""
    total = 0.0
    for i, token in enumerate(completion):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + completion[:i]])).logits[0, -1].double().numpy()
        weights = np.exp(logits - logits.max())
        total -= math.log(weights[token] / weights.sum())
    return total


def ids(text: str) -> list[int]:
    return [WORDS.index(word) for word in text.split()]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("plain", [False, True])
def test_the_nats_of_a_padded_batch_are_those_taken_by_hand(kind: str, plain: bool) -> None:
    model, split = causal_model(kind), split_of(PLAIN_TEXTS if plain else EXAMPLES)
    pairs = [("", f"{prompt} {completion}") for prompt, completion in PAIRS] if plain else PAIRS
    rows = [(ids(prompt) or [END], [*ids(completion), END]) for prompt, completion in pairs]
    expected = [nats_by_hand(model, *row) for row in rows]
    counts = [len(completion) for _, completion in rows]
    outputs = split.outputs(model)
    assert outputs[:, 1].tolist() == counts
    torch.testing.assert_close(outputs[:, 0].double(), torch.tensor(expected).double(), rtol=1e-6, atol=1e-5)
    batch = split.batch(list(range(len(PAIRS))))
    assert batch.weight == sum(counts)
    assert batch.tokens == sum(len(prompt) + len(completion) for prompt, completion in rows)
    mean = sum(expected) / sum(counts)
    assert KIND.loss(model, batch.inputs).item() == pytest.approx(mean, abs=1e-6)
    assert split.score(model) == {"nats": pytest.approx(mean, abs=1e-6)}


def test_a_tokenizer_that_begins_texts_begins_each_row_once() -> None:
    first = split_of(EXAMPLES[:2], word_tokenizer(begins=True)).rows[0]
    assert first["input_ids"] == [*ids("the the film is good"), END]
    cut = split_of(EXAMPLES, word_tokenizer(begins=True), max_length=8).rows[4]
    assert cut["input_ids"] == [*ids("the a very lovely sweet brave end"), END]
    assert cut["cut"] == 4
    plain = split_of(PLAIN_TEXTS[:2], word_tokenizer(begins=True)).rows[1]
    assert plain["input_ids"] == [*ids("the a bad dull end"), END]


@pytest.mark.parametrize("begins", [False, True])
def test_a_chat_has_the_template_around_the_prompt_and_no_separator(begins: bool) -> None:
    tokenizer = word_tokenizer(begins)
    with pytest.raises(ConfigError, match=r"task\.chat=true: .* has no chat template"):
        split_of(EXAMPLES[:1], tokenizer, chat=True)
    start = "the " if begins else ""
    tokenizer.chat_template = start + "it {{ messages[0].content }}{% if add_generation_prompt %} and{% endif %}"
    with pytest.raises(ConfigError, match=r"a chat is never cut: type task\.max_length="):
        split_of(EXAMPLES[4:5], tokenizer, chat=True, max_length=8)
    row = split_of(EXAMPLES[:1], tokenizer, chat=True).rows[0]
    assert row["input_ids"] == [*ids(f"{start}it the film is and good"), END]
    assert row["completion"] == 2
    tokenizer.chat_template = "{{ strftime_now('%Y') }} {{ messages[0].content }}"
    with pytest.raises(ConfigError, match="reads today's date"):
        split_of(EXAMPLES[:1], tokenizer, chat=True)
    tokenizer.chat_template = (
        "{% if not date_string %}{% set date_string = strftime_now('%Y') %}{% endif %}{{ date_string }}"
    )
    assert tokenizer.decode(split_of(EXAMPLES[:1], tokenizer, chat=True).rows[0]["input_ids"]).count("[UNK]") == 3


def taught(kind: str, split: Split, steps: int) -> nn.Module:
    model = causal_model(kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        KIND.loss(model, split.batch(list(range(len(split.rows)))).inputs).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize(("kind", "steps"), [("gpt2", 12), ("llama", 12), ("llama", 60)])
def test_greedy_decoding_matches_where_every_token_is_the_likeliest(kind: str, steps: int) -> None:
    """Decoding from the prompt gives the completion exactly where each of its tokens has the largest logit behind those
    before it."""
    split = split_of(EXAMPLES, metric="exact_match")
    model = taught(kind, split, steps)
    outputs = split.outputs(model)
    expected = []
    for prompt, completion in PAIRS:
        row, answer = [*ids(prompt), *ids(completion), END], [*ids(completion), END]
        best = model(input_ids=torch.tensor([row])).logits[0].argmax(-1).tolist()
        expected.append(float(best[len(row) - len(answer) - 1 : -1] == answer))
    assert outputs[:, 2].tolist() == expected
    scores = split.score(model)
    assert list(scores) == ["exact_match", "nats"]
    assert scores["exact_match"] == np.mean(expected)
    assert steps != 60 or scores["exact_match"] == 1.0
    assert not model.training


def test_no_row_is_gone_on_with_beyond_the_positions_of_the_model() -> None:
    """Each row has room alone, and a long prompt beside a long completion has none."""
    examples = [Example({"prompt": "the film is a story of a scene"}, "good"), Example({"prompt": "the"}, "good " * 6)]
    split = split_of(examples, metric="exact_match")
    model = causal_model("gpt2", n_positions=max(split.sizes))
    assert split.outputs(model, [[0, 1]])[:, 2].tolist() == split.outputs(model, [[0], [1]])[:, 2].tolist()


OF_BASES: list[dict[str, Any]] = [
    {"repetition_penalty": 50.0, "max_length": 3}, {"suppress_tokens": ids("good"), "eos_token_id": 4},
    {"forced_eos_token_id": WORDS.index("the")}, {"do_sample": True, "temperature": 50.0},
]  # fmt: skip


def test_the_generation_settings_of_a_base_change_no_answer() -> None:
    examples = [*EXAMPLES, Example({"prompt": "the plot"}, "good good good")]
    split = split_of(examples, metric="exact_match")
    model: Any = taught("gpt2", split, 80)
    plain = model.generation_config
    for of_base in [{}, *OF_BASES]:
        model.generation_config = copy.deepcopy(plain)
        for key, value in of_base.items():
            setattr(model.generation_config, key, value)
        before = model.generation_config.to_dict()
        assert split.score(model)["exact_match"] == 1.0, of_base
        assert model.generation_config.to_dict() == before


def test_baselines_are_the_test_rows_and_those_behind_training_rows() -> None:
    splits = {"train": split_of(EXAMPLES[:3]), "test": split_of(EXAMPLES[3:])}
    chosen = baselines(splits, None)
    assert list(chosen) == ["untrained", "few_shot_3"]
    assert chosen["untrained"].rows == splits["test"].rows
    before = [token for row in splits["train"].rows for token in (*row["input_ids"], WORDS.index("\n"))]
    for few, row in zip(chosen["few_shot_3"].rows, splits["test"].rows, strict=True):
        assert few["input_ids"] == before + row["input_ids"]
        assert few["completion"] == row["completion"]
    assert before.count(END) == 3
    model = causal_model("llama")
    expected = [nats_by_hand(model, before + ids(prompt), [*ids(completion), END]) for prompt, completion in PAIRS[3:]]
    outputs = chosen["few_shot_3"].outputs(model)
    torch.testing.assert_close(outputs[:, 0].double(), torch.tensor(expected).double(), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("limit", "names"), [(23, ["few_shot_2"]), (16, [])])
def test_a_few_shot_prompt_that_does_not_fit_has_fewer_shots_and_says_so(limit: int, names: list[str]) -> None:
    splits = {"train": split_of(EXAMPLES[:3]), "test": split_of(EXAMPLES[3:])}
    chosen = baselines(splits, limit)
    assert list(chosen) == ["untrained", *names]
    assert all(size <= limit for split in chosen.values() for size in split.sizes)


def test_a_long_prompt_is_cut_on_its_left_and_counted() -> None:
    split = split_of(EXAMPLES, max_length=8)
    whole = split_of(EXAMPLES)
    assert all(size <= 8 for size in split.sizes)
    for row, uncut in zip(split.rows, whole.rows, strict=True):
        assert row["input_ids"] == uncut["input_ids"][row["cut"] :]
        assert row["completion"] == uncut["completion"]
    assert [row["cut"] for row in split.rows] == [0, 0, 1, 0, 3, 0]
    assert len(KIND.notes(split.rows, split.task.config)) == 1
    assert KIND.notes(whole.rows, whole.task.config) == []


def test_prompts_that_are_all_alike_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"task\.prompt"):
        check_unlike(split_of([Example({"prompt": "the film is"}, word) for word in GOOD]))


@pytest.mark.parametrize("label", ["", "  ", "zyx wvu"])
def test_a_completion_without_tokens_is_refused(label: str) -> None:
    with pytest.raises(ConfigError, match=r"task\.label"):
        split_of([*EXAMPLES, Example({"prompt": "a"}, label)])


CANNOT_BE_READ: dict[str, tuple[dict[str, Any], Callable[[Any], object], str, str, str]] = {
    "prompts above the context": (
        {"max_position_embeddings": 8}, bool, "the end", "good",
        r"\d+ of 144 inputs of task=local are too long: the longest has 1\d tokens, and model=.* reads 8",
    ),
    "an empty completion": ({}, bool, "the end", "", "row 1: task.label=answer is missing"),
    "a completion without room": ({}, bool, "the end", "good " * 24, "1 of .* completions have no room"),
    "a token without a row": (
        {}, lambda tokenizer: tokenizer.add_tokens(["new"]), "the new end", "good",
        "makes token 33 of task=local, and its embedding has 33 rows",
    ),
    "a padding token without a row": (
        {}, lambda tokenizer: tokenizer.add_special_tokens({"pad_token": "[PAD]"}), "the end", "good",
        "pads with token 33, and its embedding has 33 rows; set pad_token",
    ),
    "no end token": (
        {}, lambda tokenizer: setattr(tokenizer, "eos_token", None), "the end", "good", "has no end token"
    ),
    "a chat template that fails": (
        {}, lambda tokenizer: setattr(tokenizer, "chat_template", "{{ raise_exception('no system') }}"), "the end",
        "good", "task.chat=true: the chat template of .* fails on .*: no system; leave task.chat out",
    ),
}  # fmt: skip
"""What is changed of the model and of its tokenizer, a row of the table, and what the message says."""


@pytest.mark.parametrize("name", CANNOT_BE_READ)
def test_what_a_model_cannot_read_is_refused_before_training_in_one_sentence(name: str, tmp_path: Path) -> None:
    sizes, change, prompt, completion, message = CANNOT_BE_READ[name]
    base, tokenizer, path = save_causal(tmp_path / "tiny", **sizes), word_tokenizer(), tmp_path / "answers.csv"
    change(tokenizer)
    tokenizer.save_pretrained(base)
    header, *rows = write_table(path).read_text().splitlines()
    path.write_text("\n".join([header, f"{prompt},{completion}", *rows[1:]]))
    chat = f"task.chat={'true' if tokenizer.chat_template else 'false'}"
    with pytest.raises(ConfigError, match=message) as refused:
        check(plan([*words_of(base, path), f"runs_dir={tmp_path / 'runs'}", "rank=2", chat]))
    assert len(str(refused.value).splitlines()) == 1


def test_the_untrained_model_is_scored_once_for_all_runs_on_the_same_data(tmp_path: Path) -> None:
    words = words_of(save_causal(tmp_path / "tiny-llama"), write_table(tmp_path / "answers.csv"))
    words += [f"runs_dir={tmp_path / 'runs'}", "reference=false", "method=lora", "train.max_steps=1"]

    def untrained(*changes: str) -> float:
        before = set(tmp_path.glob("runs/*/record.json"))
        ran(*words, *changes)
        (made,) = set(tmp_path.glob("runs/*/record.json")) - before
        return float(read_record(made.parent).completed.baselines["untrained/nats"] or 0)

    first = untrained("seed=0")
    (file,) = tmp_path.glob(f"runs/{CACHE}/*.npz")
    written = file.stat().st_mtime_ns
    assert untrained("seed=1", "rank=2") == first
    assert file.stat().st_mtime_ns == written
    ((title, outputs),) = load_arrays(file.parent, file.name).items()
    save_arrays(file, {title: {part: array * [2, 1] for part, array in outputs.items()}})  # they are not believed
    assert untrained("seed=2", "rank=2") == first
    assert untrained("seed=1", "rank=4", "task.few_shot=0") == pytest.approx(first)
    assert untrained("seed=1", "task.split_seed=1") != pytest.approx(first)  # other test examples
    assert len([*file.parent.glob("*.npz")]) == 3


def test_outputs_are_cached_for_the_same_base_examples_and_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change asks for them anew, and the same again does not."""
    split, made = split_of(EXAMPLES), list[int]()

    def outputs(inputs: Any = ("base", "cpu"), rows: Any = split.rows, force: bool = False, name: str = "head") -> Any:
        def compute() -> dict[str, np.ndarray]:
            made.append(len(made))
            return {"test": np.array([len(made)])}

        splits = {"test": replace(split, rows=rows)}
        config: Any = SimpleNamespace(force=force)
        return execute._cached(config, tmp_path, splits, inputs, name, compute)

    first = outputs()
    for change in ({"inputs": ("base", "cuda")}, {"rows": split.rows[1:]}, {"name": "untrained"}, {"force": True}):
        before = len(made)
        outputs(**change)
        assert len(made) == before + 1
    assert outputs() == {"test": first["test"] + 4}  # what was forced stands in its place
    for name in ("hardware", "versions", "code_sha256"):
        with monkeypatch.context() as patch:
            patch.setattr(execute.provenance, name, lambda *_: "another")
            before = len(made)
            outputs()
            assert len(made) == before + 1
    for path in (tmp_path / CACHE).iterdir():
        path.write_bytes(b"cut short")
    before = len(made)
    assert outputs() == outputs()
    assert len(made) == before + 1
