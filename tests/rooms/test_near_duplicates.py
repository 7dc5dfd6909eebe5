"""Near duplicates: twins that differ in nothing a person would call another example are in one split."""

import io
import json
import random
import re
from collections.abc import Callable
from itertools import cycle, product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from published import settings

from lorax_lab.config.identity import plain
from lorax_lab.data import Example, Pools, data_sha256, near_duplicates
from lorax_lab.data.leaks import _notes_of_labels
from lorax_lab.data.near_duplicates import LARGEST, grouped
from lorax_lab.data.source import content_key
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose, recorded
from lorax_lab.record.folder import save_config
from lorax_lab.record.variation import overrides
from lorax_lab.tasks import UNGROUPED_NOTE, Task, load_task

PARTS = ("bdfgklmprt", "aeiou", ("nto", "rsk", "vel", "dax", "gum", "pish", "zor", "quel"))
NOUNS = ["".join(parts) for parts in product(*PARTS)]
TWINS: dict[str, Callable[[str], str]] = {
    "tags": lambda text: " ".join(f"<b class='x'>{word}</b>" for word in text.split()),
    "no spaces": lambda text: text.replace(" ", ""),
    "separators of thousands": lambda text: re.sub(r"\d+", lambda number: f"{int(number[0]):,}", text),
    "accents": lambda text: text.translate(str.maketrans("aeiou", "áèîöũ")),
    "Arabic digits": lambda text: text.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")),
    "the first 70 %": lambda text: text[: len(text) * 7 // 10],
    "a sentence before": lambda text: f"Sent from my phone while I was on the way. {text}",
    "Cyrillic letters": lambda text: text.translate(str.maketrans("aeopx", "аеорх")),
    "misprints": lambda text: " ".join(word[1:] if i % 5 == 0 else word for i, word in enumerate(text.split())),
    "a link": lambda text: f"{text} https://example.com/{text[:9].replace(' ', '')}",
    "signs without a shape": lambda text: "".join(map("".join, zip(text, cycle("\u034f\u3164\ufe0f\u2800")))),
    "order of words": lambda text: " ".join(reversed(text.split())),
    "a letter": lambda text: f"y{text[1:]}",
}
pytestmark = pytest.mark.usefixtures("cache")
OFF = "task.group_near_duplicates=false"


def sentences(count: int) -> list[str]:
    draw = random.Random(0)
    return [" ".join([*draw.sample(NOUNS, 14), str(draw.randrange(10**4, 10**7))]) for _ in range(count)]


def table(path: Path, twin: Callable[[str], str], opposite: bool) -> list[str]:
    """200 sentences and their twins, of the same or the opposite label."""
    originals = [(text, i % 2) for i, text in enumerate(sentences(200))]
    rows = [*originals, *((twin(text), label ^ opposite) for text, label in originals)]
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    return ["local", f"task.path={path}", "task.text=text", "task.label=label"]


def straddling(task: Task, twin: Callable[[str], str]) -> int:
    """How many test examples have their twin in training."""
    train = {example.inputs["text"] for example in task.train}
    back = {twin(text): text for text in sentences(200)}
    there = {text: other for other, text in back.items()}
    return sum({back.get(text), there.get(text)} & train != set() for text in (e.inputs["text"] for e in task.test))


@pytest.mark.parametrize("opposite", [False, True])
@pytest.mark.parametrize("name", TWINS)
def test_no_twin_of_a_test_example_is_trained_on_unless_that_is_asked_for(
    name: str, opposite: bool, tmp_path: Path
) -> None:
    words = table(tmp_path / "t.jsonl", TWINS[name], opposite)
    task, leaking = load_task(settings(*words)), load_task(settings(*words, OFF))
    assert straddling(leaking, TWINS[name]) > 20
    assert straddling(task, TWINS[name]) == 0
    assert leaking.notes == (UNGROUPED_NOTE,)
    (note,) = task.notes
    assert note.startswith("400 examples are near duplicates")
    assert ("200 of them with different labels" in note) == opposite
    assert sentences(1)[0][:40] in note


def test_prompts_and_their_twins_are_in_one_split_and_writers_stay_whole(tmp_path: Path) -> None:
    """300 writers with four prompts of their own; 40 more prompts have a copy and a twin of other writers."""
    draw, texts = random.Random(0), sentences(1240)
    rows = [{"text": text, "by": i // 4} for i, text in enumerate(texts[:1200])]
    for text in texts[1200:]:
        forms = (text, text, f"{text}!")
        rows += [{"text": form, "by": by} for form, by in zip(forms, draw.sample(range(300), 3), strict=True)]
    draw.shuffle(rows)
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row | {"label": "ab"[i % 2]}) + "\n" for i, row in enumerate(rows)))
    by = {row["text"]: row["by"] for row in reversed(rows)}  # the first copy is the one that is taken
    columns = ["task.kind=language_modeling", "task.prompt=text", "task.label=label", "task.group=by"]
    splits = load_task(settings("local", f"task.path={path}", *columns)).splits
    writers = [{by[example.inputs["prompt"]] for example in examples} for examples in splits.values()]
    assert sum(map(len, writers)) == len(set.union(*writers)) > 290
    prompts = [{example.inputs["prompt"].rstrip("!") for example in examples} for examples in splits.values()]
    assert sum(map(len, prompts)) == len(set.union(*prompts))


