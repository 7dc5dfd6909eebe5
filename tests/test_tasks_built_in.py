"""The built-in tasks: read as published, as large as their cards say, and nothing of one split in another."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Hashable
from pathlib import Path

import pytest

from lorax_lab.assets import ASSETS, fetch
from lorax_lab.compose import CONF, compose
from lorax_lab.config import ConfigError, TaskConfig
from lorax_lab.tasks import SOURCES, Example, Task, boolq, data_sha256, hutto_gilbert, load_task, sarcasm
from lorax_lab.tasks.cards import CARDS, table
from lorax_lab.tasks.groups import connected, keys, wording
from lorax_lab.tasks.score import primary_metric
from lorax_lab.tasks.splits import text_key

ROOT = Path(__file__).parents[1]
RATED = ("movie_reviews", "product_reviews", "editorials", "tweets")
ALL = {"train_examples": None, "validation_examples": None, "test_examples": None}
Serve = Callable[[str, str], TaskConfig]
Ties = Callable[[Example], set[Hashable]]


def settings(name: str, *words: str, **changes: object) -> TaskConfig:
    return dataclasses.replace(compose([f"task={name}", *words]).task, **changes)


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Put `content` where the task's own file would be; returns a configuration that uses every row."""

    def put(name: str, content: str) -> TaskConfig:
        path = tmp_path / f"{name}.data"
        path.write_text(content, encoding="utf-8", newline="")
        files = {name: path}
        monkeypatch.setattr(SOURCES[name], "fetch", files.__getitem__)
        return settings(name, **ALL)

    return put


def splits(task: Task) -> list[list[Example]]:
    return [task.train, task.validation, task.test]


def everything(task: Task) -> list[Example]:
    return task.train + task.validation + task.test


def group_of(task: Task) -> dict[str, str | None]:
    return {e.text: e.group for e in everything(task)}


# ---- content as published, made here


def rated_lines(rows: list[tuple[str, float, str]]) -> str:
    return "\r\n".join(f"{name}\t{score}\t{text}" for name, score, text in rows)


def headline_lines(rows: list[tuple[str, int]]) -> str:
    order = {"role": "system", "content": "Respond with only a 1 or 0"}
    chats = [([order, {"role": "user", "content": text}], str(label)) for text, label in rows]
    return "".join(json.dumps({"input": c, "ideal": label}, ensure_ascii=False) + "\n" for c, label in chats)


def question_lines(rows: list[tuple[str, str, bool]]) -> str:
    labelled = [{"question": q, "passage": p, "idx": i, "label": y} for i, (q, p, y) in enumerate(rows)]
    hidden = [{"passage": "Secret -- hidden.", "question": "is it hidden", "idx": 0}]
    return "".join(json.dumps(row) + "\n" for row in [*labelled, *hidden])


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
    return headline_lines(rows + near + rows[:10])


def questions() -> str:
    """60 articles of up to three passages, some asked about twice; some questions are asked of two articles."""
    rows = [(f"is fact {a} {i} so", f"Thing {a} -- Fact {i} of {a}.", i == 0) for a in range(60) for i in range(a % 4)]
    rows += [(f"and what of {a}", f"Thing {a} -- Fact 0 of {a}.", True) for a in range(1, 60, 5)]
    return question_lines(
        rows + [(f"is fact {a} 0 so?", f"Other {a} -- Elsewhere {a}.", False) for a in range(1, 60, 7)]
    )


CONTENT: dict[str, Callable[[], str]] = {
    "movie_reviews": tweets,
    "product_reviews": documents,
    "editorials": documents,
    "tweets": tweets,
    "sarcasm": headlines,
    "boolq": questions,
}
TABLE_ROWS = [{"text": f"sentence {i % 90}", "label": "ab"[i % 90 % 2], "document": i // 7} for i in range(200)]


def local_table(folder: Path) -> TaskConfig:
    path = folder / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in TABLE_ROWS))
    words = [f"task.path={path}", "task.text=text", "task.label=label", "task.group=document"]
    return settings("local", *words)


def hub_folder(folder: Path) -> TaskConfig:
    for role, start in (("train", 0), ("validation", 60), ("test", 80)):
        lines = [json.dumps(row | {"text": f"{row['text']} {i}"}) for i, row in enumerate(TABLE_ROWS[start:100], start)]
        (folder / f"{role}.jsonl").write_text("\n".join(lines))
    words = [f"task.path={folder}", "task.text=text", "task.label=label", "task.group=document"]
    return settings("hub", *words)


# ---- the law


