"""The audit through files on disk: planted updates come back, adapters equal their merged weights, nothing is lost."""

import json
import math
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matrices import gaussian, structured_nulls, with_values
from safetensors.torch import save_file
from torch import Tensor, nn

from lorax_lab.audit import measure
from lorax_lab.audit.__main__ import main
from lorax_lab.methods.adapters import PREFIX, SETTINGS, WEIGHTS
from lorax_lab.spectra import MEASURES, NULLS, summary
from lorax_lab.streams import generator

pytestmark = pytest.mark.usefixtures("own_folder")
SHAPES = {"layers.0.q": (96, 96), "layers.0.up": (200, 96), "layers.1.q": (96, 96), "layers.1.up": (200, 96)}
RANK = 5


def planted(size: float = 1.0, noise: float = 0.0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A base (std .02) and the same plus rank-5 updates of `size` · ‖W‖ with noise of `noise` · ‖ΔW‖."""
    base, tuned = {}, {}
    for seed, (name, shape) in enumerate(SHAPES.items()):
        W = 0.02 * gaussian(*shape, seed=seed).float()
        update = with_values(torch.arange(RANK, 0, -1), *shape, seed=100 + seed)
        E = gaussian(*shape, seed=200 + seed)
        update = update / update.norm() + noise * E / E.norm()
        base[f"{name}.weight"], tuned[f"{name}.weight"] = W, W + size * W.norm() * update.float()
    return base, tuned


def write(folder: str, tensors: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> Path:
    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file({n: t.to(dtype).contiguous() for n, t in tensors.items()}, Path(folder, "model.safetensors"))
    return Path(folder)


def written(base: dict[str, Tensor], tuned: dict[str, Tensor]) -> tuple[Path, Path]:
    return write("base", base), write("tuned", tuned)


def audit(*words: Any, code: int = 0, out: str = "out") -> pd.DataFrame:
    assert main([str(w) for w in (*words, "--out", out)]) == code
    return pd.read_csv(f"{out}/audit.csv")


def flags(rows: pd.DataFrame) -> list[set[str]]:
    return [set(str(cell).split()) - {"nan"} for cell in rows["untrusted"]]


@pytest.mark.parametrize("size", [1e-1, 1e-3])
def test_a_planted_rank_comes_back_exactly_in_fp32(size: float) -> None:
    base, tuned = planted(size)
    rows = audit(*written(base, tuned))
    assert list(rows["matrix"]) == list(base)
    assert list(rows["numerical_rank"]) == [RANK] * 4
    assert list(rows["energy_rank_99"]) == [RANK] * 4
    assert not any({"energy_rank_90", "stable_rank", "participation_ratio"} & f for f in flags(rows))
    assert rows["relative_norm"].to_numpy() == pytest.approx(size, rel=1e-3)
    true = summary(torch.arange(RANK, 0, -1.0), (96, 96))
    assert rows["participation_ratio"].to_numpy() == pytest.approx(true["participation_ratio"], rel=1e-4)


def test_a_planted_rank_is_flagged_in_bf16() -> None:
    base, tuned = planted(1e-2)
    exact = {name: W.bfloat16().float() for name, W in base.items()}
    tuned = {name: exact[name] + tuned[name] - base[name] for name in base}
    rows = audit(write("base", exact, dtype=torch.bfloat16), write("tuned", tuned, dtype=torch.bfloat16))
    assert all({"effective_rank", "energy_rank_99"} <= f for f in flags(rows))
    assert (rows["effective_rank"] > 4 * RANK).all()
    assert (rows["rounding_share"] > 0.01).all()


def test_spikes_stand_above_planted_noise() -> None:
    base, tuned = planted(1e-1, noise=0.1)
    folders = written(base, tuned)
    rows = audit(*folders)
    assert list(rows["spikes"]) == [RANK] * 4
    assert rows["spike_energy"].to_numpy() == pytest.approx(1 / 1.01, abs=0.01)
    assert (rows["bulk_misfit"] < 0.1).all()
    assert (rows["gavish_donoho_rank"] == RANK).all()
    for index, name in enumerate(base):
        with np.load(f"out/matrices/{index:05d}.npz") as arrays:
            expected = torch.linalg.svdvals(tuned[name].double() - base[name].double())
            torch.testing.assert_close(torch.from_numpy(arrays["sigma"]), expected, rtol=1e-6, atol=0)


def test_a_stopped_audit_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    base, tuned = planted(1e-2)
    folders = written(base, tuned)
    real, done = measure.measure, []

    def stopped(matrix: Any, *rest: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(matrix.name)
        return real(matrix, *rest)

    monkeypatch.setattr(measure, "measure", stopped)
    assert main([*map(str, folders), "--out", "out"]) == 130
    before = {p.name: p.read_bytes() for p in Path("out/matrices").iterdir()}
    assert len(before) == 2
    monkeypatch.setattr(measure, "measure", lambda matrix, *rest: (done.append(matrix.name), real(matrix, *rest))[1])
    rows = audit(*folders)
    assert done == list(base) == list(rows["matrix"])
    for name, content in before.items():
        assert (Path("out/matrices") / name).read_bytes() == content
        (Path("out/matrices") / name).write_bytes(content[: len(content) // 2])
    audit(*folders)
    assert done == [*base, *list(base)[:2]], "a matrix that is half written is measured again"


def test_another_audit_is_not_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    base, tuned = planted(1e-2)
    folders = written(base, tuned)
    audit(*folders)
    before = Path("out/audit.csv").read_bytes()
    assert main([str(folders[1]), str(folders[0]), "--out", "out"]) == 2
    assert "base, tuned" in capsys.readouterr().err
    assert main([*map(str, folders), "--out", "base"]) == 2
    assert "--out base" in capsys.readouterr().err
    Path("out/audit.json").write_text('{"format')
    assert main([*map(str, folders), "--out", "out"]) == 2
    assert "type another --out" in capsys.readouterr().err
    assert Path("out/audit.csv").read_bytes() == before


def test_wrong_words_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    base, tuned = planted()
    written(base, tuned)
    torch.save({"q.lora_A": torch.ones(6, 96), "q.lora_B": torch.ones(10, 3)}, "merged.bin")
    strangers = {f"{name}.weight": torch.ones(7, 7) for name in "abcdefgh"}
    save_file(strangers, "other.safetensors")
    for words, named in [
        ("nowhere tuned", "nowhere"),
        ("base", "BASE TUNED"),
        ("base other.safetensors", "no tensor in common"),
        ("base tuned --alpha 16", "--alpha 16"),
        ("base merged.bin --alpha nan", "--alpha nan"),
        ("base merged.bin --alpha 16", "group 1 of 2"),
        ("card merged.bin --alpha 16 --extract rank=2", "group 1 of 2"),
    ]:
        assert main([*words.split(), "--out", "out"]) == 2
        assert named in capsys.readouterr().err
        assert not Path("out").exists()


def test_what_cannot_be_measured_is_named_and_the_rest_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    base, tuned = planted(1e-2)
    tuned["layers.0.up.weight"][3, 7] = math.nan
    tuned["layers.1.up.weight"] = tuned["layers.1.up.weight"][:-1]
    rows = audit(*written(base, tuned), code=1)
    assert list(rows["matrix"]) == ["layers.0.q.weight", "layers.1.q.weight"]
    assert "(3, 7)" in capsys.readouterr().out
    assert all(f"layers.{i}.up.weight" in Path("out/report.md").read_text() for i in (0, 1))


def tiny(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = {"q": nn.Linear(96, 96, bias=False), "tanh": nn.Tanh(), "up": nn.Linear(96, 200, bias=False)}
    return nn.Sequential(OrderedDict(layers))


def adapter(folder: str, **settings: Any) -> tuple[Path, Path, dict[str, Tensor]]:
    """A base on disk, a PEFT adapter on it, and PEFT's own merged weights."""
    from peft import LoraConfig, get_peft_model

    model = tiny(0)
    base = write("base", {n: t.clone() for n, t in model.state_dict().items()})
    tuned = get_peft_model(model, LoraConfig(r=3, target_modules=["q", "up"], **settings))
    with torch.no_grad():
        for seed, (name, parameter) in enumerate(tuned.named_parameters()):
            if "lora_" in name:
                parameter += 0.1 * gaussian(*parameter.shape, seed=seed)
    tuned.save_pretrained(folder)
    return base, Path(folder), tuned.merge_and_unload().state_dict()


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"use_dora": True}, {"init_lora_weights": "pissa"}])
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_is_its_merged_weights(settings: dict[str, Any]) -> None:
    base, folder, merged = adapter("adapter", **settings)
    rows = audit(base, folder)
    expected = audit(base, write("merged", {n: t.clone() for n, t in merged.items()}), out="pair")
    assert list(rows["matrix"]) == list(expected["matrix"])
    for name in ("frobenius_norm", "relative_norm", "stable_rank", "participation_ratio", "energy_rank_90"):
        assert rows[name].to_numpy() == pytest.approx(expected[name].to_numpy(), rel=1e-4), name
    if not settings:
        assert list(rows["numerical_rank"]) == [3, 3]


