"""What identifies a base is what is read of it: also in folders below, and also after the sweep was planned."""

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from hostile_models import SAFE, as_bin, sharded, tensors

from lorax_lab.models import load_base, model_sha256

HEAD = {"num_labels": 2}
TRIPLED = tensors(lambda content: {name: tensor * 3 for name, tensor in content.items()})


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(model_folder, tmp_path / "tiny-bert")
    return tmp_path / "tiny-bert"


def test_a_folder_with_its_weights_at_the_top_has_the_id_that_it_always_had(folder: Path) -> None:
    (folder / "README.md").write_text("not hashed")
    digest, patterns = hashlib.sha256(), ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model")
    for path in sorted(p for pattern in patterns for p in folder.glob(pattern)):
        digest.update(f"{path.name}:{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    assert model_sha256(str(folder)) == digest.hexdigest()


def test_weights_in_a_folder_below_are_hashed(folder: Path) -> None:
    sharded("sub/w.safetensors")(folder)
    before, loaded = model_sha256(str(folder)), load_base(str(folder), HEAD, 0)
    assert loaded.sha256 == before
    (folder / "sub" / "w.safetensors").rename(folder / SAFE)
    TRIPLED(folder)
    (folder / SAFE).rename(folder / "sub" / "w.safetensors")
    assert model_sha256(str(folder)) != before
    other = load_base(str(folder), HEAD, 0)
    assert torch.equal(other.model.bert.pooler.dense.weight, 3 * loaded.model.bert.pooler.dense.weight)


@pytest.mark.parametrize("form", ["bin", "a link"])
def test_other_weights_have_another_id_in_the_same_process(folder: Path, tmp_path: Path, form: str) -> None:
    if form == "a link":
        (folder / SAFE).rename(tmp_path / "w.safetensors")
        (folder / SAFE).symlink_to(tmp_path / "w.safetensors")
    before = model_sha256(str(folder))
    if form == "bin":
        as_bin()(folder)
    else:
        shutil.copy(tmp_path / "w.safetensors", tmp_path / SAFE)
        TRIPLED(tmp_path)
        (tmp_path / SAFE).rename(tmp_path / "w.safetensors")
    assert model_sha256(str(folder)) != before


def test_a_loaded_base_does_not_follow_its_file(folder: Path) -> None:
    """The file is mapped into memory while it is read: written again in its place, it would change a frozen base."""
    model = load_base(str(folder), HEAD, 0).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with (folder / SAFE).open("r+b") as file:
        file.seek(10_000)
        file.write(bytes((folder / SAFE).stat().st_size - 10_000))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
