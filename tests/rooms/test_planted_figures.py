"""Known ranks: what each estimator says in known noise, of trained updates and of cuts, and the published tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from synthetic import publish, study

from analysis import planted
from analysis.__main__ import main
from analysis.study.verdict import rulings
from lorax_lab.spectra import singular_values

ROOT = Path(__file__).parents[2]
DOCS, RECORDS = ROOT / "docs", ROOT / "experiments" / "records"
LEVELS = ("planted rank 1", "planted rank 8", "planted rank 8 in noisy labels")


@pytest.fixture(scope="module")
def noise() -> pd.DataFrame:
    return planted.table(draws=2, ranks=(1, 4, 64), side=64)


@pytest.fixture(scope="module")
def records_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic study of three levels, in which r* = 8 and k* = 4 throughout."""
    folder, made = tmp_path_factory.mktemp("records"), study(tasks=LEVELS)
    publish(folder / "planted_ranks", made.lines, made.declared)
    return folder


@pytest.mark.parametrize("noise", planted.NOISES)
@pytest.mark.parametrize("ratio", planted.RATIOS)
def test_the_signal_has_its_rank_and_its_share(noise: str, ratio: float) -> None:
    strong, _ = planted.planted(noise, 1e8 * ratio, 5, 0, side=48)
    assert int((singular_values(strong) > 1e-3 * float(strong.norm())).sum()) == 5
    update, _ = planted.planted(noise, ratio, 5, 0, side=48)
    assert float(update.square().sum()) == pytest.approx(ratio**2 + 1, rel=0.15)  # chance leaves them nearly orthogonal
    assert torch.equal(planted.planted(noise, ratio, 5, 0, side=48)[0], update)
    assert not torch.equal(planted.planted(noise, ratio, 5, 1, side=48)[0], update)


def test_the_nulls_find_a_strong_signal_and_no_full_one(noise: pd.DataFrame) -> None:
    strong = noise[(noise["noise"] == "iid") & (noise["ratio"] == 3.0)].pivot_table(
        index="rank", columns="estimator", values="mean"
    )
    signs = strong["above redrawn signs"]
    assert (signs[1], signs[64]) == (1, 0)
    assert 3 <= signs[4] <= 4
    assert (strong["effective rank"][[1, 4]] > 10).all()


def test_r_and_k_are_those_of_the_verdict(records_folder: Path) -> None:
    records = planted.trained_records(records_folder)
    rows = planted.trained_table(records).set_index(["level", "estimator"])
    assert set(rows.index.get_level_values("level")) == set(LEVELS)
    for ruling in (ruling for ruling in rulings(records) if ruling.module == "all"):
        assert rows.loc[(ruling.task, planted.R_STAR), "estimate"] == 8
        assert rows.loc[(ruling.task, planted.K_STAR), "estimate"] == 4
        assert rows.loc[(ruling.task, "effective rank"), "estimate"] == pytest.approx(ruling.effective.mean)
    errors = rows["error"]
    assert (errors["planted rank 1", planted.R_STAR], errors["planted rank 8", planted.K_STAR]) == (3, 1)


@pytest.mark.parametrize(
    ("scores", "k"),
    [
        ({0: 0.99, 1: 0.9, 2: 1.0}, 2),
        ({0: 0.981, 1: 1.0, 2: 1.0}, 0),
        ({0: 0.5, 1: 0.97, 2: 1.0}, 2),
        ({0: 0.5, 1: 1.0, 2: 0.9}, 1),  # noise that is cut off
    ],
)
def test_k_is_the_smallest_from_which_on_nothing_is_lost(scores: dict[int, float], k: int) -> None:
    assert planted.k_star(scores) == k


def test_the_command_draws_what_there_are_records_of_and_names_the_rest(
    records_folder: Path,
    noise: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["planted", "--draws", "0"]) == 2
    assert "--draws 0" in capsys.readouterr().err
    monkeypatch.setattr(planted, "table", lambda draws: noise)
    for folder, drawn in ((records_folder, {"planted_ranks", "planted_trained"}), (tmp_path, {"planted_ranks"})):
        out = tmp_path / folder.name / "out"
        assert main(["planted", "--out", str(out), "--records", str(folder)]) == 0
        assert {path.stem for path in out.iterdir()} == drawn
        assert "experiments.planted_everywhere" in capsys.readouterr().out
    broken = study(tasks=LEVELS[:1])
    publish(tmp_path / "planted_ranks", broken.lines[:1], broken.declared)
    assert main(["planted", "--out", str(tmp_path / "again"), "--records", str(tmp_path)]) == 0
    assert {path.stem for path in (tmp_path / "again").iterdir()} == {"planted_ranks"}


def test_the_published_tables_are_what_the_program_makes() -> None:
    published = pd.read_csv(DOCS / "planted_ranks.csv")
    place = {"noise": "rows", "ratio": 3.0, "rank": 8}
    estimates = [planted.estimates(*planted.planted("rows", 3.0, 8, draw)) for draw in range(planted.DRAWS)]
    cell = published[(published[list(place)] == pd.Series(place)).all(axis=1)].set_index("estimator")
    assert set(cell.index) == set(estimates[0])
    for name in estimates[0]:
        spread = planted.spread([one[name] for one in estimates], 8)
        assert cell.loc[name, list(spread)].astype(float).to_dict() == pytest.approx(spread, rel=1e-6, nan_ok=True)
    trained = planted.trained_table(planted.trained_records(RECORDS))
    published = pd.read_csv(DOCS / "planted_trained.csv")
    of_levels = published[published["level"].notna()].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_levels[[*trained]], trained, check_dtype=False)
    every = planted.everywhere_table(pd.read_csv(RECORDS / "planted_everywhere.csv"))
    pd.testing.assert_frame_equal(pd.read_csv(DOCS / "planted_everywhere.csv"), every, check_dtype=False)
    assert planted.draw_everywhere(every).axes
