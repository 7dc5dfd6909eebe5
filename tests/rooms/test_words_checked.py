"""A word of the command line sets a plain value: what would call something, or read the environment, is refused."""

from __future__ import annotations

import pytest

from lorax_lab.errors import ConfigError
from lorax_lab.launch.words import check_word


@pytest.mark.parametrize(
    "word",
    [
        "task.name={_target_:os.system}", "task.name=${oc.env:HOME}", "task.name=x${oc.env:HOME}y",
        "method.target_modules=[query,'${oc.env:HOME}']", "seed=0,'${oc.env:HOME}'", "+task._target_=os.system",
        "hydra.run.dir=/tmp", "runs_dir=${oc.${tracking.entity}:KEY}",
    ],
)  # fmt: skip
def test_a_value_that_calls_something_is_refused(word: str) -> None:
    with pytest.raises(ConfigError):
        check_word(word)


@pytest.mark.parametrize("word", ["+method._target_=os.system", "+method.a._partial_=true", "+method._args_=[1]"])
def test_a_key_that_calls_something_is_none_of_peft_either(word: str) -> None:
    with pytest.raises(ConfigError):
        check_word(word, foreign=True)
    check_word("+method.block_size=16", foreign=True)


@pytest.mark.parametrize("word", ["rank=4,8", "runs_dir=/tmp/${seed}", "method.target_modules=[query,value]"])
def test_a_plain_value_is_taken(word: str) -> None:
    check_word(word)