def shared(task: Task, ties: Ties) -> set[Hashable]:
    """What is in two splits."""
    held = [set().union(*(ties(e) for e in rows)) for rows in splits(task)]
    return set().union(*(a & b for a, b in itertools.combinations(held, 2)))


def text_and_group(example: Example) -> set[Hashable]:
    return {text_key(example)} | ({example.group} - {None})


def letters(text: str) -> str:
    """Letters and digits alone; of a tweet without whom it addresses, and without the mark of a retweet."""
    return "".join(c for c in re.sub(r"@\w+|https?:\S+|\bRT\b", "", text).casefold() if c.isalnum())


def origins(name: str, content: str) -> Ties:
    """What must not be shared, read off the file and not off the examples' groups."""
    if name == "boolq":
        return lambda e: {
            ("question", letters(e.text)),
            ("passage", letters(str(e.text_pair))),
            ("article", str(e.text_pair).split(" -- ")[0]),
        }
    if name == "sarcasm":
        return lambda e: {letters(e.text)}
    held: dict[str, set[Hashable]] = {}
    for line in content.replace("\r", "").split("\n"):
        sentence, _, text = line.split("\t", 2)
        document = {("document", sentence.split("_")[0])} if "_" in sentence else set()
        held.setdefault(text, set()).update(document | ({letters(text)} - {""}))
    return lambda e: held[e.text]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", list(SOURCES))
def test_no_text_and_no_group_in_two_splits(name, seed, serve, tmp_path):
    others = {"local": local_table, "hub": hub_folder}
    config = others[name](tmp_path) if name in others else serve(name, CONTENT[name]())
    task = load_task(dataclasses.replace(config, split_seed=seed))
    assert all(splits(task))
    assert not shared(task, text_and_group)
    if name not in others:
        assert not shared(task, origins(name, CONTENT[name]()))


@pytest.mark.parametrize("name", list(CONTENT))
def test_the_content_made_here_would_leak_without_groups(name, serve):
    """Else the law above would hold for any code."""
    from lorax_lab.tasks.splits import split

    config = serve(name, CONTENT[name]())
    pools = SOURCES[name].read(config)
    ungrouped = [dataclasses.replace(e, group=None) for e in pools.train]
    parts, dropped = split(dataclasses.replace(pools, train=ungrouped), config, "ab" * 32)
    task = Task(name, config.kind, pools.classes, "accuracy", *parts, "", dropped)
    assert shared(task, origins(name, CONTENT[name]()))


# ---- groups


def test_groups_do_not_depend_on_the_order():
    tied = [
        keys(document=d, text=t) for d, t in [("1", "a"), ("2", "b"), ("3", "b"), ("2", "a"), ("4", ""), ("5", "c")]
    ]
    for order in itertools.permutations(range(len(tied))):
        names = dict(zip(order, connected([tied[i] for i in order]), strict=True))
        assert len({names[i] for i in (0, 1, 2, 3)}) == 1
        assert len({names[i] for i in (0, 4, 5)}) == 3


def test_a_chain_of_any_length_is_one_group():
    links = [[f"k {i}", f"k {i + 1}"] for i in range(5000)]
    assert len(set(connected(links))) == 1
    assert len(set(connected([*links[:2500], *links[2501:]]))) == 2


def test_parts_without_words_tie_nothing():
    assert keys(document="", text="?!") == []
    assert connected([[], []]) == [None, None]
    assert keys(question="a", passage="a") == ["question a", "passage a"]
    assert wording("Don’t — ＡＢＣ_9") == "don t abc_9"


def test_documents_that_share_a_sentence_are_one_group(serve):
    rows = [(f"{d}_{i}", 1.0 if i % 2 else -1.0, f"part {i} of {d}") for d in range(30) for i in range(4)]
    shared_rows = [("3_9", 2.0, "Value for money!"), ("8_9", 1.5, "value for money.")]
    task = load_task(serve("product_reviews", rated_lines(rows + shared_rows)))
    groups = group_of(task)
    of_both = {text for text, group in groups.items() if group == groups["Value for money!"]}
    assert of_both == {f"part {i} of {d}" for d in (3, 8) for i in range(4)} | {"Value for money!", "value for money."}
    assert len(set(groups.values())) == 29


def test_retweets_and_louder_variants_are_one_group_and_smileys_none(serve):
    same = ["Yay. We won.", "YAY!! We won!!", "RT @anonymous Yay: we won", "@anonymous yay we won http://url_removed"]
    alone = ["@anonymous :)", "@anonymous :( :("]
    rows = [(str(i), -1.0, f"other {i}") for i in range(40)]
    rows += [(str(50 + i), 2.0, text) for i, text in enumerate(same + alone)]
    groups = group_of(load_task(serve("tweets", rated_lines(rows))))
    assert len({groups[text] for text in same}) == 1
    assert [groups[text] for text in alone] == [None, None]
    assert len(set(groups.values())) == 42


