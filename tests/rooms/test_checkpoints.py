"""Checkpoints: every form on disk, blocks that are slices, what is paired, and what is said of the rest."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lorax_lab.audit.checkpoint import Checkpoint, Difference, Pairing, open_checkpoint, pair
from lorax_lab.errors import ConfigError
from lorax_lab.models.tensor_files import WEIGHT_DTYPES

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def weights(seed: int = 0, **more: Tensor) -> dict[str, Tensor]:
    """An embedding, and 11 layers of one matrix and one norm."""
    tensors = {EMBEDDING: numbers(7, 4, seed=seed)}
    for i in range(11):
        tensors[f"model.layers.{i}.q.weight"] = numbers(5, 4, seed=100 * seed + i)
        tensors[f"model.layers.{i}.norm.weight"] = numbers(4, seed=100 * seed + i + 50)
    return tensors | more


def save(folder: Path, tensors: dict[str, Tensor], shards: int = 0) -> Path:
    """A folder of safetensors, in one file or so many shards with their index."""
    folder.mkdir(parents=True, exist_ok=True)
    if not shards:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    places = {name: f"model-{i % shards}.safetensors" for i, name in enumerate(tensors)}
    for file in set(places.values()):
        save_file({n: t for n, t in tensors.items() if places[n] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def same(checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> bool:
    """Whether names, shapes, dtypes and matrices are the saved ones."""
    assert {n: (tuple(s.shape), s.dtype) for n, s in checkpoint.tensors.items()} == {
        n: (tuple(t.shape), t.dtype) for n, t in tensors.items()
    }
    return all(torch.equal(s, tensors[n]) for n, s in checkpoint.tensors.items() if len(s.shape) == 2)


def pairing(tmp_path: Path, base: dict[str, Tensor], tuned: dict[str, Tensor]) -> Pairing:
    """Of two saved checkpoints."""
    folders = [save(tmp_path / side, t) for side, t in (("base", base), ("tuned", tuned))]
    return pair(*(open_checkpoint(str(folder)) for folder in folders))


def noted(found: Pairing, kind: str) -> dict[str, str]:
    return {note.name: note.detail for note in found.notes if note.kind == kind}


FORMS = ["model.safetensors", "any.safetensors", "shards", "pytorch_model.bin", "any.pt", "bin shards"]


def written(form: str, folder: Path, tensors: dict[str, Tensor]) -> Path:
    """Write the tensors in one of `FORMS` into a folder."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "tiny"}')
    if form == "shards":
        return save(folder, tensors, shards=3)
    names = [f"pytorch_model-{i}.bin" for i in range(2)] if form == "bin shards" else [form]
    parts = {file: dict(list(tensors.items())[i :: len(names)]) for i, file in enumerate(names)}
    for file, part in parts.items():
        (save_file if form.endswith("safetensors") else torch.save)(part, folder / file)
    if len(names) > 1:
        places = {name: file for file, part in parts.items() for name in part}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_tensors_that_were_saved(form: str, tmp_path: Path) -> None:
    tensors = weights()
    folder = written(form, tmp_path / "it", tensors)
    for name in [str(folder), *map(str, [folder / form] if (folder / form).is_file() else folder.glob("*index.json"))]:
        checkpoint = open_checkpoint(name)
        assert same(checkpoint, tensors)
        assert checkpoint.name == name
        assert checkpoint.config == {"model_type": "tiny"}


def test_the_first_of_several_forms_is_the_one_transformers_would_read(tmp_path: Path) -> None:
    right, wrong = {"a.weight": numbers(2, 3)}, {"a.weight": numbers(2, 3, seed=1)}
    for name in ("pytorch_model.bin", "optimizer.pt", "training_args.bin"):
        torch.save(wrong, tmp_path / name)
    for name in ("other.safetensors", "adapter_model.safetensors"):
        save_file(wrong, tmp_path / name)
    save(tmp_path, wrong, shards=1)
    save(tmp_path, right)
    assert same(open_checkpoint(str(tmp_path)), right)


