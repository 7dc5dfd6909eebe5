"""Plain tensor files in loralib's layout: the singular values that they were made from come back, or a refusal."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from lorax_lab.audit.__main__ import main
from lorax_lab.spectra import singular_values

RANK, ALPHA = 3, 24.0
SIGMA = {"l.0.q": [9.0, 4.0, 1.0], "l.0.up": [5.0, 5.0, 5.0]}
SHAPES = {"l.0.q": (40, 40), "l.0.up": (80, 40)}


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORAX_LAB_CACHE", str(tmp_path / "cache"))


def orthonormal(*size: int, seed: int) -> Tensor:
    draw = torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(draw).Q


def factors(shape: tuple[int, int], sigma: list[float], seed: int, alpha: float = ALPHA) -> tuple[Tensor, Tensor]:
    """loralib's lora_B (out, r) and lora_A (r, in) of an update with these singular values, (alpha / r) B A."""
    roots = (torch.tensor(sigma, dtype=torch.float64) * len(sigma) / alpha).sqrt()
    turn = torch.diag(torch.linspace(1, 3, len(sigma), dtype=torch.float64))  # B and A need not be balanced
    B, A = orthonormal(shape[0], len(sigma), seed=seed) * roots, orthonormal(shape[1], len(sigma), seed=seed + 1).T
    return (B @ turn).float(), (torch.linalg.inv(turn) @ (roots[:, None] * A)).float()


def linear() -> dict[str, Tensor]:
    tensors = {}
    for seed, (name, shape) in enumerate(SHAPES.items()):
        tensors[f"{name}.lora_B"], tensors[f"{name}.lora_A"] = factors(shape, SIGMA[name], 10 * seed)
    return tensors


def write(tensors: dict[str, Tensor], name: str = "lora.bin") -> Path:
    path = Path(name)
    contiguous = {key: tensor.contiguous() for key, tensor in tensors.items()}
    save_file(contiguous, path) if path.suffix == ".safetensors" else torch.save(contiguous, path)
    return path


def audit(*words: Any) -> pd.DataFrame:
    assert main([str(word) for word in (*words, "--out", "out")]) == 0
    return pd.read_csv("out/audit.csv")


def sigma_of(index: int) -> list[float]:
    with np.load(f"out/matrices/{index:05d}.npz") as arrays:
        return [float(value) for value in arrays["sigma"]]


def refused(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    assert main([str(word) for word in (*words, "--out", "out")]) == 2
    assert not Path("out").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize("name", ["lora.bin", "lora.pt", "lora.safetensors"])
def test_the_singular_values_are_those_that_were_planted(name: str) -> None:
    rows = audit(write(linear(), name), "--alpha", ALPHA)
    assert list(rows["matrix"]) == ["l.0.q.weight", "l.0.up.weight"]
    for index, values in enumerate(SIGMA.values()):
        assert sigma_of(index) == pytest.approx(values, rel=1e-5)
    assert list(rows["rank"]) == [RANK] * 2
    assert list(zip(rows["out"], rows["in"], strict=True)) == list(SHAPES.values())


def test_alpha_scales_and_another_alpha_is_another_audit(capsys: pytest.CaptureFixture[str]) -> None:
    path = write(linear())
    audit(path, "--alpha", 2 * ALPHA)
    assert sigma_of(0) == pytest.approx([18.0, 8.0, 2.0], rel=1e-5)
    assert main([str(path), "--out", "out", "--alpha", str(ALPHA)]) == 2
    assert "alpha differ" in capsys.readouterr().err


def test_a_wrapped_state_dict_and_other_tensors_are_read_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"epoch": 3, "model_state_dict": linear() | {"l.0.q.bias": torch.zeros(40)}}, "lora.pt")
    assert len(audit("lora.pt", "--alpha", ALPHA)) == 2
    assert "saved beside the factors, and not measured (1): l.0.q.bias" in capsys.readouterr().out


