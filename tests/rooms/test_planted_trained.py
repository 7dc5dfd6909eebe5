"""r* and k* of a study with planted ranks beside the spectral estimators: what its records say, where there are any."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from synthetic import publish, study

from analysis import planted, planted_trained
from analysis.study import comparison, update
from analysis.study.statistics import Interval
from analysis.study.verdict import rulings

ROOT = Path(__file__).parents[2]
DOCS, RECORDS = ROOT / "docs", ROOT / "experiments" / "records"

TASKS = ("planted rank 1", "planted rank 8", "planted rank 8 in noisy labels")


@pytest.fixture(scope="module")
def records_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic study of three levels, in which r* = 8 and k* = 4 throughout."""
    folder, made = tmp_path_factory.mktemp("records"), study(tasks=TASKS)
    publish(folder / "planted_ranks", made.lines, made.declared)
    return folder


@pytest.fixture(scope="module")
def noise() -> pd.DataFrame:
    return planted.table(draws=1, ranks=(1, 8, 32), side=32)


def test_r_and_k_are_those_of_the_verdict(records_folder: Path) -> None:
    records, reason = planted_trained.records_of(records_folder)
    assert records is not None
    assert reason == ""
    rows = planted_trained.table(records)
    assert list(dict.fromkeys(rows["level"])) == list(TASKS)
    assert dict(rows.drop_duplicates("level").set_index("level")["rank"]) == dict(zip(TASKS, (1, 8, 8), strict=True))
    for ruling in (ruling for ruling in rulings(records) if ruling.module == "all"):
        own = rows[rows["level"] == ruling.task].set_index("estimator")
        assert ruling.r_star is not None
        assert own.loc[planted_trained.R_STAR, "estimate"] == ruling.r_star.size == 8
        assert own.loc[planted_trained.K_STAR, "estimate"] == ruling.k_star.size == 4
        assert own.loc["effective rank", "estimate"] == pytest.approx(ruling.effective.mean)
        assert set(own["verdict"]) == {ruling.verdict}
    errors = rows.set_index(["level", "estimator"])["error"]
    assert errors["planted rank 1", planted_trained.R_STAR] == 3
    assert errors["planted rank 8", planted_trained.R_STAR] == 0
    assert errors["planted rank 8", planted_trained.K_STAR] == 1


def test_what_is_not_found_has_no_error_and_says_so() -> None:
    assert math.isnan(planted_trained.octaves(math.nan, 4))
    row = {"level": "planted rank 4", "rank": 4, "estimator": planted_trained.R_STAR, "estimate": math.nan}
    rows = pd.DataFrame([row | {"low": 2.0, "high": math.nan, "error": math.nan, "verdict": "undecided"}])
    lines = planted_trained.summary(rows)
    assert "r* not found [2]: undecided" in lines[1]
    assert lines[2].endswith("— octaves, told in 0 of 1")


def test_the_figure_has_both_halves(records_folder: Path, noise: pd.DataFrame) -> None:
    records, _ = planted_trained.records_of(records_folder)
    assert records is not None
    joined = planted_trained.joined(planted_trained.table(records), noise)
    assert set(joined["estimator"]) == set(planted_trained.NAMES)
    assert set(joined.loc[joined["level"].isna(), "noise"]) == set(planted.NOISES)
    figure = planted_trained.draw(joined)
    figure.canvas.draw()
    legend = [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]
    assert legend == ["the planted rank", "called low up to here", *planted_trained.NAMES]
    beside = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert beside == ["trained updates", "signals in noise"]
    assert figure.axes[0].get_title(loc="left").startswith("hollow, beside: noisy labels")
    assert figure.axes[1].get_yticklabels()[0].get_text() == "r*"
    means = len([line for line in figure.axes[1].get_lines() if line.get_markersize() == 6])
    lost = joined.copy()
    lost.loc[(lost["estimator"] == planted_trained.R_STAR) & (lost["rank"] == 1), ["estimate", "error"]] = math.nan
    without = planted_trained.draw(lost[lost["noisy"] != True]).axes  # noqa: E712
    assert not without[0].get_title(loc="left").startswith("hollow")
    assert without[1].get_yticklabels()[0].get_text() == "r*, found in 1 of 2"
    assert len([line for line in without[1].get_lines() if line.get_markersize() == 6]) == means - 1


