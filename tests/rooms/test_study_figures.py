"""The figures of studies, whose title is what was found, and the look that all figures have.

Their tables are byte by byte those that are published (`test_published_study.py`)."""

from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.legend import Legend
from synthetic import PROTOCOL, changed, in_nats, lost, of_one_seed, present, study, with_head

from analysis import scores, style
from analysis.study import page
from analysis.study.command import DOCS
from analysis.study.figures import FIGURES
from lorax_lab.record import palette

TABLES = [path for path in sorted(DOCS.glob("*/*.csv")) if path.stem in FIGURES]


def test_the_answer_is_a_share_where_something_stands_for_its_zero() -> None:
    answer = FIGURES["answer"]
    shares, differences = (answer.table(records) for records in (with_head(0.7), study()))
    assert (set(shares["side"]), "share" in differences) == ({"rank"}, False)
    assert set(differences["side"]) == {"rank", "k"}
    title = answer.draw(shares).get_suptitle().replace("\n", " ")
    assert title.startswith("LoRA of rank 8 keeps 100 % of what fine-tuning brings")


@pytest.mark.parametrize("name", ["answer", "cost", "functional", "modules", "spectral", "arms"])
def test_one_seed_has_no_interval_and_it_is_said(name: str) -> None:
    """Such a study breaks its protocol, and is drawn only where that is asked for."""
    figure = FIGURES[name].draw(FIGURES[name].table(of_one_seed(study())))
    assert "one seed, no interval" in " ".join([*words(figure), *legends(figure)]).replace("\n", " ")


@pytest.mark.parametrize("arms", [{"rank": 1}, {"method": "lora"}])
def test_arms_of_which_every_run_diverged_leave_the_page_and_the_figures_of_the_others(arms: dict[str, Any]) -> None:
    records = lost(study(), PROTOCOL.final_seeds, **arms)
    diverged = sum(line["status"] == "diverged" for line in records.lines)
    assert f"{diverged} diverged" in page.write(records)
    for name in ("answer", "arms", "cost", "functional", "sizes", "trials"):
        if (rows := FIGURES[name].table(records)) is not None:
            title = FIGURES[name].draw(rows).get_suptitle()
            assert ("in each a run diverged" in title) == (name == "arms" and "method" in arms)


def test_cuts_are_drawn_on_test_where_seeds_lack_them_on_validation() -> None:
    def searched(line: dict[str, Any]) -> dict[str, Any]:
        """On validation only the first seed has a cut to 1; those on test miss a fifth of the right answers there."""
        if "functional" not in line:
            return line
        rows = [row for row in line["functional"] if row[0] != "cut" or row[1] > 1 or line["seed"] == 0]
        return line | {"functional": rows}

    figure = FIGURES["functional"]
    complete = present(study())
    on_validation, on_test = (figure.table(records) for records in (complete, changed(complete, searched)))
    assert "split" not in on_validation
    assert "split" not in figure.table(changed(study(), searched))  # which has no cuts on test
    assert on_test.groupby("k")["seed"].nunique().eq(5).all()
    means = on_test.groupby("k")["difference"].mean()
    assert (means[4], means[1]) == (0, pytest.approx(-0.2, abs=1e-3))
    labels = [figure.draw(table).axes[0].get_ylabel() for table in (on_validation, on_test)]
    assert labels == ["score on validation", "score on test"]


@pytest.mark.parametrize("path", TABLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_published_table_draws_its_figure(path: Path) -> None:
    rows = pd.read_csv(path)
    figure, claim = FIGURES[path.stem].draw(rows), FIGURES[path.stem].claim(rows)
    assert any(letter.isdigit() for letter in claim)
    assert " ".join(figure.get_suptitle().split()).startswith(claim)
    assert all(axes.has_data() or axes.get_label() == "<colorbar>" or not axes.axison for axes in figure.axes)
    check_headings(figure)


def check_headings(figure: Any) -> None:
    """No heading of a panel, and no name of its vertical axis, lies over another."""
    figure.draw_without_rendering()
    texts = [axes.title if axes.title.get_text() else axes._left_title for axes in figure.axes]
    texts += [axes.yaxis.label for axes in figure.axes]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def legends(figure: Any) -> list[str]:
    return [text.get_text() for legend in figure.findobj(Legend) for text in legend.get_texts()]


OF_SCORES = ("answer", "cost", "functional", "modules", "trials", "arms")


@pytest.mark.parametrize("name", OF_SCORES)
def test_a_figure_names_the_unit_of_its_scores_where_it_meets_no_other_text(name: str) -> None:
    figure, unit = FIGURES[name], "nats per token (lower is better)"
    shares, nats = (figure.table(records).assign(model="m") for records in (study(), in_nats(study())))
    assert scores.UNIT not in shares
    pictures = [figure.draw(rows) for rows in (shares, nats)]
    assert [unit in " ".join(" ".join(words(picture)).split()) for picture in pictures] == [False, True]
    many = figure.draw(pd.concat([nats.assign(task=f"arithmetic {i}") for i in range(6)], ignore_index=True))
    check_headings(many)


def words(figure: Any) -> list[str]:
    """What a figure's titles and axes say."""
    parts = [(a.get_title("left"), a.get_title(), a.get_xlabel(), a.get_ylabel()) for a in figure.axes]
    return [figure.get_suptitle(), *(text for of_axes in parts for text in of_axes)]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("ranks", [[1, 2, 3, 4, 8], [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 384], [1], [0, 1]])
def test_every_tick_of_a_rank_axis_has_its_number_in_one_print_and_none_lies_over_another(
    ranks: list[int], count: int
) -> None:
    figure, panels = style.panels(count, 2.0, "k", "score")
    style.rank_axis(panels[0], ranks)
    figure.canvas.draw()
    drawn = panels[0].get_xticklabels()
    assert all(label.get_text() for label in drawn)
    assert {label.get_fontsize() for label in drawn} == {panels[0].yaxis.get_ticklabels()[0].get_fontsize()}
    assert [drawn[0].get_text(), drawn[-1].get_text()] == [str(ranks[0]), str(ranks[-1])]
    boxes = [label.get_window_extent() for label in drawn]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


PROTAN = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
DEUTAN = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
TRITAN = [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
"""What a reader without red, green or blue cones sees of linear RGB (Machado et al. 2009, severity 1)."""


def lab(colour: str, seen: list[list[float]]) -> np.ndarray:
    """CIE L*a*b* (D65) of a colour as it is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = np.array(to_xyz) @ np.clip(np.array(seen) @ linear, 0, 1) / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize(
    "seen", [np.eye(3).tolist(), PROTAN, DEUTAN, TRITAN], ids=["usual", "protan", "deutan", "tritan"]
)
def test_the_colours_of_what_has_no_order_are_told_apart(seen: list[list[float]]) -> None:
    places = [lab(colour, seen) for colour in palette.CATEGORICAL]
    assert min(np.linalg.norm(a - b) for a, b in combinations(places, 2)) > 30
