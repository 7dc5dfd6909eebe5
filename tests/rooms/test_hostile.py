"""Model folders and tables of others: read whole, or refused in one line before anything trains."""

import math
import re
from pathlib import Path

import hostile_models
import hostile_tables
import pytest
from published import everything

from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose
from lorax_lab.models import base, load_processor, matrix_shapes, model_sha256, skeleton
from lorax_lab.tasks import load_task


def opened(folder: str) -> None:
    """What a planner does with a model's folder, and the check of its weights."""
    model_sha256(folder)
    matrix_shapes(folder)
    load_processor(folder, "AutoTokenizer")
    base.check_base(folder, {"num_labels": 2}, values=True)


@pytest.mark.parametrize("name", hostile_models.CASES)
def test_a_hostile_folder_is_refused(name: str, model_folder: Path, tmp_path: Path) -> None:
    folder = hostile_models.spoiled(name, model_folder, tmp_path / "tiny-bert")
    with pytest.raises(ConfigError, match=hostile_models.CASES[name][1]) as refused:
        opened(str(folder))
    assert str(refused.value).startswith(f"model={folder}")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("**/pwned")) + list(Path.cwd().glob("pwned"))


def test_an_infinity_that_published_models_have_is_read(tmp_path: Path) -> None:
    skeleton.check_content("mamba", tmp_path, {"model_type": "mamba2", "time_step_limit": [0.0, math.inf]})


@pytest.mark.parametrize("name", hostile_tables.CASES)
def test_a_hostile_table_is_read_whole_or_refused(name: str, tmp_path: Path) -> None:
    case = hostile_tables.CASES[name]
    causal = any("language_modeling" in word for word in case.words)
    words = [] if causal or any(word.startswith("task.text=") for word in case.words) else ["task.text=text"]
    path = case.write(tmp_path)
    task = ["task=local", f"task.path={path}", "task.label=label", *words, *case.words]
    if isinstance(case.expected, int):
        assert len(everything(load_task(compose(task).task))) == case.expected
        return
    with pytest.raises(ConfigError) as refused:
        load_task(compose(task).task)
    message = str(refused.value)
    assert re.search(case.expected, message), message
    assert path.name in message or "task." in message
    assert len(message.splitlines()) == 1
