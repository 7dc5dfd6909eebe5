"""What an audit says of noise that is not iid: the nulls that keep its structure beside it, and no count of signal."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from lorax_lab.audit import measure
from lorax_lab.audit.__main__ import main
from lorax_lab.spectra import MEASURES, NULLS, structured_nulls
from lorax_lab.streams import generator

SHAPE = (96, 120)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(updates: dict[str, torch.Tensor]) -> tuple[str, str]:
    """A base and a tuned checkpoint in fp64, so that no rounding hides an update."""
    base = {name: torch.randn(SHAPE, generator=generator(0, name), dtype=torch.float64) for name in updates}
    save_file(base, "base.safetensors")
    save_file({name: base[name] + update for name, update in updates.items()}, "tuned.safetensors")
    return "base.safetensors", "tuned.safetensors"


def noise(name: str) -> torch.Tensor:
    draw = torch.randn(SHAPE, generator=generator(1, name), dtype=torch.float64)
    return draw * torch.randn(SHAPE[0], 1, generator=generator(2, name), dtype=torch.float64).exp()


def iid(name: str) -> torch.Tensor:
    return torch.randn(SHAPE, generator=generator(3, name), dtype=torch.float64)


def audit(*words: Any, out: str = "out") -> pd.DataFrame:
    assert main([str(word) for word in (*words, "--out", out)]) == 0
    return pd.read_csv(f"{out}/audit.csv")


def test_rows_of_unequal_size_are_no_signal(capsys: pytest.CaptureFixture[str]) -> None:
    rows = audit(*write({name: noise(name) for name in ("l.0.q.weight", "l.1.q.weight")}))
    assert (rows["spikes"] > 10).all()
    assert rows["spikes_told"].isna().all()
    assert rows["spikes_not_told"].str.startswith("the bulk is not that of iid noise: misfit").all()
    for null in ("scaled", "signs"):
        assert rows[f"nulls.{null}.effective_rank"].to_numpy() == pytest.approx(rows["effective_rank"], rel=0.06)
        assert (rows[f"nulls.{null}.above"] <= 2).all()
    assert (rows["nulls.permuted.effective_rank"] > 1.2 * rows["effective_rank"]).all()
    printed = capsys.readouterr().out
    table = next(line for line in printed.splitlines() if line.strip().startswith("q "))
    assert "not told" in table
    assert "how many of their directions stand above its noise is not told" in " ".join(printed.split())
    assert "directions of a matrix stand above" not in printed


def test_iid_noise_and_a_signal_in_it_are_told() -> None:
    U, V = (torch.linalg.qr(iid("uv")[:, :4] if side == 0 else iid("uv").T[:, :4]).Q for side in (0, 1))
    planted = iid("n") + 60 * U @ V.T
    rows = audit(*write({"l.0.q.weight": iid("i"), "l.1.q.weight": planted, "l.2.q.weight": noise("x")}))
    assert list(rows["spikes_told"])[:2] == [0, 4]
    assert math.isnan(rows.loc[2, "spikes_told"])
    assert rows["spikes_not_told"].isna().tolist() == [True, True, False]
    report = " ".join(Path("out/report.md").read_text().split())
    assert "0 to 4 directions of a matrix stand above its noise (in the 2 of 3 matrices where that is told)" in report
    assert "In 1 of 3 matrices the bulk is not that of iid noise" in report


def test_the_nulls_are_those_of_the_difference_and_come_from_its_name() -> None:
    update = noise("q")
    base, tuned = write({"l.0.q.weight": update})
    rows = audit(base, tuned)
    expected = structured_nulls(update, generator(0, "nulls/l.0.q.weight"))
    for null in NULLS:
        for name in (*MEASURES, "above"):
            assert rows.loc[0, f"nulls.{null}.{name}"] == pytest.approx(expected[null][name], rel=1e-6)
    report = Path("out/report.md").read_text()
    for words in ("its magnitudes and other signs", "own scales of rows and columns", "entries in another order"):
        assert words in report
    assert "entries are correlated" in report


def test_nulls_are_left_out_where_they_are_not_wanted_and_added_where_they_are() -> None:
    names = write({"l.0.q.weight": noise("q")})
    without = audit(*names, "--no-nulls")
    assert not [column for column in without if column.startswith("nulls")]
    with_nulls = audit(*names)
    assert with_nulls[list(without)].equals(without)
    assert {f"nulls.{null}.effective_rank" for null in NULLS} <= set(with_nulls)
    top = audit(*names, "--top", 8, out="top")
    assert not [column for column in top if column.startswith("nulls")]


def test_a_certified_top_tells_no_spikes() -> None:
    U, V = (torch.linalg.qr(iid("uv").T[:, :4] if side else iid("uv")[:, :4]).Q for side in (0, 1))
    rows = audit(*write({"l.0.q.weight": 0.01 * iid("n") + 60 * U @ V.T}), "--top", 8)
    assert rows.loc[0, "route"] == "krylov"
    assert rows.loc[0, "spikes_not_told"] == "no bulk was measured"
    assert "only the top of the spectrum was measured" in Path("out/report.md").read_text().replace("\n", " ")


def test_what_is_too_large_for_nulls_and_factors_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "NULL_ENTRIES", math.prod(SHAPE) - 1)
    rows = audit(*write({"l.0.q.weight": noise("q")}))
    assert not [column for column in rows if column.startswith("nulls")]
    torch.save({"q.lora_A": iid("a")[:2], "q.lora_B": iid("b")[:, :2]}, "lora.pt")
    adapter = audit("lora.pt", "--alpha", 4, out="adapter")
    assert not [column for column in adapter if column.startswith(("nulls", "spikes"))]
    assert json.loads(Path("adapter/audit.json").read_text())["alpha"] == 4
