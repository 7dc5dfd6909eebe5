"""A rank that is planted in every matrix at once: what is planted, what the cuts find, and what the figure says."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import permutations
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import BAD, GOOD, PLAIN

from analysis import planted_everywhere as shown
from experiments import planted_everywhere as made
from experiments.teacher import bert
from lorax_lab.errors import ConfigError
from lorax_lab.streams import generator

ROOT = Path(__file__).parents[2]
TEXTS = [" ".join(words) for words in permutations([*GOOD[:2], *BAD[:2], *PLAIN[:1]], 3)]


def test_a_signal_has_its_rank_its_norm_and_even_singular_values() -> None:
    weight = torch.randn(24, 48)
    sigma = torch.linalg.svdvals(made.signal(weight, 4, generator(0, "test")))
    assert sigma[:4] / sigma[0] == pytest.approx([1, 5 / 6, 4 / 6, 0.5])
    assert float(sigma[4]) < 1e-12 * float(sigma[0])
    assert float(sigma.norm()) == pytest.approx(made.NORM * float(weight.norm()))


@pytest.fixture(scope="module")
def rows(model_folder: Path) -> pd.DataFrame:
    """Of rank 1 and 4 in every matrix of a small model, whose own weights are so small that .3 of them does nothing."""
    base = bert(str(model_folder), made.CLASSES)
    model, batches = base.model.eval(), made.tokenized(base, TEXTS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "NORM", 30.0)
        found = [row for draw in (0, 1) for rank in (1, 4) for row in made.planted(model, batches, rank, draw)]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return pd.DataFrame(found, columns=list(made.COLUMNS))


def test_without_noise_a_cut_at_the_planted_rank_gives_every_label(rows: pd.DataFrame) -> None:
    right = rows[(rows["quantity"] == "right") & (rows["ratio"] == math.inf)]
    assert set(right["k"]) == set(made.CUT)
    assert set(right.loc[right["k"] >= right["rank"], "value"]) == {1.0}
    assert right.loc[right["k"] == 0, "value"].max() < 1
    noisy = rows[(rows["quantity"] == "right") & (rows["ratio"] == made.RATIOS[1])]
    assert not noisy["value"].isna().any()
    assert list(noisy["value"]) != list(right["value"])


def test_the_spectrum_of_what_was_planted_is_its_own(rows: pd.DataFrame) -> None:
    stable = rows[(rows["quantity"] == "stable rank") & (rows["ratio"] == math.inf)].groupby("rank")["value"].mean()
    evenly = [1 - step / 6 for step in range(4)]
    assert stable[1] == pytest.approx(1)
    assert stable[4] == pytest.approx(sum(value**2 for value in evenly))


def test_the_table_has_k_of_each_draw_and_the_figure_every_estimator(rows: pd.DataFrame) -> None:
    table = shown.table(rows)
    assert list(dict.fromkeys(table["estimator"])) == list(shown.NAMES)
    assert set(table["draws"]) == {2}
    own = table[(table["estimator"] == shown.K_STAR) & (table["ratio"] == math.inf)].set_index("rank")
    assert (own["high"] <= own.index).all()
    assert (own["low"] > 0).all()
    assert (own["whole"] == 1).all()
    figure = shown.draw(table)
    figure.canvas.draw()
    assert [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()] == [
        "the planted rank",
        *shown.NAMES,
    ]
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(shown.NOISES.values())
    assert "mean error in octaves" in shown.summary(table)[0]


def test_k_is_the_smallest_from_which_on_nothing_is_lost() -> None:
    assert shown.k_star({0: 0.99, 1: 0.9, 2: 1.0}) == 2
    assert shown.k_star({0: 0.981, 1: 1.0, 2: 1.0}) == 0
    assert shown.k_star({0: 0.5, 1: 0.97, 2: 1.0}) == 2
    assert shown.k_star({0: 0.5, 1: 1.0, 2: 0.9}) == 1  # noise that is cut off


def test_a_table_that_is_damaged_or_missing_is_not_drawn(rows: pd.DataFrame, tmp_path: Path) -> None:
    found, reason = shown.read(tmp_path)
    assert found is None
    assert "type: python -m experiments.planted_everywhere" in reason
    path = tmp_path / f"{shown.NAME}.csv"
    path.write_text(rows.to_csv(index=False, lineterminator="\n"))
    read, reason = shown.read(tmp_path)
    assert reason == ""
    pd.testing.assert_frame_equal(read, rows.reset_index(drop=True), check_dtype=False)
    path.write_text(path.read_text().replace(",1.0\n", ",0.5\n", 1))
    found, reason = shown.read(tmp_path)
    assert found is None
    assert "planted_everywhere.csv" in reason


def test_a_table_with_holes_is_refused(rows: pd.DataFrame) -> None:
    of_one = (rows["rank"] == rows["rank"].max()) & (rows["ratio"] == math.inf)
    parts = (rows[rows["ratio"] == math.inf], rows[rows["quantity"] != "stable rank"], rows[~of_one])
    for lost in (rows.drop(index=5), pd.concat([rows, rows[:1]]), *parts):
        with pytest.raises(ConfigError, match="has holes, or rows twice"):
            shown.table(lost)
    with pytest.raises(ConfigError, match="has holes"):
        shown.table(rows.assign(value=rows["value"].mask(rows.index == 7)))


def test_bad_words_are_refused_before_anything_is_planted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert made.main(["--draws", "0", "--records", str(tmp_path)]) == 2
    assert "--draws 0: allowed are numbers ≥ 1; type --draws 3" in capsys.readouterr().err
    assert made.main(["--records", str(tmp_path / "none")]) == 2
    assert "is no folder; type --records" in capsys.readouterr().err
    assert made.main(["--draws", "2"]) == 2
    assert "has 3 draws; type --draws 3, or --records FOLDER" in capsys.readouterr().err


def test_the_page_says_what_the_published_table_gives() -> None:
    rows, reason = shown.read(ROOT / "experiments" / "records")
    assert rows is not None, reason
    published = pd.read_csv(ROOT / "docs" / f"{shown.NAME}.csv")
    pd.testing.assert_frame_equal(published, shown.table(rows), check_dtype=False)
    page = " ".join((ROOT / "docs" / "measures.md").read_text(encoding="utf-8").split())
    right = rows[rows["quantity"] == "right"].pivot_table(index=["ratio", "rank", "draw"], columns="k", values="value")
    stars = {place: shown.k_star(dict(scores)) for place, scores in right.iterrows()}
    assert all(star == rank for (ratio, rank, _), star in stars.items() if ratio == math.inf)
    low = {place: scores for place, scores in right.iterrows() if place[1] < 384}
    noisy = [place for place in low if place[0] < math.inf]
    wrong = {place[1:]: stars[place] for place in noisy if stars[place] != place[1]}
    assert wrong == {(2, 1): 1, (4, 1): 384}
    assert f"in {len(noisy) - len(wrong)} of {len(noisy)} cases below full rank" in page
    half = [low[place][place[1] / 2] for place in low if place[0] == math.inf and place[1] > 1]
    assert f"Half of them give {span(half)} of the labels" in page
    whole, cut = ([low[place][k or place[1]] for place in noisy] for k in (384, 0))
    assert (
        f"it answers {span(whole)} of what the signal alone does, and the cut at the planted rank {span(cut)}." in page
    )
    table = shown.table(rows)
    table = table[(table["ratio"] < math.inf) & (table["rank"] < 384)]
    shares = {name: of["mean"] / of["rank"] for name, of in table.groupby("estimator")}
    assert f"The participation ratio is {span(shares['participation ratio'])} of the rank in noise" in page
    assert f"the stable rank {span(shares['stable rank'][1:])} from rank 2 on" in page
    clear = shown.table(rows)
    clear = clear[(clear["ratio"] == math.inf) & (clear["estimator"] == "90 % of the energy") & (clear["rank"] < 384)]
    assert f"90 % of the energy is in {span(shares['90 % of the energy'])} of it, since" in page
    assert f"without noise in {span(clear['mean'] / clear['rank'])}." in page
    least, most = (f(table.loc[table["estimator"] == "effective rank", "mean"]) for f in (min, max))
    assert f"says {least:.0f} to {most:.0f} in it" in page


def span(values: Iterable[float]) -> str:
    """The least and the largest, as the page has them."""
    known = list(values)
    return " to ".join(f"{end:.2f}".removeprefix("0") for end in (min(known), max(known)))