def test_the_command_joins_the_halves_where_there_are_records(
    records_folder: Path,
    noise: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(planted, "table", lambda draws: noise)
    assert planted.main(["--out", str(tmp_path), "--records", str(records_folder)]) == 0
    out = capsys.readouterr().out
    assert "planted rank 8                          r* 8" in out
    assert (tmp_path / "planted_trained.png").exists()
    assert planted.main(["--out", str(tmp_path / "bare"), "--records", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "r* and k* of trained updates are not drawn: there are no records of a study at" in out
    assert "type: python -m experiments.planted_ranks" in out
    assert not (tmp_path / "bare" / "planted_trained.png").exists()


def test_a_study_that_breaks_its_protocol_is_not_drawn(tmp_path: Path) -> None:
    made = study(tasks=TASKS[:1])
    publish(tmp_path / "planted_ranks", made.lines[:1], made.declared)
    records, reason = planted_trained.records_of(tmp_path)
    assert records is None
    assert "planted_ranks breaks its own protocol, or is not complete: " in reason


def test_lines_go_from_rank_to_rank_in_whatever_order_the_levels_were_added(
    records_folder: Path, noise: pd.DataFrame
) -> None:
    records, _ = planted_trained.records_of(records_folder)
    assert records is not None
    joined = planted_trained.joined(planted_trained.table(records), noise)
    levels = joined["level"].notna()
    turned = pd.concat([joined[levels].iloc[::-1], joined[~levels]], ignore_index=True)
    for line in planted_trained.draw(turned).axes[0].get_lines():
        assert list(line.get_xdata()) == sorted(line.get_xdata())


def test_the_published_table_and_the_page_say_what_the_records_say() -> None:
    records, reason = planted_trained.records_of(RECORDS)
    assert records, reason
    rows = planted_trained.table(records)
    published = pd.read_csv(DOCS / "planted_trained.csv")
    of_levels = published[published["level"].notna()].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_levels[[*rows]], rows, check_dtype=False)
    clear = rows[~rows["noisy"].astype(bool)]
    levels = sorted(set(clear["rank"]))
    assert levels == [1, 8, 16, 32]
    by = clear.set_index(["rank", "estimator"])["estimate"]
    said = {name: [by[rank, name] for rank in levels] for name in planted_trained.NAMES}
    page = " ".join((DOCS / "measures.md").read_text(encoding="utf-8").split())

    def words(name: str, digits: int) -> str:
        *before, last = (f"{value:.{digits}f}" for value in said[name])
        return f"{', '.join(before)} and {last}"

    assert f"**The participation ratio** is {words('participation ratio', 1)}, so" in page
    assert f"**90 % of the energy** is in {words('90 % of the energy', 0)} directions" in page
    assert f"**The effective rank is {words('effective rank', 0)}**" in page
    assert f"**The stable rank** is {words('stable rank', 1)}." in page
    assert f"the next size tried**: {words(planted_trained.K_STAR, 0)} for rank 1, 8, 16 and 32" in page
    first, second, *others = said[planted_trained.R_STAR]
    assert all(math.isnan(star) for star in others)
    assert f"**r\\* is {first:.0f} for rank 1 and {second:.0f} for rank 8. For rank 16 and 32 none is found**" in page
    assert set(rows.loc[rows["rank"] == 32, "verdict"]) == {"not supported"}
    noisy = rows[rows["noisy"].astype(bool)].set_index("estimator")
    k, r = (noisy.loc[name] for name in (planted_trained.K_STAR, planted_trained.R_STAR))
    assert set(noisy["rank"]) == {8}
    assert f"rank 8 has k\\* = {k['estimate']:.0f} and r\\* = {r['estimate']:.0f}, with an interval of" in page
    assert f"an interval of {r['low']:.0f} to {r['high']:.0f}: LoRA of rank 8" in page
    assert {*noisy["verdict"], *rows.loc[rows["rank"] == 16, "verdict"]} == {"undecided"}


def test_the_page_says_what_updates_and_ranks_lose() -> None:
    records, reason = planted_trained.records_of(RECORDS)
    assert records, reason
    page = " ".join((DOCS / "measures.md").read_text(encoding="utf-8").split())

    def of(gain: Interval, is_loss: bool = True) -> str:
        loss = gain.oriented(not is_loss)
        return f"{loss.mean:.3f} [{loss.low:.3f}, {loss.high:.3f}]".replace("0.", ".").replace("-", "−")

    cut = {rank: of(update.gains(records, f"planted rank {rank}")[rank], rank < 32) for rank in (8, 16, 32)}
    assert f"cut to 8 directions loses {cut[8]}, that of rank 16 cut to 16 loses {cut[16]}:" in page
    assert f"That of rank 32 cut to 32 keeps its score, {cut[32]}." in page
    most = [of(comparison.gains(records, f"planted rank {rank}")["LoRA r=64"]) for rank in (16, 32)]
    assert f"LoRA of rank 64 still loses {most[0]} and {most[1]}." in page
    noisy = comparison.gains(records, "planted rank 8 in noisy labels")
    eight, sixteen, top = (of(noisy[f"LoRA r={rank}"]) for rank in (8, 16, 64))
    assert f"LoRA of rank 8 and 16 loses {eight} and {sixteen}, rank 64 {top}." in page