def merged(enabled: list[bool], out: int = 30, inside: int = 20) -> tuple[dict[str, Tensor], Tensor]:
    """A MergedLinear's factors, and the ΔW that loralib's own code makes of them: a convolution with groups, whose
    rows are put where the enabled thirds are."""
    groups, draw = sum(enabled), torch.Generator().manual_seed(5)
    A = torch.randn(groups * RANK, inside, generator=draw)
    B = torch.randn(groups * out // len(enabled), RANK, generator=draw)
    product = F.conv1d(A[None], B[..., None], groups=groups)[0]
    delta = torch.zeros(len(enabled), out // len(enabled), inside)
    delta[torch.tensor(enabled)] = product.view(groups, -1, inside)
    return {"h.0.attn.c_attn.lora_A": A, "h.0.attn.c_attn.lora_B": B}, ALPHA / RANK * delta


@pytest.mark.parametrize("enabled", [[True, False, True], [True, True, True], [False, True, False]])
def test_a_merged_linear_is_read_group_by_group(enabled: list[bool]) -> None:
    tensors, delta = merged(enabled)
    rows = audit(write(tensors), "--alpha", ALPHA)
    groups = sum(enabled)
    names = [f" (group {g + 1} of {groups})" for g in range(groups)] if groups > 1 else [""]
    assert list(rows["matrix"]) == [f"h.0.attn.c_attn{name}.weight" for name in names]
    assert set(rows["rank"]) == {RANK}
    for index, block in enumerate(delta[torch.tensor(enabled)]):
        assert sigma_of(index) == pytest.approx(singular_values(block)[:RANK].tolist(), rel=1e-5)


EMBEDDINGS = ("wte", "transformer.wpe", "shared", "model.embed_tokens", "embeddings", "bert.embeddings.word_embeddings")
LINEAR = ("mlp.shared_experts.gate_proj", "mlp.shared_expert.up_proj", "embeddings_project", "time_embedding.linear_1")


@pytest.mark.parametrize("name", [*EMBEDDINGS, *LINEAR, "SelfAttention.relative_attention_bias", "lm_head"])
def test_only_an_embedding_is_turned_as_loralib_turns_it(name: str) -> None:
    B, A = factors((16, 50), [3.0, 2.0], 0)
    rows = audit(write({f"{name}.lora_B": B, f"{name}.lora_A": A}), "--alpha", ALPHA)
    turned = name in EMBEDDINGS or "bias" in name
    assert (rows.loc[0, "out"], rows.loc[0, "in"]) == ((50, 16) if turned else (16, 50))
    assert sigma_of(0) == pytest.approx([3.0, 2.0], rel=1e-5)


def test_with_a_base_the_relative_norm_is_measured_too(capsys: pytest.CaptureFixture[str]) -> None:
    base = {f"{name}.weight": torch.ones(shape) for name, shape in SHAPES.items()}
    save_file(base, "base.safetensors")
    rows = audit("base.safetensors", write(linear()), "--alpha", ALPHA)
    assert rows.loc[0, "relative_norm"] == pytest.approx(98**0.5 / 40, rel=1e-5)


def test_groups_have_no_place_in_a_base_and_no_peft_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"h.0.attn.c_attn.weight": torch.ones(20, 30)}, "base.safetensors")
    path = write(merged([True, False, True])[0])
    assert "leave BASE out" in refused(capsys, "base.safetensors", path, "--alpha", ALPHA)
    assert "leave --extract out" in refused(capsys, path, "--alpha", ALPHA, "--extract", "rank=2")


def test_without_alpha_it_says_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, write(linear()))
    assert "lora.bin holds loralib's factors and not their alpha" in error
    assert "type --alpha 16" in error


