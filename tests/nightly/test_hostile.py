"""Hostile tables become one line that says what to do, or are read whole; never a traceback, and nothing trains."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Lab, tiny_config
from hostile import Reads
from hostile_tables import CASES
from published import everything
from transformers import AutoModelForCausalLM

from lorax_lab.launch.compose import compose, spell_out
from lorax_lab.tasks import load_task


@pytest.fixture(scope="module")
def models(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A tiny base by whether it is causal; both have one tokenizer."""
    from transformers import AutoTokenizer

    causal = tmp_path_factory.mktemp("causal")
    AutoTokenizer.from_pretrained(model_folder).save_pretrained(causal)
    AutoModelForCausalLM.from_config(tiny_config("gpt2")).save_pretrained(causal)
    return {False: model_folder, True: causal}


@pytest.mark.parametrize("fault", CASES)
def test_a_hostile_table_is_read_whole_or_refused_in_one_line(
    fault: str, models: dict[bool, Path], tmp_path: Path, lab_here: Lab
) -> None:
    case, runs = CASES[fault], tmp_path / "runs"
    causal = any("language_modeling" in word for word in case.words)
    words = [] if causal or any(word.startswith("task.text=") for word in case.words) else ["task.text=text"]
    task = ["task=local", f"task.path={case.write(tmp_path)}", "task.label=label", *words, *case.words]
    done = lab_here(f"model={models[causal]}", *task, "reference=false", f"runs_dir={runs}", "--dry-run")
    assert not runs.exists()
    assert not done.stderr
    if isinstance(case.expected, Reads):
        assert done.returncode == 0, done.stdout
        notes = [line for line in done.stdout.splitlines() if line.startswith("note: ")]
        assert case.expected.says in "\n".join(notes)
        assert case.expected.says or not any(word in line for line in notes for word in ("differ", "tells", "fits"))
        assert len(everything(load_task(compose(spell_out(task)).task))) == case.expected.rows
        return
    assert done.returncode == 2, done.stdout
    (message,) = [line for line in done.stdout.splitlines() if not line.startswith("0 of 1 already recorded")]
    assert re.match("error: .*task[.]", message)
    assert re.search(case.expected, message), message
    assert message.isprintable()