def test_the_note_counts_and_shows_the_twins_and_not_what_else_their_writers_wrote() -> None:
    texts = sentences(60)
    rows = [Example({"text": text}, 0, str(i // 10)) for i, text in enumerate(texts)]
    rows += [Example({"text": f"{texts[7]}!"}, 1, "5"), *(Example({"text": text}, 0) for text in sentences(900)[60:])]
    pools, said = grouped(Pools("them", ("a", "b"), rows))
    assert len({e.group for e in pools.train[:10]} | {e.group for e in pools.train[50:61]}) == 1
    assert said.startswith("2 examples are near duplicates and stay together, in 1 groups, 1 of them with different")
    assert said.count(texts[7][:40]) == 2
    learned = [Example({}, text) for text in (*texts, f"{texts[7]}!")]
    said = grouped(Pools("them", (), learned))[1]
    assert said.startswith("2 examples are near duplicates and stay together, in 1 groups; such as")


def test_near_duplicates_are_looked_for_once_and_make_another_run(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = table(tmp_path / "t.jsonl", TWINS["tags"], False)
    task = load_task(settings(*words))
    assert task.data_sha256 == data_sha256(task.config) != data_sha256(settings(*words, OFF))
    (kept,) = (cache / "near_duplicates").iterdir()
    content = kept.read_text()
    kept.write_text(content[:-9])
    assert load_task(settings(*words)).splits == task.splits
    assert kept.read_text() == content
    monkeypatch.setattr(near_duplicates, "_join_alike", None)
    again = load_task(settings(*words))
    assert (again.splits, again.notes) == (task.splits, task.notes)


def one_pixel(image: np.ndarray) -> np.ndarray:
    changed = image.copy()
    changed[9, 13] = 255 - changed[9, 13]
    return changed


def as_jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg", quality=80)
    return np.array(Image.open(file))


def groups_of(examples: list[Example]) -> list[str | None]:
    pools, _ = grouped(Pools("them", ("a", "b"), examples))
    return [example.group for example in pools.train]


@pytest.mark.parametrize("twin", [one_pixel, as_jpeg])
def test_images_that_differ_in_a_pixel_or_were_written_again_are_twins(
    twin: Callable[[np.ndarray], np.ndarray],
) -> None:
    draw = np.random.default_rng(0)
    small = [Image.fromarray(draw.integers(0, 256, (5, 5, 3), np.uint8)) for _ in range(60)]
    images = [np.array(image.resize((28, 28), Image.Resampling.BICUBIC)) for image in small]
    groups = groups_of([Example({"image": image}, i % 2) for i, image in enumerate([*images, *map(twin, images)])])
    assert groups[:60] == groups[60:]
    assert len(set(groups)) == 60


@pytest.mark.parametrize(
    "texts",
    [
        [f"The film number {i} is good, and that is all that I have to say of it." for i in range(600)],
        [f"What is {i // 24} plus {1000 + i % 24}?" for i in range(600)],
        [f"{a} {b}" for a in NOUNS for b in NOUNS[:6] if a < b],
        [text for noun in NOUNS for text in (noun, f"{noun} is what I bought")],
        [" ".join(random.Random(i).sample(NOUNS[::16], 8)) for i in range(400)],
    ],
)
def test_short_texts_and_templates_are_no_twins(texts: list[str]) -> None:
    assert set(groups_of([Example({"text": text}, 0) for text in texts])) == {None}


def test_a_chain_ends_before_it_holds_the_whole_table() -> None:
    chain = [" ".join(NOUNS[i : i + 30]) for i in range(60)]
    rest = sentences(600)
    pools, said = grouped(Pools("them", ("a",), [Example({"text": text}, 0) for text in [*chain, *rest]]))
    sizes = [sum(e.group == group for e in pools.train) for group in {e.group for e in pools.train} - {None}]
    assert 1 < max(sizes) <= LARGEST * 660
    assert "stay apart" in said


def test_a_table_without_twins_has_the_split_that_it_had(tmp_path: Path) -> None:
    words = table(tmp_path / "t.jsonl", lambda text: text, False)
    grouped_keys, keys = ([content_key(e) for e in load_task(settings(*words, *more)).test] for more in ([], [OFF]))
    assert grouped_keys == keys


@pytest.mark.parametrize("more", [[], [OFF]])
def test_a_record_says_whether_it_was_grouped_and_one_without_the_setting_was_not(
    more: list[str], tmp_path: Path
) -> None:
    config = compose(["task=local", "task.path=t.csv", "task.text=a", "task.label=b", *more])
    save_config(tmp_path, plain(config))
    assert ("group_near_duplicates" in plain(config)["task"]) == (not more)
    for words in (overrides(plain(config)), recorded(tmp_path / "config.yaml")):
        assert compose(words).task == config.task


def test_labels_that_look_alike_are_said() -> None:
    (note,) = _notes_of_labels(("cat", "c\u0430t"))
    assert r"'cat' and 'c\u0430t'" in note
    assert _notes_of_labels(("1", "10")) == []


def test_a_class_folder_without_a_name_in_unicode_is_refused(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"dog"):
        folder = bytes(tmp_path) + b"/photos/" + name
        Path(folder.decode(errors="surrogateescape")).mkdir(parents=True)
        for i in range(3):
            with open(folder + b"/%d.png" % i, "wb") as file:
                Image.new("RGB", (8, 8), (80 * i, 0, 0)).save(file, "png")
    with pytest.raises(ConfigError, match=r"'caf\\udce9' is not UTF-8; rename it"):
        load_task(settings("image_folder", f"task.path={tmp_path / 'photos'}"))