def test_an_adapter_alone_is_measured_unless_it_needs_its_base(capsys: pytest.CaptureFixture[str]) -> None:
    _, folder, _ = adapter("adapter")
    rows = audit(folder)
    assert list(rows["numerical_rank"]) == [3, 3]
    assert (rows["null.effective_rank"] < 3).all()
    _, folder, _ = adapter("dora", use_dora=True)
    assert main([str(folder), "--out", "other"]) == 2
    assert "BASE ADAPTER" in capsys.readouterr().err


def test_an_output_layer_that_is_tied_is_held_against_the_embedding_and_packed_weights_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def of(module: str) -> str:
        tensors = {f"{module}.lora_A": gaussian(2, 8), f"{module}.lora_B": gaussian(20, 2)}
        Path(module).mkdir()
        save_file({f"{PREFIX}{n}.weight": t.contiguous() for n, t in tensors.items()}, Path(module, WEIGHTS))
        Path(module, SETTINGS).write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2}))
        return module

    base = Path("base.safetensors")
    save_file({"model.embed_tokens.weight": gaussian(20, 8), "q.weight": torch.ones(80, 1).byte()}, base)
    rows = audit(base, of("lm_head"))
    assert list(rows["matrix"]) == ["lm_head.weight"]
    assert float(rows["relative_norm"].iloc[0]) > 0
    assert main([str(base), of("q"), "--out", "other"]) == 2
    assert "dequantize it first" in capsys.readouterr().err
    assert audit("lm_head", out="alone")["undefined"].tolist() == ["no W0 was given"]