def test_headlines_once_and_near_copies_together(serve):
    rows = [(f"headline {i}", i % 2) for i in range(40)] + [("'bad' to the bone", 1), ("bad to the bone", 1)]
    task = load_task(serve("sarcasm", headline_lines(rows + rows[:3])))
    groups = group_of(task)
    assert groups["'bad' to the bone"] == groups["bad to the bone"]
    assert len(set(groups.values())) == 41
    assert task.dropped == {"blank": 0, "duplicate": 3, "conflicting": 0, "overlap": 0}


def test_what_a_question_is_tied_by(serve):
    rows = [(f"is {i}", f"Thing {i} -- On {i}.", i % 2 == 0) for i in range(40)]
    chain = [
        ("can it be", "Alpha -- One passage.", True),
        ("may it be", "Alpha -- One passage.", False),
        ("will it be", "Alpha -- Another passage.", True),
        ("Can it be?", "Beta -- A third.", False),
        ("was it", "Gamma (old name) -- A third.", True),
    ]
    task = load_task(serve("boolq", question_lines(rows + chain)))
    groups = group_of(task)
    assert len({groups[question] for question, _, _ in chain}) == 1
    assert len(set(groups.values())) == 41
    assert len(everything(task)) == 45
    assert {e.text_pair for e in everything(task) if e.text == "may it be"} == {"Alpha -- One passage."}


def test_groups_too_large_name_the_task(serve):
    rows = [("1_1" if i else "1_0", (-1.0) ** i, f"sentence {i}") for i in range(40)]
    with pytest.raises(ConfigError, match=r"task=editorials makes groups too large to fill three splits of editorials"):
        load_task(serve("editorials", rated_lines(rows)))


# ---- what is read


@pytest.mark.parametrize("name", RATED)
def test_rated_sentences_are_the_clear_ones(name, serve):
    scores = [-2.5, -0.5, -0.49, 0.49, 0.5, 3.0]
    rows = [(f"{i}_1", scores[i % 6], f'sentence {i} says “no” "maybe\ttab') for i in range(60)]
    config = serve(name, rated_lines(rows))
    task = load_task(config)
    assert (task.name, task.classes, len(everything(task))) == (name, ("negative", "positive"), 40)
    for e in everything(task):
        assert e.label == (int(e.text.split()[1]) % 6 >= 4)
        assert e.text.endswith('says “no” "maybe\ttab')
    task = load_task(dataclasses.replace(config, kind="regression"))
    assert (task.classes, task.metric, task.num_labels, len(everything(task))) == ((), "pearson", 1, 60)
    assert all(e.label == scores[int(e.text.split()[1]) % 6] for e in everything(task))


def test_headlines_as_published(serve):
    odd = ["nel\x85line\u2028", 'says "no"', "café ‘x’"]
    rows = [(f"headline {i}", i % 2) for i in range(40)] + [(text, 1) for text in odd]
    task = load_task(serve("sarcasm", headline_lines(rows)))
    assert task.classes == ("not sarcastic", "sarcastic")
    assert {e.text: e.label for e in everything(task)} == dict(rows)


def test_questions_as_published(serve):
    rows = [(f"is {i} — so", f"Thing {i} -- On {i} -- and on.", i % 3 == 0) for i in range(40)]
    task = load_task(serve("boolq", question_lines(rows)))
    assert task.classes == ("no", "yes")
    assert sorted((e.text, e.text_pair, bool(e.label)) for e in everything(task)) == sorted(rows)


@pytest.mark.parametrize("name", ["sarcasm", "boolq"])
def test_classes_are_no_scores(name, tmp_path, monkeypatch):
    monkeypatch.setenv("LORAX_LAB_CACHE", str(tmp_path / "cache"))
    message = rf"task\.kind=regression is not possible with task={name}, .* leave task\.kind out, or type task="
    for use in (data_sha256, load_task):
        with pytest.raises(ConfigError, match=message):
            use(settings(name, "task.kind=regression"))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", list(CARDS))
def test_a_built_in_task_has_no_columns_to_choose(name):
    with pytest.raises(ConfigError, match=rf"task={name} does not read task\.group, and it is set to document"):
        load_task(settings(name, "task.group=document"))


