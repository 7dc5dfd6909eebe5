"""Hostile model folders: each is refused in one line before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_models import CASES, spoiled

from lorax_lab.errors import ConfigError
from lorax_lab.models import base, load_processor, matrix_shapes, model_sha256


def opened(folder: str) -> None:
    """What a planner does with a model's folder, and the check of its weights."""
    model_sha256(folder)
    matrix_shapes(folder)
    load_processor(folder, "AutoTokenizer")
    base.check_base(folder, {"num_labels": 2}, values=True)


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_folder_is_refused_in_one_line(model_folder: Path, tmp_path: Path, name: str) -> None:
    folder = spoiled(name, model_folder, tmp_path / "tiny-bert")
    with pytest.raises(ConfigError, match=CASES[name][1]) as refused:
        opened(str(folder))
    assert str(refused.value).startswith(f"model={folder}")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("**/pwned")) + list(Path.cwd().glob("pwned"))