def test_a_layer_that_did_not_change_flags_nothing() -> None:
    base = {f"l.{i}.q.weight": torch.randn(32, 24, dtype=torch.float64) for i in range(2)}
    low = 100.0 * torch.outer(gaussian(32), gaussian(24))
    before, after = written(base, {"l.0.q.weight": base["l.0.q.weight"], "l.1.q.weight": base["l.1.q.weight"] + low})
    rows = audit(before, after)
    assert rows["untrusted"].tolist()[0]
    text = Path("out/report.md").read_text()
    assert re.search(r"^ *q .* 0 *$", text, re.MULTILINE)
    assert rows["numerical_rank"].tolist() == [0, 1]


def test_an_extracted_adapter_is_the_truncated_update() -> None:
    from peft import PeftModel

    base, tuned = tiny(0).state_dict(), tiny(1).state_dict()
    tuned = {n: t + 0.1 * tuned[n] for n, t in base.items()}
    before, after = map(str, written(base, tuned))
    assert main(["card", after, "--base", before, "--extract", "rank=7", "--out", "out"]) == 0
    merged = PeftModel.from_pretrained(tiny(0), "out/adapter-rank=7").merge_and_unload().state_dict()
    for name, W in base.items():
        U, sigma, Vh = torch.linalg.svd((tuned[name] - W).double(), full_matrices=False)
        torch.testing.assert_close((merged[name] - W).double(), (U[:, :7] * sigma[:7]) @ Vh[:7], rtol=0, atol=1e-6)


# ---- noise that is not iid: the nulls that keep its structure beside it, and no count of signal

WIDE = (96, 120)


def test_iid_noise_and_a_signal_in_it_are_told_and_nulls_are_those_of_the_difference() -> None:
    iid, signal = gaussian(*WIDE, seed=10), gaussian(*WIDE, seed=11) + with_values([60.0] * 4, *WIDE)
    update = gaussian(*WIDE, seed=12) * gaussian(WIDE[0], 1, seed=13).exp()
    updates = {"l.0.q.weight": iid, "l.1.q.weight": signal, "l.2.q.weight": update}
    base = {name: gaussian(*WIDE, seed=seed) for seed, name in enumerate(updates)}
    save_file(base, "base.safetensors")  # in fp64, so that no rounding hides an update
    save_file({name: base[name] + updates[name] for name in base}, "tuned.safetensors")
    names = ("base.safetensors", "tuned.safetensors")
    rows, without = audit(*names), audit(*names, "--no-nulls", out="without")
    assert list(rows["spikes_told"])[:2] == [0, 4]
    assert math.isnan(rows.loc[2, "spikes_told"])
    assert rows["spikes_not_told"].isna().tolist() == [True, True, False]
    expected = structured_nulls(update, generator(0, "nulls/l.2.q.weight"))
    for null in NULLS:
        for name in (*MEASURES, "above"):
            assert rows.loc[2, f"nulls.{null}.{name}"] == pytest.approx(expected[null][name], rel=1e-6)
    assert rows[list(without)].equals(without)
    assert not [column for column in without if column.startswith("nulls")]