def test_what_training_code_wraps_is_unwrapped(tmp_path: Path) -> None:
    content: dict[str, Any] = weights()
    for key in ("model", "state_dict"):
        content = {key: content, "epoch": 3, "loss": torch.tensor(0.5), "optimizer": {"state": {0: numbers(2)}}}
    torch.save(content, tmp_path / "last.pt")
    assert same(open_checkpoint(str(tmp_path / "last.pt")), weights())


@pytest.mark.parametrize("only_bin", [False, True])
def test_the_hub_is_asked_for_torch_files_only_where_there_is_no_safetensors(
    only_bin: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def snapshot(repo: str, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.append((repo, revision, allow_patterns[0]))
        if allow_patterns[0] == "*.bin":
            torch.save(weights(), tmp_path / "pytorch_model.bin")
        elif not only_bin:
            save_file(weights(), tmp_path / "model.safetensors")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert same(open_checkpoint("org/name@v1" if only_bin else "org/name"), weights())
    revision = "v1" if only_bin else None
    assert asked == [("org/name", revision, p) for p in ("*.safetensors", "*.bin")[: 1 + only_bin]]


def test_a_difference_is_exact(tmp_path: Path) -> None:
    for dtype in WEIGHT_DTYPES:
        for other in WEIGHT_DTYPES:
            base, tuned = numbers(5, 6, dtype=dtype), numbers(5, 6, seed=1, dtype=other)
            save(tmp_path / "base", {"a": base}), save(tmp_path / "tuned", {"a": tuned})
            sides = [open_checkpoint(str(tmp_path / side)).tensors["a"] for side in ("base", "tuned")]
            difference = Difference(*sides)
            assert difference.shape == (5, 6)
            assert difference.block(0, 1, 3).dtype == torch.float64
            assert torch.equal(difference.block(0, 1, 3), (tuned.double() - base.double())[1:3])
            assert torch.equal(difference.block(1, 2, 6), (tuned.double() - base.double())[:, 2:6])
    tiny = {"a": torch.tensor([[1.0]])}, {"a": torch.tensor([[1.0 + 2**-23]])}
    found = pairing(tmp_path / "tiny", *tiny).pairs[0]
    assert Difference(found.base, found.tuned).block(0, 0, 1).item() == 2**-23


def test_differently_sharded_sides_pair_in_the_order_of_the_layers(tmp_path: Path) -> None:
    base = open_checkpoint(str(save(tmp_path / "base", weights(), shards=3)))
    torch.save(weights(seed=1), tmp_path / "tuned.bin")
    found = pair(base, open_checkpoint(str(tmp_path / "tuned.bin")))
    names = [EMBEDDING, *(f"model.layers.{i}.q.weight" for i in range(11))]
    assert [p.name for p in found.pairs] == names
    for p in found.pairs:
        assert torch.equal(p.base, weights()[p.name])
        assert torch.equal(p.tuned, weights(seed=1)[p.name])
    (note,) = found.notes
    assert (note.kind, note.name) == ("not 2-D", "11 tensors")


def test_what_only_one_side_has_is_named_one_by_one(tmp_path: Path) -> None:
    base, tuned = weights(), weights(seed=1)
    del base["model.layers.3.q.weight"], tuned["model.layers.10.norm.weight"], tuned["model.layers.2.q.weight"]
    found = pairing(tmp_path, base, tuned)
    assert list(noted(found, "missing")) == ["model.layers.2.q.weight", "model.layers.10.norm.weight"]
    assert list(noted(found, "extra")) == ["model.layers.3.q.weight"]
    assert len(found.pairs) == 10


@pytest.mark.parametrize(
    ("base", "tuned"),
    [
        ("encoder.layer.0.q.weight", "bert.encoder.layer.0.q.weight"),
        ("model.layers.0.q.weight", "base_model.model.model.layers.0.q.weight"),
        ("module.model.layers.0.q.weight", "_orig_mod.model.layers.0.q.weight"),
        ("layers.0.q.weight", "layers.0._orig_mod.q.weight"),
        ("model.language_model.layers.0.q.weight", "language_model.model.layers.0.q.weight"),
    ],
)
def test_a_wrapped_name_is_followed(base: str, tuned: str, tmp_path: Path) -> None:
    before, after, same_here = numbers(5, 4), numbers(5, 4, seed=1), {"a.b.weight": numbers(5, 4, seed=2)}
    for turn, (one, two) in enumerate([(base, tuned), (tuned, base)]):
        found = pairing(tmp_path / str(turn), {one: before, **same_here}, {two: after, **same_here})
        (own,) = [p for p in found.pairs if p.name == one]
        assert torch.equal(own.base, before)
        assert torch.equal(own.tuned, after)
        assert {note.kind: note.name for note in found.notes} == {"renamed": one}
        assert two in noted(found, "renamed")[one]


def test_a_name_that_fits_twice_is_not_followed(tmp_path: Path) -> None:
    base = {"model.layers.0.q.weight": numbers(5, 4), "a.b.weight": numbers(2, 2)}
    tuned = {"module.layers.0.q.weight": numbers(5, 4), "layers.0.q.weight": numbers(5, 4), "a.b.weight": numbers(2, 2)}
    found = pairing(tmp_path, base, tuned)
    assert [p.name for p in found.pairs] == ["a.b.weight"]
    assert list(noted(found, "missing")) == ["model.layers.0.q.weight"]
    ema = {"model.layers.0.q.weight": numbers(5, 4), "layers.0.q.weight": numbers(5, 4)}
    mixed = {"module.layers.0.q.weight": numbers(5, 4), "layers.0.q.weight": numbers(5, 4)}
    assert not noted(pairing(tmp_path / "ema", ema, mixed), "renamed")


def test_stacks_kernels_scalars_and_quantized_weights_are_not_measured(tmp_path: Path) -> None:
    tensors = {
        "experts.up": numbers(3, 5, 4), "conv.weight": numbers(5, 4, 3, 3), "norm.weight": numbers(4),
        "seen": torch.tensor(3), "a.b.weight": numbers(5, 4), "q.weight": numbers(5, 4), "k.weight": numbers(5, 4),
    }  # fmt: skip
    small = {"q.weight": tensors["q.weight"].to(torch.float8_e4m3fn), "k.weight": tensors["k.weight"].to(torch.int8)}
    scale = {"q.weight_scale": numbers(5, 1)}
    found = pairing(tmp_path, tensors | small | scale, tensors | scale)
    assert [p.name for p in found.pairs] == ["a.b.weight"]
    assert list(noted(found, "3-D")) == ["experts.up"]
    assert list(noted(found, "not 2-D")) == ["3 tensors"]
    assert set(noted(found, "unsupported dtype")) == {"q.weight", "k.weight", "q.weight_scale"}


def tied(seed: int = 0) -> dict[str, Tensor]:
    return weights(seed) | {HEAD: numbers(7, 4, seed=seed)}


@pytest.mark.parametrize(("base", "tuned"), [(tied, tied), (tied, weights), (weights, tied)])
def test_two_names_of_one_tensor_are_measured_once(base: Any, tuned: Any, tmp_path: Path) -> None:
    found = pairing(tmp_path, base(0), tuned(1))
    assert {note.kind: note.name for note in found.notes} == {"tied": HEAD, "not 2-D": "11 tensors"}
    assert len(found.pairs) == 12
    assert HEAD not in [p.name for p in found.pairs]


def test_a_head_untied_by_tuning_is_measured_apart(tmp_path: Path) -> None:
    untied = weights(1) | {HEAD: numbers(7, 4, seed=9)}
    found = pairing(tmp_path, tied(), untied)
    (head,) = [p for p in found.pairs if p.name == HEAD]
    assert torch.equal(head.base, weights()[EMBEDDING])
    assert torch.equal(head.tuned, untied[HEAD])
    assert HEAD in noted(found, "tied")
    assert len(found.pairs) == 13
    assert list(noted(pairing(tmp_path / "plain", weights(), untied), "extra")) == [HEAD]


def test_a_tie_is_exact_and_of_an_embedding(tmp_path: Path) -> None:
    nearly = numbers(7, 4)
    nearly[6, 3] += 1e-6
    zeros = torch.zeros(7, 4)
    for tensors, expected in [
        ({EMBEDDING: numbers(7, 4), HEAD: nearly}, {}),
        ({EMBEDDING: numbers(7, 4), HEAD: numbers(7, 4).double()}, {}),
        ({"a.b.weight": zeros, "a.c.weight": zeros.clone()}, {}),
        ({n: numbers(7, 4) for n in ("shared.weight", "decoder.embed_tokens.weight", HEAD)},
         {"shared.weight": "decoder.embed_tokens.weight", HEAD: "decoder.embed_tokens.weight"}),
    ]:  # fmt: skip
        assert open_checkpoint(str(save(tmp_path, tensors))).tied == expected


def fails(name: Path | str, named: str) -> None:
    """It is refused, and the message names the file or the tensor."""
    with pytest.raises(ConfigError, match=re.escape(named)):
        open_checkpoint(str(name))


def test_what_is_no_checkpoint_is_named_and_never_asked_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    for name in ("./nothing", "a/b/c", "gone.safetensors", ""):
        fails(name, repr(name))
    fails(tmp_path, str(tmp_path))
    save_file({"a.lora_A.weight": numbers(2, 3)}, tmp_path / "adapter_model.safetensors")
    fails(tmp_path, "adapter")
    (tmp_path / "notes.txt").write_text("")
    fails(tmp_path / "notes.txt", "notes.txt")


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_damaged_file_is_named(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"it.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(weights(), file)
    content, pointer = file.read_bytes(), b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    headers = [content[:8] + b"#" + content[9:]] if suffix == "safetensors" else []  # zip keeps its own at the end
    for damaged in (content[:-3], pointer, *headers):
        file.write_bytes(damaged)
        fails(file, f"it.{suffix}")


def test_shards_and_their_index_have_to_agree(tmp_path: Path) -> None:
    folder = save(tmp_path / "it", weights(), shards=2)
    index = folder / "model.safetensors.index.json"
    good = json.loads(index.read_text())["weight_map"]
    for places, named in [
        (good | {EMBEDDING: "model-1.safetensors"}, EMBEDDING),
        (good | {"new": "model-7.safetensors"}, "model-7.safetensors"),
        (good | {"new": str(folder / "model-0.safetensors")}, "model-0.safetensors"),
        (["a"], "index.json"),
    ]:
        index.write_text(json.dumps({"weight_map": places}))
        fails(folder, named)
    index.unlink()
    save_file({EMBEDDING: numbers(7, 4)}, folder / "second.safetensors")
    fails(folder, EMBEDDING)


def test_a_form_that_cannot_be_mapped_and_what_never_ends_are_named(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    fails(tmp_path / "old.bin", "old.bin")
    endless: dict[str, Any] = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "it.bin")
    fails(tmp_path / "it.bin", "it.bin")


@pytest.mark.parametrize(
    ("compression", "changed"),
    [(zipfile.ZIP_DEFLATED, {}), (zipfile.ZIP_STORED, {"byteorder": b"big"}), (zipfile.ZIP_STORED, {"0": bytes(8)})],
)
def test_a_torch_zip_that_torch_would_misread(compression: int, changed: dict[str, bytes], tmp_path: Path) -> None:
    file = tmp_path / "it.pt"
    torch.save({"a": numbers(5, 4), "b": numbers(2, 3)}, file)
    with zipfile.ZipFile(file) as archive:
        content = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, changed.get(name.rpartition("/")[2], data))
    fails(file, "it.pt")


def test_views_and_what_claims_more_than_the_file_has(tmp_path: Path) -> None:
    full, file = numbers(6, 8), tmp_path / "it.pt"
    views = {"turned": full.t(), "corner": full[2:5, 1:4], "column": full[:, 3:4], "strided": full[:, ::2],
             "repeated": full[0].expand(3, 8), "empty": full[:0], "parameter": torch.nn.Parameter(full)}  # fmt: skip
    torch.save(views, file)
    found = open_checkpoint(str(file)).tensors
    assert all(torch.equal(found[name], view.detach()) for name, view in views.items())
    for odd in (full[0].expand(10**9, 8), torch.zeros(2, 2, device="meta"), full.to_sparse()):
        torch.save({"odd": odd}, file)
        fails(file, "odd")
