"""What the program tells its user to type, collected from the source: each `type …`, each `python -m …`.

A suggestion is cut out of the string in which it stands. A hole of an f-string gets a plausible value from `HOLES`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRINTED = ("lorax_lab", "analysis", "experiments")
TYPE = re.compile(r"(?<!module )(?<!by )\btyp(?:e|ing):? (?!of )(`?)(.*)")
COMMAND = re.compile(r"()((?:python -m|lorax-lab) [\w.]+.*)")
FOR_INSTANCE = re.compile(r"(?:for instance|as in) ()(--\S.*|[\w.]+=.*)")
END = re.compile(r"[`;)]| {2,}|: |\. |, (?!or )|[.,]$| (?:to|in|for|with|as|and|is|at|of|on|says|does|—) ")
"""Where a suggestion ends: the sentence goes on with words that are not typed."""
OR = re.compile(r",? or (?=[\w.]+=|--)")
HOLES = {
    "PORT": "7860",
    "DRAWS": "3",
    "there": "3",
    "RECORDS": "experiments/records",
    "FIRST_PORT": "7860",
    "other": "8000",
    "runs_dir": "runs",
    "later(runs_dir)": "python -m lorax_lab.windows sync runs",
    "later(runs_dir, TRACKIO)": "python -m lorax_lab.windows sync runs --mode trackio",
    "study": "rank_sweep",
    "name": "rank_sweep",
    "again": "python -m lorax_lab.run rank=4,8,16 -m",
    "min(shape)": "4",
    "path": "my.csv",
    "path.stem": "rank_sweep",
    "records.name": "rank_sweep",
    "self.path.stem": "rank_sweep",
    "self.path.parent": "experiments/records",
    "limit": "64",
    "option": "-i",
    "of_split": " --value split=test",
    "most": "64",
    "gpus": "2",
    "NAME": "pairs train.precision",
    "max(fit, 1)": "2",
    "longest + 1": "64",
    "longer": "64",
    "meant": "learning_rate",
    "theirs": "lr",
    "tested": "test_accuracy",
    "folder": "FOLDER",
    "folder.parent": "runs",
    "role": "train",
    "value": "org/name",
    "word": "seed",
    "override": "seed",
    "override.split(LISTS)[-1]": "rank=4,8",
    "highest": "4",
    "ranked": "method=lora",
    "shape.longest": "512",
    "command": "serving --help",
    "REFERENCE": "full",
    "next(iter(plan.tasks))": "sarcasm",
    "scored.replace(', ', ' or task=')": "tweets or task=editorials",
    "' or '.join(fitting)": "task=tweets or task=editorials",
    "WRITER": "python -m lorax_lab.audit BASE TUNED",
    "MAKER": "python -m lorax_lab.card runs/RUN --task",
    "writer": "python -m lorax_lab.serve",
    "with_base": "python -m lorax_lab.card ADAPTER --base BASE",
    "install": "python -m ensurepip, or uv pip install pip",
}
"""A plausible value for each hole of a suggestion."""


@dataclass(frozen=True)
class Suggestion:
    """One suggestion: the module that prints it, and what to type, with holes."""

    module: str
    text: str


def strings(tree: ast.Module) -> Iterator[str]:
    """Every string of a module that is no docstring; an f-string as one, each hole as `{expression}`."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inside = {
        id(v) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for v in ast.walk(node) if v is not node
    }
    for node in ast.walk(tree):
        if id(node) in docs | inside:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(_part(value) for value in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _part(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return str(value.value)
    assert isinstance(value, ast.FormattedValue)
    expression = ast.unparse(value.value)
    return HOLES.get(expression, "{" + expression.replace("{", "").replace("}", "") + "}")


def cut(text: str) -> Iterator[str]:
    """The suggestions in a string, each alternative by itself.

    >>> list(cut("rank=9 is too high; type rank=8, or leave it out")), list(cut("so type `make run` now"))
    (['rank=8'], ['make run'])
    >>> list(cut("type measure=standard, or method=full")), list(cut("type train.precision=bf16 or fp32"))
    (['measure=standard', 'method=full'], ['train.precision=bf16', 'train.precision=fp32'])
    """
    for line in text.splitlines():
        for pattern in (TYPE, COMMAND, FOR_INSTANCE):
            for match in pattern.finditer(line):
                whole = match[2].partition("`")[0] if match[1] else _ended(match[2])
                for part in OR.split(whole):
                    yield from _values(part.strip(" ,."))


def _ended(text: str) -> str:
    """Up to the end of what is typed; nothing in quotes or in a hole ends it."""
    masked = re.sub(r"\{[^{}]*\}|'[^']*'|\"[^\"]*\"", lambda quoted: "x" * len(quoted[0]), text)
    end = END.search(masked)
    return text[: end.start()] if end else text


def _values(part: str) -> Iterator[str]:
    """`key=a or b` as `key=a` and `key=b`, `a|b` as `a` and `b`; what follows another "or" is not typed."""
    first, *others = re.split(r",? or ", part)
    choices = re.search(r"\w+(\|\w+)+", first)
    if choices:
        yield from (first.replace(choices[0], choice) for choice in choices[0].split("|"))
    elif first:
        yield first
    for other in others:
        if re.fullmatch(r"[\w.-]+", other) and re.fullmatch(r"[\w.]+=\S+", first):
            yield f"{first.partition('=')[0]}={other}"


def collect(root: Path = ROOT) -> list[Suggestion]:
    """Every suggestion, each once for each module that prints it."""
    found: dict[Suggestion, None] = {}
    for folder in PRINTED:
        for path in sorted((root / folder).rglob("*.py")):
            module = ".".join(path.relative_to(root).with_suffix("").parts)
            for text in strings(ast.parse(path.read_text(encoding="utf-8"))):
                found |= dict.fromkeys(Suggestion(module, part) for part in cut(text))
    return list(found)