@pytest.mark.parametrize("alpha", ["0", "-4", "nan", "inf"])
def test_an_alpha_that_is_no_size_is_refused(alpha: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "allowed are numbers > 0" in refused(capsys, write(linear()), "--alpha", alpha)


def test_a_stated_alpha_is_used_and_another_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    path = write(linear() | {f"{name}.lora_alpha": torch.tensor(ALPHA) for name in SHAPES})
    assert "states alpha 24 as l.0.q.lora_alpha; leave --alpha out" in refused(capsys, path, "--alpha", "16")
    audit(path)
    assert sigma_of(0) == pytest.approx(SIGMA["l.0.q"], rel=1e-5)
    assert main([str(path), "--out", "same", "--alpha", "24"]) == 0


def test_a_stated_alpha_may_be_an_integer() -> None:
    audit(write(linear() | {f"{name}.alpha": torch.tensor(int(ALPHA)) for name in SHAPES}))
    assert sigma_of(0) == pytest.approx(SIGMA["l.0.q"], rel=1e-5)


@pytest.mark.parametrize("alpha", [0, 0.0, -8.0, float("nan"), float("inf")])
def test_a_stated_alpha_that_is_no_size_is_refused_by_name(alpha: float, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(linear() | {f"{name}.alpha": torch.tensor(alpha) for name in SHAPES})
    assert f"l.0.q.alpha is {alpha:g}; expected a number > 0" in refused(capsys, path)


def test_alpha_beside_peft_or_two_checkpoints_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("peft")
    folder.mkdir()
    B, A = factors((40, 40), [2.0, 1.0], 0)
    save_file(
        {"base_model.model.q.lora_A.weight": A, "base_model.model.q.lora_B.weight": B},
        folder / "adapter_model.safetensors",
    )
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 8}')
    assert "states 8; leave --alpha out" in refused(capsys, folder, "--alpha", "16")
    for name in ("base", "tuned"):
        save_file({"q.weight": torch.randn(8, 8)}, f"{name}.safetensors")
    error = refused(capsys, "base.safetensors", "tuned.safetensors", "--alpha", "16")
    assert "is no adapter; leave --alpha out" in error
    audit(folder, "--alpha", "8")
    assert sigma_of(0) == pytest.approx([2 / 3, 1 / 3], rel=1e-5)  # made for alpha 24


def test_peft_factors_without_their_settings_say_where_alpha_is(capsys: pytest.CaptureFixture[str]) -> None:
    B, A = factors((40, 40), [2.0, 1.0], 0)
    path = write({"q.lora_A.weight": A, "q.lora_B.weight": B}, "renamed.safetensors")
    assert "PEFT keeps alpha in adapter_config.json" in refused(capsys, path, "--alpha", "16")


def test_a_checkpoint_folder_with_factors_in_it_is_not_read_as_merged(capsys: pytest.CaptureFixture[str]) -> None:
    for name, more in (("base", {}), ("tuned", linear())):
        Path(name).mkdir()
        weights = {f"{key}.weight": torch.ones(shape) for key, shape in SHAPES.items()}
        save_file({key: t.contiguous() for key, t in (weights | more).items()}, f"{name}/model.safetensors")
    assert "name the file itself, tuned/model.safetensors, with --alpha" in refused(capsys, "base", "tuned")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"l.0.q.lora_A": torch.ones(4, 40)}, "allowed are (r, in) and (out, r)"),
        ({"l.0.q.lora_A": torch.full((RANK, 40), float("nan"))}, "l.0.q.lora_A has nan or inf inside"),
        ({"l.0.q.lora_A": torch.ones(RANK, 40, dtype=torch.int64)}, "expected a matrix of floating point"),
        ({"l.0.q.lora_A": torch.ones(RANK)}, "expected a matrix of floating point"),
        ({"l.1.lora_A": torch.ones(RANK, 40)}, "l.1.lora_B is missing"),
        ({"l.0.q.conv.weight": torch.ones(40, 40, 1, 1)}, "l.0.q is a convolution"),
        ({"l.0.q.weight": torch.ones(40, 40, 1, 1)}, "l.0.q is a convolution"),
        ({"conv1.lora_A": torch.ones(9, 9), "conv1.lora_B": torch.ones(9, 9)}, "conv1 is a convolution"),
        ({"l.0.q.alpha": torch.ones(2)}, "expected one number"),
        ({"l.0.q.alpha": torch.tensor(True)}, "l.0.q.alpha is bool; expected a number"),
    ],
)
def test_what_is_no_factor_of_loralib_is_refused_by_name(
    change: dict[str, Tensor], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, write(linear() | change), "--alpha", ALPHA)


class Bomb:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


def test_no_code_of_a_file_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(linear() | {"bomb": Bomb()}, "lora.bin")
    assert "code is never run" in refused(capsys, "lora.bin", "--alpha", ALPHA)
    assert not Path("exploded").exists()


def test_a_damaged_file_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    path = write(linear())
    path.write_bytes(path.read_bytes()[:-40])
    assert "lora.bin is not whole" in refused(capsys, path, "--alpha", ALPHA)
    Path("lora.safetensors").write_bytes(struct.pack("<Q", 10**12))
    assert "lora.safetensors is not whole" in refused(capsys, "lora.safetensors", "--alpha", ALPHA)
