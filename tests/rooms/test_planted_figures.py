"""Known ranks: what each estimator says in known noise, of trained updates and of cuts, and the published tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from analysis import planted
from analysis.__main__ import main
from lorax_lab.spectra import singular_values

ROOT = Path(__file__).parents[2]
DOCS, RECORDS = ROOT / "docs", ROOT / "experiments" / "records"


@pytest.mark.parametrize("noise", planted.NOISES)
@pytest.mark.parametrize("ratio", planted.RATIOS)
def test_the_signal_has_its_rank_and_its_share(noise: str, ratio: float) -> None:
    strong, _ = planted.planted(noise, 1e8 * ratio, 5, 0, side=48)
    assert int((singular_values(strong) > 1e-3 * float(strong.norm())).sum()) == 5
    update, _ = planted.planted(noise, ratio, 5, 0, side=48)
    assert float(update.square().sum()) == pytest.approx(ratio**2 + 1, rel=0.15)  # chance leaves them nearly orthogonal
    assert torch.equal(planted.planted(noise, ratio, 5, 0, side=48)[0], update)
    assert not torch.equal(planted.planted(noise, ratio, 5, 1, side=48)[0], update)


def test_the_command_draws_what_there_are_records_of_and_names_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = planted.table(draws=2, ranks=(1, 4, 64), side=64)
    monkeypatch.setattr(planted, "table", lambda draws: noise)
    every = {"planted_ranks", "planted_everywhere"}
    for folder, drawn in ((RECORDS, every), (tmp_path, {"planted_ranks"})):
        out = tmp_path / folder.name / "out"
        assert main(["planted", "--out", str(out), "--records", str(folder)]) == 0
        assert {path.stem for path in out.iterdir()} == drawn
        assert ("experiments.planted_everywhere" in capsys.readouterr().out) == (folder == tmp_path)


def test_the_published_tables_are_what_the_program_makes() -> None:
    published = pd.read_csv(DOCS / "planted_ranks.csv")
    place = {"noise": "rows", "ratio": 3.0, "rank": 8}
    estimates = [planted.estimates(*planted.planted("rows", 3.0, 8, draw)) for draw in range(planted.DRAWS)]
    cell = published[(published[list(place)] == pd.Series(place)).all(axis=1)].set_index("estimator")
    assert set(cell.index) == set(estimates[0])
    for name in estimates[0]:
        spread = planted.spread([one[name] for one in estimates], 8)
        assert cell.loc[name, list(spread)].astype(float).to_dict() == pytest.approx(spread, rel=1e-6, nan_ok=True)
    every = planted.everywhere_table(pd.read_csv(RECORDS / "planted_everywhere.csv"))
    pd.testing.assert_frame_equal(pd.read_csv(DOCS / "planted_everywhere.csv"), every, check_dtype=False)
    assert planted.draw_everywhere(every).axes
