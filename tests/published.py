"""The built-in tasks' files, made here in the format they are published in, and what of them must not be shared.

Every file has copies, near-copies, documents and chains of them that leak between splits unless they are grouped.
"""

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Hashable
from pathlib import Path

from lorax_lab.config import TaskConfig
from lorax_lab.data import Example
from lorax_lab.data.source import content_key
from lorax_lab.launch.compose import compose
from lorax_lab.tasks import Task

ALL = {"train_examples": None, "validation_examples": None, "test_examples": None}
Ties = Callable[[Example], set[Hashable]]


def settings(name: str, *words: str, **changes: object) -> TaskConfig:
    return dataclasses.replace(compose([f"task={name}", *words]).task, **changes)


def splits(task: Task) -> list[list[Example]]:
    return [task.train, task.validation, task.test]


def everything(task: Task) -> list[Example]:
    return task.train + task.validation + task.test


def group_of(task: Task) -> dict[str, str | None]:
    return {e.inputs["text"]: e.group for e in everything(task)}


# ---- content as published, made here


def rated_lines(rows: list[tuple[str, float, str]]) -> str:
    return "\r\n".join(f"{name}\t{score}\t{text}" for name, score, text in rows)


def documents() -> str:
    """40 documents of 5 sentences; every sixth has a sentence, but for punctuation, of the next one."""
    rows = [(f"{d}_{i}", (-1.0) ** (d + i) * (1 + i / 9), f"part {i} of text {d}") for d in range(40) for i in range(5)]
    rows += [(f"{d}_6", 2.5, f"Wow, {d // 6}!") for d in range(0, 40, 6)]
    return rated_lines(rows + [(f"{d + 1}_6", 1.5, f"wow {d // 6} ...") for d in range(0, 39, 6)])


def tweets() -> str:
    """60 tweets, each with a louder variant, and for every third its retweet."""
    words = [chr(97 + i % 26) * (2 + i // 26) for i in range(60)]
    plain = [(str(i), (-1.0) ** i * 2, f"so {word}. Yay.") for i, word in enumerate(words)]
    loud = [(str(100 + i), (-1.0) ** i * 3, f"SO {word}! Yay!!") for i, word in enumerate(words)]
    again = [
        (str(200 + i), (-1.0) ** i * 2, f"RT @anonymous so {word}. Yay") for i, word in list(enumerate(words))[::3]
    ]
    return rated_lines(plain + loud + again)


def headlines() -> str:
    rows = [(f"area man number {chr(97 + i % 26)}{i // 26} 'loves' nap", i % 2) for i in range(150)]
    near = [(text.replace("'", ""), label) for text, label in rows[::4]]
    order = {"role": "system", "content": "Respond with only a 1 or 0"}
    chats = [([order, {"role": "user", "content": text}], str(label)) for text, label in rows + near + rows[:10]]
    return "".join(json.dumps({"input": c, "ideal": label}, ensure_ascii=False) + "\n" for c, label in chats)


def questions() -> str:
    """60 articles of up to three passages, some asked about twice; some questions are asked of two articles."""
    rows = [(f"is fact {a} {i} so", f"Thing {a} -- Fact {i} of {a}.", i == 0) for a in range(60) for i in range(a % 4)]
    rows += [(f"and what of {a}", f"Thing {a} -- Fact 0 of {a}.", True) for a in range(1, 60, 5)]
    rows += [(f"is fact {a} 0 so?", f"Other {a} -- Elsewhere {a}.", False) for a in range(1, 60, 7)]
    labelled = [{"question": q, "passage": p, "idx": i, "label": y} for i, (q, p, y) in enumerate(rows)]
    hidden = [{"passage": "Secret -- hidden.", "question": "is it hidden", "idx": 0}]
    return "".join(json.dumps(row) + "\n" for row in [*labelled, *hidden])


CONTENT: dict[str, Callable[[], str]] = {
    "movie_reviews": tweets, "product_reviews": documents, "editorials": documents, "tweets": tweets,
    "sarcasm": headlines, "boolq": questions, "boolq_lm": questions,
}  # fmt: skip
TABLE_ROWS = [{"text": f"sentence {i % 90}", "label": "ab"[i % 90 % 2], "document": i // 7} for i in range(200)]


def local_table(folder: Path) -> TaskConfig:
    path = folder / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in TABLE_ROWS))
    words = [f"task.path={path}", "task.text=text", "task.label=label", "task.group=document"]
    return settings("local", *words)


def hub_folder(folder: Path) -> TaskConfig:
    """Own splits, of which the later ones repeat rows of `train`; every other one under another document."""
    for role, start in (("train", 0), ("validation", 60), ("test", 80)):
        rows = [row | {"text": f"{row['text']} {i}"} for i, row in enumerate(TABLE_ROWS[start:100], start)]
        moved = [row | {"document": f"{role} {i}"} if i % 2 else row for i, row in enumerate(rows)]
        (folder / f"{role}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in moved))
    words = [f"task.path={folder}", "task.text=text", "task.label=label", "task.group=document"]
    return settings("hub", *words)


# ---- what must not be shared


def shared(task: Task, ties: Ties) -> set[Hashable]:
    """What is in two splits."""
    held = [set().union(*(ties(e) for e in rows)) for rows in splits(task)]
    return set().union(*(a & b for a, b in itertools.combinations(held, 2)))


def text_and_group(example: Example) -> set[Hashable]:
    return {content_key(example)} | ({example.group} - {None})


def letters(text: str) -> str:
    """Letters and digits alone; of a tweet without whom it addresses, and without the mark of a retweet."""
    return "".join(c for c in re.sub(r"@\w+|https?:\S+|\bRT\b", "", text).casefold() if c.isalnum())


def _question_and_passage(prompt: str) -> set[Hashable]:
    passage, _, question = prompt.removesuffix("?\nAnswer:").partition("\nQuestion: ")
    return {("question", letters(question)), ("passage", letters(passage))}


def origins(name: str, content: str) -> Ties:
    """What must not be shared, read off the file and not off the examples' groups."""
    if name == "boolq":
        return lambda e: {
            ("question", letters(e.inputs["text"])),
            ("passage", letters(e.inputs["text_pair"])),
            ("article", e.inputs["text_pair"].split(" -- ")[0]),
        }
    if name == "boolq_lm":
        return lambda e: {("article", e.inputs["prompt"].split(" -- ")[0]), *_question_and_passage(e.inputs["prompt"])}
    if name == "sarcasm":
        return lambda e: {letters(e.inputs["text"])}
    held: dict[str, set[Hashable]] = {}
    for line in content.replace("\r", "").split("\n"):
        sentence, _, text = line.split("\t", 2)
        document = {("document", sentence.split("_")[0])} if "_" in sentence else set()
        held.setdefault(text, set()).update(document | ({letters(text)} - {""}))
    return lambda e: held[e.inputs["text"]]