def test_the_hash_of_what_is_built_in_needs_no_file_and_no_library(tmp_path):
    program = f"""
import sys
from lorax_lab.config import TaskConfig
from lorax_lab.tasks import data_sha256
for config in {[dataclasses.asdict(settings(name)) for name in CARDS]!r}:
    print(data_sha256(TaskConfig(**config)))
heavy = {{"torch", "numpy", "pandas", "datasets", "sklearn", "scipy", "transformers", "pyarrow"}}
print(sorted(heavy & set(sys.modules)))
"""
    environment = {"LORAX_LAB_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split("\n")[:-1] == [*(ASSETS[name].pinned[1] for name in CARDS), "[]"]
    assert done.stdout.startswith("c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350")
    assert not (tmp_path / "cache").exists()


# ---- cards


def test_every_built_in_task_has_a_card_a_file_and_a_word_of_help():
    assert set(CARDS) == set(SOURCES) - {"local", "hub"}
    assert table() in (ROOT / "README.md").read_text(encoding="utf-8")
    dials = (CONF / "hydra" / "help" / "dials.yaml").read_text(encoding="utf-8")
    for name, card in CARDS.items():
        assert (CONF / "task" / f"{name}.yaml").is_file()
        assert re.search(rf"^    task=.*(\n {{20}}.*)?\b{name}\b", dials, re.MULTILINE)
        assert card.metrics == tuple(primary_metric(kind, None) for kind in SOURCES[name].KINDS)


@pytest.mark.parametrize("name", list(CARDS))
def test_the_default_sizes_fit_and_can_tell_two_points_apart(name):
    """Two paired predictions on n examples that disagree on a tenth of them differ by .02 ± sqrt(.1 / n)."""
    config, card = settings(name), CARDS[name]
    sizes = [config.train_examples, config.validation_examples, config.test_examples]
    assert sum(map(int, sizes)) <= card.examples
    assert (0.1 / config.validation_examples) ** 0.5 < 0.02
    assert (0.1 / config.test_examples) ** 0.5 < 0.02 / 1.8


# ---- the real files


def read_real(name: str) -> str:
    return fetch(name).read_bytes().decode("utf-8")


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "rows", "clear", "dropped", "groups"),
    [
        ("movie_reviews", 10_605, 10_072, 2, 10_070),
        ("product_reviews", 3_708, 2_985, 8, 285),
        ("editorials", 5_190, 2_970, 39, 497),
        ("tweets", 4_200, 3_432, 60, 3_274),
        ("sarcasm", 28_614, 28_614, 116, 28_496),
        ("boolq", 12_697, 12_697, 0, 8_204),
    ],
)
def test_as_published(name, rows, clear, dropped, groups):
    parse = {"sarcasm": sarcasm.parse, "boolq": boolq.parse}.get(name, hutto_gilbert.parse)
    content, card, task = read_real(name), CARDS[name], load_task(settings(name, **ALL))
    labels = Counter(e.label for e in everything(task))
    assert len(parse(content)) == card.rows == rows
    assert task.dropped == {"blank": 0, "duplicate": dropped, "conflicting": 0, "overlap": 0}
    assert labels.total() == card.examples == clear - dropped
    assert task.classes == card.classes
    assert max(labels.values()) / labels.total() == pytest.approx(card.largest, abs=6e-4)
    named = {e.group for e in everything(task)} - {None}
    assert len(named) + sum(e.group is None for e in everything(task)) == groups


@pytest.mark.network
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", list(CARDS))
def test_nothing_real_leaks(name, seed):
    """In the default splits: no text, no wording, no document, no passage and no article is in two of them."""
    config = settings(name, split_seed=seed)
    task, ties = load_task(config), origins(name, read_real(name))
    assert not shared(task, text_and_group)
    assert not shared(task, ties)
    sizes = (config.train_examples, config.validation_examples, config.test_examples)
    assert tuple(map(len, splits(task))) == sizes
    for rows in splits(task):
        counts = Counter(e.label for e in rows)
        assert max(counts.values()) / counts.total() == pytest.approx(CARDS[name].largest, abs=0.08)


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "conflicting"), [("movie_reviews", 4), ("product_reviews", 21), ("editorials", 134), ("tweets", 120)]
)
def test_real_scores(name, conflicting):
    config = settings(name, "task.kind=regression", **ALL)
    task = load_task(config)
    assert task.dropped["conflicting"] == conflicting
    assert all(-4 <= e.label <= 4 for e in everything(task))
    assert len(everything(task)) + sum(task.dropped.values()) == CARDS[name].rows
    assert not shared(task, origins(name, read_real(name)))
