"""Checkpoints: every form on disk, blocks that are slices, what is paired, and what is said of the rest."""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lorax_lab.audit.checkpoints import (
    KINDS,
    MEASURED,
    Checkpoint,
    Difference,
    Pairing,
    Stored,
    norm,
    open_checkpoint,
    pair,
)
from lorax_lab.audit.checkpoints import checkpoint as opening
from lorax_lab.audit.checkpoints import stored as storage
from lorax_lab.errors import ConfigError
from lorax_lab.memory import peak_resident_bytes, reset_peak

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


def save(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any] | None = None, shards: int = 0) -> Path:
    """A folder of safetensors, in one file or so many shards with their index."""
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if not shards:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    places = {name: f"model-{i % shards}.safetensors" for i, name in enumerate(tensors)}
    for file in set(places.values()):
        save_file({n: t for n, t in tensors.items() if places[n] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def whole(stored: Stored) -> Tensor:
    return stored.block(0, 0, stored.shape[0])


def same(checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> bool:
    """Whether names, shapes, dtypes and matrices are the saved ones."""
    assert {n: (s.shape, s.dtype) for n, s in checkpoint.tensors.items()} == {
        n: (tuple(t.shape), t.dtype) for n, t in tensors.items()
    }
    return all(torch.equal(whole(s), tensors[n]) for n, s in checkpoint.tensors.items() if len(s.shape) == 2)


def pairing(tmp_path: Path, base: dict[str, Tensor], tuned: dict[str, Tensor], /, **configs: Any) -> Pairing:
    folders = [save(tmp_path / side, t, configs.get(side)) for side, t in (("base", base), ("tuned", tuned))]
    return pair(*(open_checkpoint(str(folder)) for folder in folders))


def noted(found: Pairing, kind: str) -> dict[str, str]:
    return {note.name: note.detail for note in found.notes if note.kind == kind}


# ---- forms


FORMS = ["one file", "shards", "any name", "two files", "single file", "index file", "bin", "bin shards", "bin file",
         "pt file", "pth folder"]  # fmt: skip


def written(form: str, folder: Path, tensors: dict[str, Tensor]) -> Path:
    """Write the tensors in one of `FORMS`; returns what is typed."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "tiny"}')
    halves = [dict(list(tensors.items())[i::2]) for i in range(2)]
    if form in ("shards", "index file"):
        save(folder, tensors, shards=3)
        return folder if form == "shards" else folder / "model.safetensors.index.json"
    if form == "two files":
        for i, half in enumerate(halves):
            save_file(half, folder / f"part-{i}.safetensors")
    elif form == "bin shards":
        for i, half in enumerate(halves):
            torch.save(half, folder / f"pytorch_model-{i}.bin")
        places = {name: f"pytorch_model-{i}.bin" for i, half in enumerate(halves) for name in half}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    elif form in ("one file", "any name", "single file"):
        save_file(tensors, folder / ("model.safetensors" if form == "one file" else "mine.safetensors"))
        return folder / "mine.safetensors" if form == "single file" else folder
    else:
        name = {"bin": "pytorch_model.bin", "bin file": "mine.bin", "pt file": "mine.pt", "pth folder": "mine.pth"}[
            form
        ]
        torch.save(tensors, folder / name)
        return folder / name if form.endswith("file") else folder
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_tensors_that_were_saved(form: str, tmp_path: Path) -> None:
    tensors = weights()
    name = str(written(form, tmp_path / "it", tensors))
    checkpoint = open_checkpoint(name)
    assert same(checkpoint, tensors)
    assert (checkpoint.name, checkpoint.folder) == (name, tmp_path / "it")
    assert checkpoint.config == {"model_type": "tiny"}
    assert {s.file for s in checkpoint.tensors.values()} == set(checkpoint.files)


def test_the_first_of_several_forms_is_the_one_transformers_would_read(tmp_path: Path) -> None:
    right, wrong = {"a.weight": numbers(2, 3)}, {"a.weight": numbers(2, 3, seed=1)}
    for name in ("pytorch_model.bin", "optimizer.pt", "training_args.bin"):
        torch.save(wrong, tmp_path / name)
    for name in ("other.safetensors", "adapter_model.safetensors"):
        save_file(wrong, tmp_path / name)
    save(tmp_path, wrong, shards=1)
    save(tmp_path, right)
    assert same(open_checkpoint(str(tmp_path)), right)


def test_files_of_training_are_not_weights(tmp_path: Path) -> None:
    for name in ("training_args.bin", "optimizer.bin", "scheduler.bin", "adapter_model.bin"):
        (tmp_path / name).write_bytes(b"no weights")
    torch.save({"a.weight": numbers(2, 3)}, tmp_path / "weights.bin")
    assert list(open_checkpoint(str(tmp_path)).tensors) == ["a.weight"]


@pytest.mark.parametrize("keys", [["state_dict"], ["model"], ["model", "state_dict"], ["module"]])
def test_what_training_code_wraps_is_unwrapped(keys: list[str], tmp_path: Path) -> None:
    content: dict[str, Any] = weights()
    for key in keys:
        content = {key: content, "epoch": 3, "loss": torch.tensor(0.5), "optimizer": {"state": {0: numbers(2)}}}
    torch.save(content, tmp_path / "last.pt")
    assert same(open_checkpoint(str(tmp_path / "last.pt")), weights())


def test_a_preset_and_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "models" / "it", weights())
    monkeypatch.setattr(opening, "resolve", {"minilm": folder}.__getitem__)
    assert same(open_checkpoint("minilm"), weights())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert same(open_checkpoint("~/models/it"), weights())


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


# ---- blocks


SLICES = [(0, 0), (0, 1), (2, 7), (6, 7), (3, 99)]


@pytest.mark.parametrize("piece", [1, 40, 2**20])
@pytest.mark.parametrize("dtype", MEASURED)
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_block_is_a_slice(
    suffix: str, dtype: torch.dtype, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PIECE_BYTES", piece)
    tensors = {"first": numbers(3, dtype=dtype), "a": numbers(7, 9, dtype=dtype), "b": numbers(9, 7, dtype=dtype)}
    file = tmp_path / f"it.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(tensors, file)
    found = open_checkpoint(str(file)).tensors
    for name in ("a", "b"):
        for start, stop in SLICES:
            rows, columns = found[name].block(0, start, stop), found[name].block(1, start, stop)
            assert torch.equal(rows, tensors[name][start:stop])
            assert torch.equal(columns, tensors[name][:, start:stop])
            assert rows.dtype == columns.dtype == dtype
            assert rows.is_contiguous()
            assert columns.is_contiguous()
    assert found["a"].nbytes == tensors["a"].nbytes


def test_views_that_torch_saves_with_their_whole_storage(tmp_path: Path) -> None:
    full = numbers(6, 8)
    views = {
        "turned": full.t(), "corner": full[2:5, 1:4], "turned corner": full[2:5, 1:4].t(), "column": full[:, 3:4],
        "row": full[2:3].t(), "thin": full[1:2, ::2], "repeated": full[0].expand(3, 8),
        "empty": full[:0], "narrow": full[:, :0], "parameter": torch.nn.Parameter(full),
    }  # fmt: skip
    torch.save(views, tmp_path / "it.pt")
    found = open_checkpoint(str(tmp_path / "it.pt")).tensors
    for name, view in views.items():
        view = view.detach()
        assert torch.equal(whole(found[name]), view), name
        assert torch.equal(found[name].block(1, 0, 1), view[:, :1]), name
        assert torch.equal(found[name].block(0, 1, 2), view[1:2]), name
        assert whole(found[name]).is_contiguous(), name
        assert found[name].block(1, 0, 1).is_contiguous(), name
    torch.save({"odd": full[:, ::2]}, tmp_path / "it.pt")
    with pytest.raises(ConfigError, match=r"it\.pt: odd is not kept as a plain matrix; save it again"):
        open_checkpoint(str(tmp_path / "it.pt"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_no_file_stays_mapped(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"it.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)({"a": numbers(64, 64)}, file)
    blocks = [open_checkpoint(str(file)).tensors["a"].block(dim, 0, 8) for dim in (0, 1)]
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    before = [block.clone() for block in blocks]
    file.write_bytes(bytes(file.stat().st_size))
    assert all(torch.equal(block, own) for block, own in zip(blocks, before, strict=True))


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_streaming_takes_the_memory_of_a_block_not_of_a_file(suffix: str, tmp_path: Path) -> None:
    megabyte = 2**20
    file = tmp_path / f"it.{suffix}"
    tensors = {"a": torch.ones(4096, 2048), "b": torch.ones(2048, 4096)}  # 32 MiB each
    (save_file if suffix == "safetensors" else torch.save)(tensors, file)
    del tensors
    found = open_checkpoint(str(file)).tensors
    found["a"].block(1, 0, 128)
    if not reset_peak():
        pytest.skip("the system does not let the peak be set anew")
    before = peak_resident_bytes()
    for stored in found.values():
        for dim in (0, 1):
            for start in range(0, stored.shape[dim], 128):
                assert stored.block(dim, start, start + 128)[-1, -1] == 1
    assert peak_resident_bytes() - before < 14 * megabyte


def test_a_difference_is_exact(tmp_path: Path) -> None:
    for dtype in MEASURED:
        for other in MEASURED:
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


def test_the_norm_is_summed_over_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PIECE_BYTES", 40)
    stored = open_checkpoint(str(save(tmp_path, {"a": numbers(7, 4)}))).tensors["a"]
    assert norm(stored) == pytest.approx(numbers(7, 4).double().norm().item(), rel=1e-14)


def test_the_fingerprint_is_of_the_files(tmp_path: Path) -> None:
    folder = save(tmp_path / "it", weights(), shards=2)
    first = open_checkpoint(str(folder))
    assert first.fingerprint() == open_checkpoint(str(folder / "model.safetensors.index.json")).fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", first.fingerprint())
    os.utime(first.files[1], ns=(1, 1))
    touched = first.fingerprint()
    save_file({"other": numbers(1)}, folder / "model.safetensors")
    renamed = {name.replace("q", "k"): tensor for name, tensor in weights().items()}
    same_size = open_checkpoint(str(save(tmp_path / "renamed", renamed, shards=2)))
    for file in (*first.files, *same_size.files):
        os.utime(file, ns=(1, 1))
    prints = {touched, first.fingerprint(), open_checkpoint(str(folder)).fingerprint(), same_size.fingerprint()}
    assert len(prints) == 4
    first.files[0].unlink()
    with pytest.raises(ConfigError, match=r"model-0\.safetensors cannot be read any more"):
        first.fingerprint()


# ---- pairs and notes


def test_differently_sharded_sides_pair_in_the_order_of_the_layers(tmp_path: Path) -> None:
    base = open_checkpoint(str(save(tmp_path / "base", weights(), shards=3)))
    torch.save(weights(seed=1), tmp_path / "tuned.bin")
    found = pair(base, open_checkpoint(str(tmp_path / "tuned.bin")))
    names = [EMBEDDING, *(f"model.layers.{i}.q.weight" for i in range(11))]
    assert [p.name for p in found.pairs] == names
    for p in found.pairs:
        assert torch.equal(whole(p.base), weights()[p.name])
        assert torch.equal(whole(p.tuned), weights(seed=1)[p.name])
    (note,) = found.notes
    assert (note.kind, note.name) == ("not 2-D", "11 tensors")
    assert note.names == tuple(f"model.layers.{i}.norm.weight" for i in range(11))


def test_what_only_one_side_has_is_named_one_by_one(tmp_path: Path) -> None:
    base, tuned = weights(), weights(seed=1)
    del base["model.layers.3.q.weight"], tuned["model.layers.10.norm.weight"], tuned["model.layers.2.q.weight"]
    found = pairing(tmp_path, base, tuned)
    lost = {"model.layers.2.q.weight": (5, 4), "model.layers.10.norm.weight": (4,)}
    assert noted(found, "missing") == {name: f"in BASE {shape}, not in TUNED" for name, shape in lost.items()}
    assert list(noted(found, "missing")) == list(lost)
    assert noted(found, "extra") == {"model.layers.3.q.weight": "in TUNED (5, 4), not in BASE"}
    assert len(found.pairs) == 10


@pytest.mark.parametrize(
    ("base", "tuned"),
    [
        ("encoder.layer.0.q.weight", "bert.encoder.layer.0.q.weight"),
        ("model.layers.0.q.weight", "base_model.model.model.layers.0.q.weight"),
        ("module.model.layers.0.q.weight", "_orig_mod.model.layers.0.q.weight"),
        ("layers.0.q.weight", "layers.0._orig_mod.q.weight"),
        ("model.weight", "module.model.weight"),
        ("model.language_model.layers.0.q.weight", "language_model.model.layers.0.q.weight"),
    ],
)
def test_a_wrapped_name_is_followed(base: str, tuned: str, tmp_path: Path) -> None:
    before, after, same_here = numbers(5, 4), numbers(5, 4, seed=1), {"a.b.weight": numbers(5, 4, seed=2)}
    for turn, (one, two) in enumerate([(base, tuned), (tuned, base)]):
        found = pairing(tmp_path / str(turn), {one: before, **same_here}, {two: after, **same_here})
        (own,) = [p for p in found.pairs if p.name == one]
        assert torch.equal(whole(own.base), before)
        assert torch.equal(whole(own.tuned), after)
        assert noted(found, "renamed") == {one: f"TUNED calls it {two}; measured under this name"}
        assert {note.kind for note in found.notes} == {"renamed"}


def test_a_name_that_fits_twice_is_not_followed(tmp_path: Path) -> None:
    base = {"model.layers.0.q.weight": numbers(5, 4), "a.b.weight": numbers(2, 2)}
    tuned = {"module.layers.0.q.weight": numbers(5, 4), "layers.0.q.weight": numbers(5, 4), "a.b.weight": numbers(2, 2)}
    found = pairing(tmp_path, base, tuned)
    assert [p.name for p in found.pairs] == ["a.b.weight"]
    assert "layers.0.q.weight, module.layers.0.q.weight may be it" in noted(found, "missing")["model.layers.0.q.weight"]
    assert set(noted(found, "extra")) == {"module.layers.0.q.weight", "layers.0.q.weight"}
    ema = {"model.layers.0.q.weight": numbers(5, 4), "layers.0.q.weight": numbers(5, 4)}
    mixed = {"module.layers.0.q.weight": numbers(5, 4), "layers.0.q.weight": numbers(5, 4)}
    assert not noted(pairing(tmp_path / "ema", ema, mixed), "renamed")


def test_an_adapter_that_is_not_merged_is_pointed_out(tmp_path: Path) -> None:
    tuned = {
        "base_model.model.l.0.q.base_layer.weight": numbers(5, 4),
        "base_model.model.l.0.q.lora_A.default.weight": numbers(2, 4),
        "base_model.model.l.0.q.lora_B.default.weight": numbers(5, 2),
    }
    found = pairing(tmp_path, {"l.0.q.weight": numbers(5, 4)}, tuned)
    assert [p.name for p in found.pairs] == ["l.0.q.weight"]
    assert "whose update is not in it" in noted(found, "renamed")["l.0.q.weight"]
    assert len(noted(found, "extra")) == 2
    assert all("merge it" in detail for detail in noted(found, "extra").values())


def test_other_shapes_are_told_apart(tmp_path: Path) -> None:
    base = {EMBEDDING: numbers(7, 4), "m.c.weight": numbers(5, 4), "m.d.weight": numbers(5, 4), "m.b.bias": numbers(5)}
    tuned = {EMBEDDING: numbers(9, 4), "m.c.weight": numbers(4, 5), "m.d.weight": numbers(6, 4), "m.b.bias": numbers(6)}
    base, tuned = base | {"p_embed.weight": numbers(7, 4)}, tuned | {"p_embed.weight": numbers(7, 5)}
    found = pairing(tmp_path, base | {"m.k.weight": numbers(2, 2)}, tuned | {"m.k.weight": numbers(2, 2)})
    assert [p.name for p in found.pairs] == ["m.k.weight"]
    assert noted(found, "transposed") == {
        "m.c.weight": "(5, 4) in BASE, (4, 5) in TUNED; not measured: transpose one of them and save it again"
    }
    assert noted(found, "reshaped") == {
        "m.b.bias": "(5,) in BASE, (6,) in TUNED; not measured",
        "m.d.weight": "(5, 4) in BASE, (6, 4) in TUNED; not measured",
        EMBEDDING: "(7, 4) in BASE, (9, 4) in TUNED, a vocabulary with +2 rows; not measured",
        "p_embed.weight": "(7, 4) in BASE, (7, 5) in TUNED; not measured",
    }


def test_stacks_kernels_and_scalars_are_no_matrices(tmp_path: Path) -> None:
    tensors = {
        "experts.up": numbers(3, 5, 4), "conv.weight": numbers(5, 4, 3, 3), "norm.weight": numbers(4),
        "seen": torch.tensor(3), "a.b.weight": numbers(5, 4),
    }  # fmt: skip
    found = pairing(tmp_path, tensors, tensors)
    assert [p.name for p in found.pairs] == ["a.b.weight"]
    assert list(noted(found, "3-D")) == ["experts.up"]
    assert [note.names for note in found.notes if note.kind == "not 2-D"] == [("conv.weight", "norm.weight", "seen")]


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8, torch.int32])
def test_quantized_weights_are_not_measured(dtype: torch.dtype, tmp_path: Path) -> None:
    rest = {"a.b.weight": numbers(2, 2), "q.weight_scale": numbers(5, 1)}
    small = numbers(5, 4).to(dtype)
    found = pairing(tmp_path, {"q.weight": small, **rest}, {"q.weight": numbers(5, 4), **rest})
    assert [p.name for p in found.pairs] == ["a.b.weight"]
    name = str(dtype).removeprefix("torch.")
    assert noted(found, "unsupported dtype")["q.weight"].startswith(f"{name} in BASE; not measured: dequantize it")
    assert "scale of a quantized matrix" in noted(found, "unsupported dtype")["q.weight_scale"]


def test_packed_weights_of_another_shape_or_in_blocks_are_called_quantized(tmp_path: Path) -> None:
    packed = {"q.weight": torch.ones(10, 1, dtype=torch.uint8), "e.blocks": torch.ones(2, 2, 2, 2, dtype=torch.uint8)}
    whole_ones = {"q.weight": numbers(5, 4), "e.blocks": torch.ones(2, 2, 2, 2, dtype=torch.uint8)}
    assert set(noted(pairing(tmp_path, whole_ones, packed), "unsupported dtype")) == {"q.weight", "e.blocks"}


def test_indices_and_scales_beside_plain_weights(tmp_path: Path) -> None:
    tensors = {"e.position_ids": torch.arange(6).reshape(1, 6), "e.layer_scale": numbers(5, 1)}
    found = pairing(tmp_path, tensors, tensors)
    assert noted(found, "unsupported dtype") == {"e.position_ids": "int64 in BASE; indices or a mask, no weight"}
    assert [p.name for p in found.pairs] == ["e.layer_scale"]


def test_dtypes_may_differ(tmp_path: Path) -> None:
    found = pairing(tmp_path, {"a": numbers(5, 4)}, {"a": numbers(5, 4).bfloat16()})
    assert [(p.base.dtype, p.tuned.dtype) for p in found.pairs] == [(torch.float32, torch.bfloat16)]


def test_nothing_in_common_lists_names_of_both(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no tensor in common: BASE '.*base' has a\.b, …; TUNED '.*' has c\.d, c\.e"):
        pairing(tmp_path, {"a.b": numbers(2, 2)}, {"c.d": numbers(2, 2), "c.e": numbers(2, 2)})


# ---- ties


def tied(seed: int = 0) -> dict[str, Tensor]:
    return weights(seed) | {HEAD: numbers(7, 4, seed=seed)}


MEASURED_ONCE = {HEAD: f"the same tensor as {EMBEDDING}; measured once, under that name"}


@pytest.mark.parametrize(("base", "tuned"), [(tied, tied), (tied, weights), (weights, tied)])
@pytest.mark.parametrize("declared", [True, False])
def test_two_names_of_one_tensor_are_measured_once(base: Any, tuned: Any, declared: bool, tmp_path: Path) -> None:
    config = {"tie_word_embeddings": True} if declared else {}
    found = pairing(tmp_path, base(0), tuned(1), base=config, tuned=config)
    assert noted(found, "tied") == MEASURED_ONCE
    assert {note.kind for note in found.notes} == {"tied", "not 2-D"}
    assert len(found.pairs) == 12
    assert HEAD not in [p.name for p in found.pairs]


def test_a_head_untied_by_tuning_is_measured_apart(tmp_path: Path) -> None:
    untied = weights(1) | {HEAD: numbers(7, 4, seed=9)}
    for base, config in ((tied(), {}), (weights(), {"tie_word_embeddings": True}), (weights(), {"text_config": {
        "tie_word_embeddings": True}})):  # fmt: skip
        found = pairing(tmp_path, base, untied, base=config)
        (head,) = [p for p in found.pairs if p.name == HEAD]
        assert torch.equal(whole(head.base), weights()[EMBEDDING])
        assert torch.equal(whole(head.tuned), untied[HEAD])
        assert "TUNED keeps it apart" in noted(found, "tied")[HEAD]
        assert len(found.pairs) == 13
    turned = pairing(tmp_path / "turned", untied, weights(), tuned={"tie_word_embeddings": True})
    assert "BASE keeps it apart" in noted(turned, "tied")[HEAD]
    plain = pairing(tmp_path / "plain", weights(), untied, base={"tie_word_embeddings": False})
    assert list(noted(plain, "extra")) == [HEAD]
    other = weights(1) | {"m.projector.weight": untied[HEAD]}
    found = pairing(tmp_path / "other", weights(), other, base={"tie_word_embeddings": True})
    assert list(noted(found, "extra")) == ["m.projector.weight"]


def test_a_tie_is_found_under_a_wrapped_name(tmp_path: Path) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in tied(1).items()}
    found = pairing(tmp_path, tied(), wrapped)
    assert noted(found, "tied") == MEASURED_ONCE
    assert len(found.pairs) == 12


def test_a_tie_is_bit_for_bit_and_of_an_embedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PIECE_BYTES", 16)
    nearly = numbers(7, 4)
    nearly[6, 3] += 1e-6
    zeros, not_a_number = torch.zeros(7, 4), torch.full((7, 4), torch.nan)
    for tensors, expected in [
        ({EMBEDDING: numbers(7, 4), HEAD: nearly}, {}),
        ({EMBEDDING: zeros, HEAD: -zeros}, {}),
        ({EMBEDDING: numbers(7, 4), HEAD: numbers(7, 4).double()}, {}),
        ({EMBEDDING: zeros.half(), HEAD: zeros.bfloat16()}, {}),
        ({EMBEDDING: zeros.char(), HEAD: zeros.char()}, {}),
        ({"a.b.weight": zeros, "a.c.weight": zeros.clone()}, {}),
        ({EMBEDDING: not_a_number, HEAD: not_a_number.clone()}, {HEAD: EMBEDDING}),
        ({"gpt_neox.embed_in.weight": numbers(7, 4), "embed_out.weight": numbers(7, 4)},
         {"embed_out.weight": "gpt_neox.embed_in.weight"}),
        ({n: numbers(7, 4) for n in ("shared.weight", "decoder.embed_tokens.weight", HEAD)},
         {"shared.weight": "decoder.embed_tokens.weight", HEAD: "decoder.embed_tokens.weight"}),
    ]:  # fmt: skip
        assert open_checkpoint(str(save(tmp_path, tensors))).tied == expected


def test_a_storage_that_torch_shares_is_tied_without_reading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding = numbers(7, 4)
    torch.save({EMBEDDING: embedding, HEAD: embedding}, tmp_path / "it.bin")
    monkeypatch.setattr(storage, "_fill", None)
    assert open_checkpoint(str(tmp_path / "it.bin")).tied == {HEAD: EMBEDDING}


def test_every_kind_of_note_is_listed(tmp_path: Path) -> None:
    base = tied() | {"m.r.weight": numbers(2, 3), "m.t.weight": numbers(2, 3), "m.x": numbers(2, 2, 2)}
    tuned = tied(1) | {"m.r.weight": numbers(2, 4), "m.t.weight": numbers(3, 2), "m.x": numbers(2, 2, 2)}
    base |= {"m.q.weight": numbers(2, 3), "m.gone": numbers(1), "m.own.weight": numbers(2, 2)}
    tuned |= {"m.q.weight": numbers(2, 3).char(), "m.new": numbers(1), "module.m.own.weight": numbers(2, 2)}
    assert tuple(dict.fromkeys(note.kind for note in pairing(tmp_path, base, tuned).notes)) == KINDS


# ---- what cannot be read


def fails(name: Path | str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        open_checkpoint(str(name))


@pytest.mark.parametrize("name", ["./nothing", "/no/such/folder", "a/b/c", "gone.safetensors", "~/gone", ""])
def test_an_unknown_path_says_what_to_type(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    fails(name, rf"checkpoint '{name}': there is no such folder or file .*type a folder.*hub id.*minilm, smollm2")


def test_a_hub_out_of_reach_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    fails("org/name@v1", r"checkpoint 'org/name@v1' is no folder.*the hub did not give it \(no route\); type a folder")


def test_a_folder_without_weights(tmp_path: Path) -> None:
    fails(tmp_path, r"has no weights: looked for model\.safetensors\[\.index\.json\], .*; type a folder")
    save_file({"a.lora_A.weight": numbers(2, 3)}, tmp_path / "adapter_model.safetensors")
    fails(tmp_path, "holds an adapter, not a whole checkpoint: merge it")
    (tmp_path / "notes.txt").write_text("")
    fails(tmp_path / "notes.txt", r"notes\.txt is no file of weights; allowed: \.safetensors, \.bin")


DAMAGE = {
    "cut": lambda content: content[:-3],
    "longer": lambda content: content + b"xyz",
    "header": lambda content: content[:8] + b"#" + content[9:],
    "short": lambda content: content[:5],
    "empty": lambda content: b"",
    "text": lambda content: b"<!DOCTYPE html><html>not found</html>",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_damaged_file_is_named(damage: str, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"it.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(weights(), file)
    content = DAMAGE[damage](file.read_bytes())
    if suffix == "safetensors" or damage not in ("longer", "header"):  # zip keeps its header at the end
        file.write_bytes(content)
        fails(file, rf"it\.{suffix} is not whole \(.+\): copy or download it again")


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_wrong_byte_is_read_or_refused_never_a_crash(suffix: str, tmp_path: Path) -> None:
    file, tensors = tmp_path / f"it.{suffix}", {"a.weight": numbers(5, 4), "b.weight": numbers(3, 3)}
    (save_file if suffix == "safetensors" else torch.save)(tensors, file)
    content, refused = file.read_bytes(), 0
    for place in range(0, len(content), 1 if suffix == "safetensors" else 3):
        file.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            for stored in open_checkpoint(str(file)).tensors.values():
                if len(stored.shape) == 2:
                    whole(stored)
        except ConfigError:
            refused += 1
    assert refused > 50


def test_a_git_lfs_pointer_and_a_form_of_old(tmp_path: Path) -> None:
    for name in ("it.safetensors", "it.bin"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        fails(tmp_path / name, r"it\.\w+ is a git-lfs pointer, not the weights: type git lfs pull")
    torch.save(weights(), tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    fails(tmp_path / "old.bin", r"old\.bin is in the form of torch before 1\.6")
    (tmp_path / "dir.bin").mkdir()
    save_file({}, tmp_path / "none.safetensors")
    fails(tmp_path / "none.safetensors", r"none\.safetensors holds no tensors")


def test_shards_and_their_index_have_to_agree(tmp_path: Path) -> None:
    folder = save(tmp_path / "it", weights(), shards=2)
    index = folder / "model.safetensors.index.json"
    good = json.loads(index.read_text())["weight_map"]
    for places, match in [
        (good | {"new": "model-1.safetensors"}, r"model-1\.safetensors lacks 1 tensors of the index, such as new"),
        (good | {EMBEDDING: "model-1.safetensors"}, rf"model-1\.safetensors lacks 1 tensors .*{EMBEDDING}"),
        (good | {"new": "model-7.safetensors"}, r"it lacks model-7\.safetensors, named in model\.safetensors\.index"),
        (good | {"new": "../x.safetensors"}, r"index\.json names \.\./x\.safetensors, which is not a file beside it"),
        (["a"], r"index\.json has no weight_map"),
        ({"a": 3}, r"index\.json has no weight_map"),
    ]:
        index.write_text(json.dumps({"weight_map": places}))
        fails(folder, match)
    index.write_text('{"weight_map": {')
    fails(folder, r"index\.json cannot be read as JSON")
    index.write_text("[]")
    fails(folder, r"index\.json is no JSON object")
    index.unlink()
    save_file({EMBEDDING: numbers(7, 4)}, folder / "second.safetensors")
    fails(folder, rf"model-0\.safetensors and .*second\.safetensors both hold {EMBEDDING}: type the file")


def test_a_broken_config_is_named(tmp_path: Path) -> None:
    save(tmp_path, weights())
    (tmp_path / "config.json").write_text("{")
    fails(tmp_path, r"config\.json cannot be read as JSON")


class Trap:
    """Runs a command where pickle is trusted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_no_code_of_a_pickle_is_run(tmp_path: Path) -> None:
    sprung, file = tmp_path / "sprung", tmp_path / "it.bin"
    torch.save(weights() | {"trap": Trap(sprung)}, file)
    fails(file, r"it\.bin holds Python objects beside tensors \(\w+\.mkdir\), and a checkpoint's code is never run")
    file.write_bytes(pickle.dumps(Trap(sprung)))
    fails(file, r"it\.bin is not whole")
    torch.save(weights() | {"trap": Trap(sprung)}, file, _use_new_zipfile_serialization=False)
    fails(file, r"it\.bin is in the form of torch before 1\.6")
    assert not sprung.exists()
    torch.load(file, weights_only=False)
    assert sprung.exists(), "the trap works"


def test_torch_files_without_tensors_by_name(tmp_path: Path) -> None:
    file = tmp_path / "it.pt"
    for content, match in [({"epoch": 3}, "only: epoch"), (numbers(2, 2), "only: Tensor"), ([1], "only: list")]:
        torch.save(content, file)
        fails(file, rf"it\.pt holds no tensors by name, {match}; save model\.state_dict\(\) alone")


def rewritten(file: Path, compression: int, **changed: bytes) -> None:
    """The same zip file with other contents or compressed."""
    with zipfile.ZipFile(file) as archive:
        content = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, changed.get(name.rpartition("/")[2], data))


def test_a_torch_zip_that_was_written_again(tmp_path: Path) -> None:
    file = tmp_path / "it.pt"
    for compression, changed, match in [
        (zipfile.ZIP_DEFLATED, {}, r"it\.pt is compressed"),
        (zipfile.ZIP_STORED, {"byteorder": b"big"}, r"it\.pt is compressed, or of another byte order"),
        (zipfile.ZIP_STORED, {"constants.pkl": b""}, None),
        (zipfile.ZIP_STORED, {"0": bytes(8)}, r"it\.pt is not whole"),
    ]:
        torch.save({"a": numbers(5, 4), "b": numbers(2, 3)}, file)
        rewritten(file, compression, **changed)
        if match:
            fails(file, match)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("it/constants.pkl", b"")
    fails(file, r"it\.pt is a TorchScript program")


def test_a_file_that_changes_while_it_is_read_ends_in_a_message_not_in_the_process(tmp_path: Path) -> None:
    folder = save(tmp_path, {"a": numbers(64, 64)})
    stored = open_checkpoint(str(folder)).tensors["a"]
    os.truncate(stored.file, 4096)
    with pytest.raises(ConfigError, match=r"model\.safetensors ends early"):
        stored.block(1, 0, 4)
    stored.file.unlink()
    with pytest.raises(ConfigError, match=r"model\.safetensors cannot be read any more"):
        stored.block(0, 0, 4)


def test_our_own_mistakes_are_assertions(tmp_path: Path) -> None:
    tensors = open_checkpoint(str(save(tmp_path, {"a": numbers(3, 4), "b": numbers(3), "c": numbers(4, 3)}))).tensors
    for name, dim, start, stop in [("b", 0, 0, 1), ("a", 2, 0, 1), ("a", 0, 2, 1), ("a", 0, -1, 1)]:
        with pytest.raises(AssertionError):
            tensors[name].block(dim, start, stop)
    with pytest.raises(AssertionError):
        Difference(tensors["a"], tensors["c"])
