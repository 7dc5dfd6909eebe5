"""Hostile tables are read whole, or become one sentence that names the key, the file or the row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hostile_tables import CASES, Reads
from published import everything

from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose
from lorax_lab.tasks import load_task


@pytest.mark.parametrize("fault", CASES)
def test_a_hostile_table_is_read_whole_or_refused(fault: str, tmp_path: Path) -> None:
    case = CASES[fault]
    causal = any("language_modeling" in word for word in case.words)
    words = [] if causal or any(word.startswith("task.text=") for word in case.words) else ["task.text=text"]
    path = case.write(tmp_path)
    task = ["task=local", f"task.path={path}", "task.label=label", *words, *case.words]
    if isinstance(case.expected, Reads):
        assert len(everything(load_task(compose(task).task))) == case.expected.rows
        return
    with pytest.raises(ConfigError) as refusal:
        load_task(compose(task).task)
    message = str(refusal.value)
    assert re.search(case.expected, message), message
    assert path.name[:200] in message or "task." in message
    assert len(message.splitlines()) == 1
