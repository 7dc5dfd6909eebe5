"""A card for each task that is built in: what it is, how much there is of it, where from, under which licence."""

from __future__ import annotations

from dataclasses import dataclass

HEADER = "| `task=` | what | rows | examples | classes, share of the largest | metric | licence | source |"
RATED = "MIT as packaged; of the texts not stated"
VADER = "Hutto & Gilbert, ICWSM 2014"


@dataclass(frozen=True)
class Card:
    """One built-in task.

    `rows` are those of the file that have a label; `examples` those of them that have a class, each text once.
    `largest` is the share of the largest class: what a constant prediction scores. `metrics` are the primary
    metric of each kind that the task has, classification first. A licence of data is what the package or the
    source's own repository states.
    """

    what: str
    rows: int
    examples: int
    classes: tuple[str, ...]
    largest: float
    metrics: tuple[str, ...]
    licence: str
    source: str

    def line(self, name: str) -> str:
        """The card as a row of a Markdown table.

        >>> Card("poems", 1200, 1100, ("dull", "bright"), 0.625, ("accuracy",), "CC0", "Doe 2020").line("poems")
        '| `poems` | poems | 1,200 | 1,100 | dull, bright; .625 | accuracy | CC0 | Doe 2020 |'
        """
        classes = f"{', '.join(self.classes)}; {self.largest:.3f}".replace(" 0.", " .")
        sizes = f"{self.rows:,} | {self.examples:,}"
        metrics = ", ".join(self.metrics)
        return f"| `{name}` | {self.what} | {sizes} | {classes} | {metrics} | {self.licence} | {self.source} |"


def _rated(what: str, rows: int, examples: int, largest: float) -> Card:
    """One of the four files of Hutto & Gilbert, whose labels are also scores from -4 to 4."""
    return Card(what, rows, examples, ("negative", "positive"), largest, ("accuracy", "pearson"), RATED, VADER)


CARDS = {
    "movie_reviews": _rated("sentences of film reviews", 10_605, 10_070, 0.504),
    "product_reviews": _rated("sentences of 300 customer reviews", 3_708, 2_977, 0.586),
    "editorials": _rated("sentences of 498 newspaper editorials", 5_190, 2_931, 0.599),
    "tweets": _rated("tweets and tweet-like sentences", 4_200, 3_372, 0.687),
    "sarcasm": Card(
        "headlines of The Onion and of HuffPost",
        28_614,
        28_498,
        ("not sarcastic", "sarcastic"),
        0.525,
        ("accuracy",),
        "MIT as packaged; of the headlines not stated",
        "Misra & Arora, AI Open 2023",
    ),
    "boolq": Card(
        "yes/no question and a passage of Wikipedia",
        12_697,
        12_697,
        ("no", "yes"),
        0.623,
        ("accuracy",),
        "CC BY-SA 3.0",
        "Clark et al., NAACL 2019",
    ),
}


def table() -> str:
    """All cards as a Markdown table, as the README shows it."""
    rule = "|---" * HEADER.count(" | ") + "|---|"
    return "\n".join([HEADER, rule, *(card.line(name) for name, card in CARDS.items())])
