"""What the program tells its user to type is accepted by the program."""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict
from pathlib import Path

import pytest
from commands import ROOT, accept, accept_overrides
from recorded import run_record
from suggestions import Suggestion, collect

from analysis.groups import load
from lorax_lab.launch.compose import compose, spell_out
from lorax_lab.record.record import write_record

SENTENCES = {
    "a folder": "the sentence lists what BASE may be",
    "a larger --top": "it depends on the spectrum",
    "a list": "its key and its values are the user's own",
    "a number": "an example follows, and is checked",
    "a rank": "an example follows, and is checked",
    "lists": "an example follows, and is checked",
    "smaller numbers": "it depends on the data",
    "the file that": "one of two files of the user",
    "the one": "an example follows, and is checked",
    "the run's command": "the user's own command",
    "the same command": "the user's own command",
    "the same command again": "the user's own command",
}
"""Suggestions in words, and why nothing can be typed to check them."""
OTHERS = {
    "git lfs pull": "git's own",
    "git fetch --unshallow": "git's own",
    "python -m ensurepip": "Python's own; in an environment made without pip",
}
"""Commands of other programs."""
FROM_RUNS = re.compile(r"\{((group\.)?command\(.*\)|typed)\}")
"""A command that is made of recorded runs; `test_a_command_made_of_runs_is_accepted` checks these."""
SUGGESTIONS = collect()


def check(suggestion: Suggestion) -> None:
    """Pass where what is suggested is accepted by the entry that suggests it."""
    text = re.sub(r" …(?= |$)", "", suggestion.text)
    text = re.sub(r"(task\.\w+)=…", r"\1=\1", text).replace("=…", "=1")  # a column of its own for each key
    text = text.replace("lorax-lab COMMAND", "lorax-lab run --help").replace("--help --help", "--help")
    text = text.replace("MODULE", "lorax_lab.run")
    assert "{" not in text, f"give the hole of this suggestion a plausible value in HOLES: {text}"
    if re.match(r"python |lorax-lab |make |pip |uv |eval ", text):
        accept(f"{text} --help" if re.fullmatch(r"python -m [\w.]+", text) else text)
    elif text.startswith("-"):
        _option(suggestion.module, shlex.split(text))
    else:
        assert re.fullmatch(r"([\w./]+=.*?)( -m)?", text), f"this cannot be typed: {text}"
        _overrides(suggestion.module, text)


def _option(module: str, words: list[str]) -> None:
    value = [] if len(words) > 1 or words[0] not in ("--out",) else ["FOLDER"]
    text = shlex.join([*words, *value])
    if module.startswith("lorax_lab.audit") or module.startswith("analysis.audit"):
        accept(f"python -m lorax_lab.audit BASE TUNED {text}")
    elif module.startswith("lorax_lab.card"):
        accept(f"python -m lorax_lab.card ADAPTER {text}")
    elif module.startswith("lorax_lab.memory"):
        accept(f"python -m lorax_lab.memory {text}" if text != "-m" else "python -m lorax_lab.memory rank=1,2 -m")
    elif module.startswith("lorax_lab.dashboard"):
        accept(f"python -m lorax_lab.dashboard {text}")
    elif module.startswith("lorax_lab.windows"):
        accept(f"python -m lorax_lab.windows sync runs {text}")
    elif module.startswith("lorax_lab"):
        accept(f"python -m lorax_lab.run rank={'1,2' if text == '-m' else '4'} {text}")
    elif module == "experiments.planted_everywhere":
        accept(f"python -m {module} {text}")
    elif module.startswith("experiments"):
        accept(f"python -m experiments.rank_sweep {text}")
    elif module == "analysis.study.kept":
        accept(f"python -m analysis similarity STUDY ONE OTHER {text}")
    else:
        own = [name for name in ("study", "report", "paper") if module.startswith(f"analysis.{name}")]
        accept(shlex.join(["python", "-m", "analysis", *own, *words, *value]))


def _overrides(module: str, text: str) -> None:
    if module.startswith("lorax_lab.memory"):
        accept(f"python -m lorax_lab.memory {text}")
    elif text.endswith(" -m"):
        accept(f"python -m lorax_lab.run {text}")
    else:
        words = shlex.split(text)
        words = ["task=local", *words] if module == "lorax_lab.data.labels" else words  # of a table of one's own
        if {"task=local", "task=hub"} & set(words):  # what else these need, the program names when it is lacking
            words += [f"{key}={key}" for key in ("task.path", "task.text", "task.label") if f"{key}=" not in text]
        accept_overrides(words)


@pytest.mark.parametrize("suggestion", SUGGESTIONS, ids=lambda s: f"{s.module}: {s.text}")
def test_what_the_program_says_to_type_is_accepted(suggestion: Suggestion) -> None:
    if suggestion.text in SENTENCES or suggestion.text in OTHERS or FROM_RUNS.fullmatch(suggestion.text):
        return
    check(suggestion)


@pytest.mark.parametrize("text", ["rnak=8", "python -m lorax_lab.run rank=4,8", "--tpo 64", "another rank", "{hole}"])
def test_a_wrong_suggestion_is_found(text: str) -> None:
    with pytest.raises((AssertionError, ValueError, SystemExit)):
        check(Suggestion("lorax_lab.audit.extract", text))


def test_suggestions_are_found() -> None:
    """Two that are known to stand in the source, in a plain string and in an f-string with a hole."""
    assert Suggestion("lorax_lab.config.__init__", "isolate=true") in SUGGESTIONS
    assert Suggestion("lorax_lab.data.splits", "task.train_examples=null") in SUGGESTIONS


def test_no_exception_is_out_of_date() -> None:
    gone = (SENTENCES.keys() | OTHERS.keys()) - {suggestion.text for suggestion in SUGGESTIONS}
    assert not gone, "delete these: nothing says them any more"


def test_the_help_of_a_run_shows_commands_that_are_accepted() -> None:
    text = (ROOT / "conf" / "hydra" / "help" / "dials.yaml").read_text(encoding="utf-8")
    examples = re.findall(r"^ +((?:python -m|lorax-lab) .*?)(?: {2,}.*)?$", text, re.M)
    assert examples
    for example in examples:
        accept(example)


@pytest.mark.parametrize("task", ["task=sarcasm", "task=local task.path=my.csv task.text=sentence task.label=label"])
def test_a_command_made_of_runs_is_accepted(task: str, tmp_path: Path) -> None:
    """`Group.command`, for runs of a built-in task and of the user's own table."""
    config = asdict(compose(spell_out([*task.split(), "rank=4"])))
    write_record(tmp_path / "one", run_record("one", config=config, matrices={"a": {"module": "a", "layer": 0}}))
    (group,) = load(tmp_path).groups
    accept(group.command("rank=4,8,16"))
    accept(group.command("method=full"))
