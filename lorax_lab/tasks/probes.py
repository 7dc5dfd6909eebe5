"""Leak probes: what a task scores without being understood. Each is fitted to training examples by scikit-learn, and
scored on the test split as the runs are.

- `majority class`, or `mean` of numbers: one answer for all.
- `length`: letters and words of each text; of an image its height, width and mean colours.
- `token`: whether one token, or pair of tokens, is there: the one that tells the labels best.
- `bag of words`: which tokens and pairs are there, by naive Bayes or, for numbers, by ridge regression.

Images have the first two, and speech none. Language models have them where completions are few and scored by exact
match: nats depend on the tokenizer.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from lorax_lab.data import Example
from lorax_lab.record.clusters import numbered
from lorax_lab.record.direction import oriented
from lorax_lab.record.result import Probe
from lorax_lab.tasks.kind import Task

FITTED_TO, LETTERS, TOKENS = 5000, 1000, 20_000
"""Training examples, letters from the beginning of an example, and most frequent tokens and pairs that are read at
most: so the probes take a second, or a few where there are thousands of long texts."""
COMPLETIONS = 50
"""Different completions up to which a language model's answers count as classes."""
DRAWS = 200
"""Of the test examples, or of their groups, for the interval of a score."""
LEAST = 1e-6
"""Probability of a class at least, also where no training example has it."""


def probes_of(task: Task) -> list[Probe]:
    """The probes that the task allows, scored by its primary metric; none where training has one label alone."""
    train, answers = task.train[:FITTED_TO], list(task.classes)
    if task.config.labels == "texts":
        answers = sorted({str(example.label) for example in train})
        if task.metric != "exact_match" or len(answers) > COMPLETIONS or not train[0].inputs:
            return []
    labels, true = (_labels(examples, task, answers) for examples in (train, task.test))
    if len(set(labels.tolist())) < 2:
        return []
    draws = _draws(numbered([example.group for example in task.test]), len(true))
    probes = []
    for name, model, read, token in _models(train, labels, is_classes=bool(answers)):
        outputs = _outputs(model, read(task.test), len(answers))
        drawn = [oriented(_score(task, outputs[draw], true[draw]), task.higher_is_better) for draw in draws]
        sure = oriented(float(np.quantile(drawn, 0.025)), task.higher_is_better)
        probes.append(Probe(name, _score(task, outputs, true), sure, token))
    return probes


def _draws(groups: np.ndarray | None, count: int) -> Iterable[np.ndarray]:
    """The indices of the test examples of each draw, of which those of one group come together."""
    units = count if groups is None else int(groups.max()) + 1
    drawn = np.random.default_rng(0).integers(units, size=(DRAWS, units))
    if groups is None:
        return drawn
    members = [np.flatnonzero(groups == group) for group in range(units)]
    return [np.concatenate([members[group] for group in draw]) for draw in drawn]


def _labels(examples: Sequence[Example], task: Task, answers: list[str]) -> np.ndarray:
    """Numbers, or the indices of classes; of a completion that no training example has, an index too many."""
    if task.config.labels != "texts":
        return np.array([example.label for example in examples])
    index = {answer: i for i, answer in enumerate(answers)}
    return np.array([index.get(str(example.label), len(answers)) for example in examples])


def _score(task: Task, outputs: np.ndarray, labels: np.ndarray) -> float:
    if task.config.labels == "texts":
        return float((outputs.argmax(axis=1) == labels).mean())
    return task.kind.metrics[task.metric].score(outputs, labels)


def _models(train: list[Example], labels: np.ndarray, is_classes: bool) -> Any:
    """Each fitted probe as (name, model, what reads its features of examples, the token or None)."""
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import Ridge
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    constant, tree = (
        (DummyClassifier, DecisionTreeClassifier) if is_classes else (DummyRegressor, DecisionTreeRegressor)
    )
    sizes = _sizes(train)
    yield "majority class" if is_classes else "mean", constant().fit(sizes, labels), _sizes, None
    shallow = tree(max_depth=3, min_samples_leaf=5, random_state=0)
    yield "length", shallow.fit(sizes, labels), _sizes, None
    if not all(isinstance(value, str) for value in train[0].inputs.values()):
        return
    vectorizer = CountVectorizer(analyzer=_tokens, binary=True, max_features=TOKENS)
    bags = vectorizer.fit_transform(train)
    stump = tree(max_depth=1, random_state=0).fit(bags, labels)
    if (place := stump.tree_.feature[0]) >= 0:
        yield "token", stump, vectorizer.transform, str(vectorizer.get_feature_names_out()[place])
    linear = MultinomialNB() if is_classes else Ridge(alpha=10.0)
    yield "bag of words", linear.fit(bags, labels), vectorizer.transform, None


def _outputs(model: Any, features: Any, classes: int) -> np.ndarray:
    """The logarithm of each class's probability (n, classes), or numbers (n, 1)."""
    if not classes:
        return np.asarray(model.predict(features))[:, None]
    outputs = np.full((features.shape[0], classes), LEAST)
    outputs[:, model.classes_] = np.maximum(model.predict_proba(features), LEAST)
    return np.log(outputs)


def _sizes(examples: Sequence[Example]) -> np.ndarray:
    return np.array([[n for value in e.inputs.values() for n in _size(value)] for e in examples], dtype=float)


def _size(value: Any) -> list[float]:
    if isinstance(value, str):
        return [len(value), len(value.split())]
    return [*value.shape[:2], *value.mean(axis=(0, 1))]


def _tokens(example: Example) -> list[str]:
    """Words and single signs, and pairs of them; case does not count."""
    tokens = re.findall(r"\w+|[^\w\s]", " ".join(example.inputs.values())[:LETTERS].casefold())
    return [*tokens, *map(" ".join, pairwise(tokens))]
