"""The figures, from records written here: small real spectra, scores and memory that can be worked out by hand."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from recorded import matrix, run_record
from statsmodels.stats.proportion import proportion_confint

from analysis import gaps, style
from analysis.__main__ import main
from analysis.figures import FIGURES
from analysis.figures.functional_rank import finding
from analysis.groups import CannotDraw, Group, load
from analysis.scores import interval, mark_collapsed, spread_of_seeds
from lorax_lab import spectra
from lorax_lab.record import record
from lorax_lab.record.folder import OUTPUTS, SPECTRA, load_spectra, quarantine, save_arrays
from lorax_lab.record.result import Inputs, Memory, Parameters

MODULES = {"attention.self.query": 1.0, "attention.self.value": 2.0, "intermediate.dense": 3.0}
CATEGORIES = ("weights", "gradients", "optimizer_states", "activations", "temporaries")
MIB = 2**20
TRAIN = {"batch_size": 16, "epochs": 1, "max_steps": None, "device": "auto"}
TASK = {"name": "movie_reviews", "path": None, "metric": None}
"""What is not here is as in `conf/`."""


@dataclass(frozen=True)
class Store:
    """A runs folder to write records into. `size` is the width of its matrices, `layers` their depth."""

    folder: Path
    size: int = 16
    layers: int = 3
    modules: dict[str, float] = field(default_factory=lambda: MODULES)

    def run(
        self,
        rank: int | None = None,
        seed: int = 0,
        test: float = 0.8,
        validation: float | None = None,
        cuts: dict[int, float] | None = None,
        status: str = "completed",
        model: str = "minilm",
        task: dict[str, Any] | None = None,
        train: dict[str, Any] | None = None,
        alpha: float = 16.0,
        targets: tuple[str, ...] = ("all-linear",),
        noise_fit: bool = False,
        memory: tuple[int, ...] = (10, 1, 2, 5, 0),
        metric: str = "accuracy",
        with_spectra: bool = True,
        measure: str = "standard",
        baselines: dict[str, float] | None = None,
        method: str = "",
        collapsed: list[str] | None = None,
    ) -> Path:
        """Write one record and return its folder; without a rank it is a full fine-tune with the scores `cuts`, and the
        update of a method that is named has full rank."""
        full_rank, method = bool(method), method or ("lora" if rank else "full")
        settings = {"name": method, "target_modules": list(targets), "alpha": alpha if rank else None}
        config = {"model": model, "measure": measure, "task": TASK | (task or {}), "method": settings}
        config |= {"train": TRAIN | (train or {})}
        words = [model, config["task"]["name"], method, *([f"r{rank}"] if rank else []), f"s{seed}"]
        digest = f"{zlib.crc32(json.dumps([config, rank, seed], sort_keys=True).encode()):x}"
        run_id = f"{'-'.join(words)}-{digest}".replace("/", "_")
        folder = self.folder / run_id
        validation = test if validation is None else validation
        parts: dict[str, Any] = {"status": status, "config": config, "method": method}
        parts |= {"rank": rank, "seed": seed}
        if status == "completed":
            matrices, saved = self.spectra(None if full_rank else rank, seed, noise_fit)
            if with_spectra:
                save_arrays(folder / SPECTRA, saved)
            body = 2 * (rank or 100) * 1000
            by_category = {c: n * MIB for c, n in zip(CATEGORIES, memory, strict=True)}
            parts |= {
                "inputs": Inputs(f"hash of {Path(model).name}", "d", {"validation": 400, "test": 1000}, ["no", "yes"]),
                "parameters": Parameters(body + 500, body, 500, 10**6),
                "memory": Memory(sum(memory) * MIB, by_category, "backward", [16, 64], 7, "run", None),
                "metric": metric,
                "metrics": {f"test/{metric}": test, f"validation/{metric}": validation},
                "matrices": matrices,
                "baselines": baselines or {},
                "collapsed": collapsed or [],
                "truncation": None if rank else self.functional(metric, cuts or {0: 0.5, 1: 0.7, 2: 0.8, 16: 0.8}),
            }
        record.write_record(folder, run_record(run_id, **parts))
        return with_curve(folder) if status == "completed" else folder

    def functional(self, metric: str, cuts: dict[int, float]) -> list[dict[str, Any]]:
        """The cut scores as given, and a remainder that is their mirror."""
        cut = [{"k": k, "part": "cut", metric: score} for k, score in cuts.items()]
        mirrored = zip(cuts, reversed(cuts.values()), strict=True)
        return cut + [{"k": k, "part": "remainder", metric: score} for k, score in mirrored]

    def spectra(self, rank: int | None, seed: int, noise_fit: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """Rows and singular values of each matrix: a planted direction in noise; for LoRA, that cut at its rank."""
        draw, matrices, saved = torch.Generator().manual_seed(seed), {}, {}
        for layer in range(self.layers):
            for module, scale in self.modules.items():
                shape = (2 * self.size if module == "intermediate.dense" else self.size, self.size)
                name = f"bert.encoder.layer.{layer}.{module}"
                update = torch.full(shape, scale, dtype=torch.float64) / shape[0]
                update += 0.1 * scale / shape[0] * torch.randn(shape, generator=draw, dtype=torch.float64)
                sigma = spectra.singular_values(update)[:rank]
                saved[name] = {"sigma": sigma.numpy(), "U": np.zeros((1, 1)), "Vh": np.zeros((1, 1))}
                matrices[name] = matrix(module, layer, rank, shape=shape)
        return matrices, saved


def with_curve(folder: Path, steps: int = 3) -> Path:
    """A learning curve in a run's folder."""
    rows = [{"step": step, "train/loss": 1 / step} for step in range(1, steps + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def group_of(store: Store) -> Group:
    (group,) = load(store.folder).groups
    return group


def drawn(store: Store, *words: str) -> int:
    return main([*words, "--runs", str(store.folder), "--out", str(store.folder / "out")])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The default sweep with two seeds: full, and LoRA at 1, 2, 4."""
    store = Store(tmp_path_factory.mktemp("study") / "runs", layers=2)
    for seed in (0, 1):
        store.run(seed=seed, test=0.8 + 0.02 * seed, memory=(10, 10, 20, 5, 1))
        for rank, score in ((1, 0.7), (2, 0.79), (4, 0.82)):
            store.run(rank=rank, seed=seed, test=score + 0.02 * seed, validation=score)
    return store


def test_every_figure_becomes_png_pdf_and_csv(study: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert drawn(study) == 0
    prefix = group_of(study).name
    files = sorted(study.folder.joinpath("out").iterdir())
    assert [f.name for f in files] == sorted(
        f"{prefix}-{name}.{kind}" for name in FIGURES for kind in ("png", "pdf", "csv")
    )
    printed = capsys.readouterr().out.splitlines()
    assert all(str(file) in printed for file in files)
    assert printed[-len(FIGURES) - 1] == "drawn:"
    assert all(f.stat().st_size > 200 for f in files)
    assert all(b"Date" not in f.read_bytes() for f in files if f.suffix == ".pdf")


@pytest.mark.parametrize("name", FIGURES)
def test_a_table_and_its_csv_draw_the_same_figure(study: Store, name: str, tmp_path: Path) -> None:
    import matplotlib as mpl

    table = FIGURES[name].table(group_of(study))
    table.to_csv(tmp_path / "table.csv", index=False)
    pictures = [BytesIO(), BytesIO()]
    with mpl.rc_context({"font.size": 17}):
        for again, picture in zip((table, pd.read_csv(tmp_path / "table.csv")), pictures, strict=True):
            FIGURES[name].draw(again).savefig(picture, format="pdf", metadata={"CreationDate": None})
        assert mpl.rcParams["font.size"] == 17
    assert pictures[0].getvalue() == pictures[1].getvalue()


def test_scores_are_one_row_per_run_with_their_standard_error(study: Store) -> None:
    rows = FIGURES["accuracy_vs_rank"].table(group_of(study))
    assert len(rows) == 8
    row = rows[(rows["rank"] == 2) & (rows["seed"] == 1)].iloc[0]
    assert row["score"] == pytest.approx(0.81)
    assert row["trainable"] == 2 * 2 * 1000 + 500
    assert row["error"] == pytest.approx((0.81 * 0.19 / 1000) ** 0.5)
    assert list(rows["method"])[-2:] == ["full", "full"]


def test_an_arm_has_the_range_of_its_seeds_or_the_interval_of_one_seeds_examples(study: Store, store: Store) -> None:
    rows = FIGURES["accuracy_vs_rank"].table(group_of(study))
    low, high, words = interval(rows[rows["method"] == "full"])
    assert (low, high, words) == (pytest.approx(0.80), pytest.approx(0.82), "range of 2 seeds")
    store.run(test=0.8)
    store.run(rank=4)
    rows = FIGURES["accuracy_vs_rank"].table(group_of(store))
    low, high, words = interval(rows[rows["method"] == "full"])
    assert (low, high) == pytest.approx(proportion_confint(800, 1000, method="wilson"))
    assert words == "95 % interval over 1,000 examples"
    figure = FIGURES["accuracy_vs_rank"].draw(rows)
    said = [t.get_text() for t in figure.legends[0].get_texts()]
    assert said == [f"full fine-tuning, {words}", "a guess among the classes", f"LoRA, {words}"]
    (bar,) = figure.axes[0].containers[0].lines[2][0].get_segments()
    assert bar[:, 1] == pytest.approx([low, high])
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["4"]


@pytest.mark.parametrize("name", ["accuracy_vs_rank", "accuracy_vs_parameters"])
def test_a_score_that_is_no_share_has_the_interval_of_what_each_example_adds(name: str, store: Store) -> None:
    values = {rank: np.random.default_rng(rank or 0).exponential(4.0, 1000) for rank in (None, 2)}
    for rank, of in values.items():
        folder = store.run(rank=rank, test=float(of.mean()), metric="nats")
        save_arrays(folder / OUTPUTS, {"test": {"pseudo_values": of}})
    rows = FIGURES[name].table(group_of(store))
    errors = {rank: values[None if rank is pd.NA else rank].std(ddof=1) / 1000**0.5 for rank in rows["rank"]}
    assert rows["error"].tolist() == pytest.approx([*errors.values()])
    low, high, word = interval(rows[rows["rank"] == 2])
    assert (high + low) / 2 == pytest.approx(values[2].mean())
    assert (high - low) / 2 == pytest.approx(1.96 * values[2].std(ddof=1) / 1000**0.5)
    assert word == "95 % interval over 1,000 examples"
    assert "no interval" not in FIGURES[name].draw(rows).get_suptitle()


@pytest.mark.parametrize("name", ["functional_rank", "accuracy_vs_rank", "accuracy_vs_parameters"])
def test_a_title_says_where_there_is_no_interval(name: str, store: Store) -> None:
    def title() -> str:
        return FIGURES[name].draw(FIGURES[name].table(group_of(store))).get_suptitle()

    for rank in (None, 2):
        store.run(rank=rank, metric="nats")
    assert "one seed, no intervals" in title()
    store.run(rank=2, seed=1, metric="nats")
    assert "no interval where there is one seed" in title()
    store.run(seed=1, metric="nats")
    assert "no interval" not in title()


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_one_seed_that_has_all_right_or_none_has_an_interval_with_a_width(score: float, store: Store) -> None:
    store.run(rank=4, test=score)
    store.run(test=score, cuts={0: score, 1: score, 16: score})
    low, high, _ = interval(FIGURES["accuracy_vs_rank"].table(group_of(store)).iloc[:1])
    assert (low, high) == pytest.approx((0.0, 0.0038) if score == 0 else (0.9962, 1.0), abs=1e-4)
    axes = FIGURES["functional_rank"].draw(FIGURES["functional_rank"].table(group_of(store))).axes[0]
    bands = [line.get_paths()[0].vertices[:, 1] for line in axes.collections if len(line.get_paths()[0].vertices) > 4]
    assert bands
    assert all(np.ptp(band) > 0.003 for band in bands)


def test_scores_before_training_are_columns_and_thin_lines_and_nothing_where_there_are_none(store: Store) -> None:
    before = {"untrained/nats": 3.5, "few_shot_4/nats": 1.5, "untrained/exact_match": 0.0}
    for rank, score in ((None, 0.5), (2, 0.7), (4, 0.6)):
        store.run(rank, test=score, metric="nats", baselines=before)
    rows = FIGURES["accuracy_vs_rank"].table(group_of(store))
    assert rows["before training: untrained"].tolist() == [3.5] * 3
    assert rows["before training: few_shot_4"].tolist() == [1.5] * 3
    axes = FIGURES["accuracy_vs_rank"].draw(rows).axes[0]
    levels = {line.get_label(): line.get_ydata()[0] for line in axes.lines if "before" in str(line.get_label())}
    assert levels == {"before training: untrained": 3.5, "before training: few shot 4": 1.5}
    other = Store(store.folder.parent / "others")
    other.run(2)
    assert not [column for column in FIGURES["accuracy_vs_rank"].table(group_of(other)) if "before" in column]


def test_memory_is_stacked_in_mib_with_its_total(study: Store) -> None:
    rows = FIGURES["memory"].table(group_of(study))
    full = rows[rows["method"] == "full"]
    assert list(dict.fromkeys(full["category"])) == list(CATEGORIES)
    assert list(full[full["seed"] == 0]["mib"]) == [10, 10, 20, 5, 1]
    assert list(dict.fromkeys(rows["arm"])) == ["LoRA r = 1", "LoRA r = 2", "LoRA r = 4", "full fine-tuning"]
    figure = FIGURES["memory"].draw(rows)
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.texts] == ["18", "18", "18", "46"]
    assert max(bar.get_x() + bar.get_width() for bar in axes.patches) == 46
    assert len({bar.get_hatch() for bar in axes.patches}) == 5
    assert "16 × 64" in figure.get_suptitle()


def test_functional_rank_holds_cuts_and_trained_ranks(study: Store) -> None:
    rows = FIGURES["functional_rank"].table(group_of(study))
    assert dict(rows["part"].value_counts()) == {"cut": 8, "remainder": 8, "trained": 6}
    assert rows[(rows["part"] == "cut") & (rows["k"] == 1)]["score"].tolist() == [0.7, 0.7]
    assert rows[(rows["part"] == "remainder") & (rows["k"] == 0)]["score"].tolist() == [0.8, 0.8]
    assert rows[rows["part"] == "trained"].groupby("k")["score"].first().to_dict() == {1: 0.7, 2: 0.79, 4: 0.82}
    figure = FIGURES["functional_rank"].draw(rows)
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["0", "1", "2", "4", "16"]
    # 400 examples: one standard error of .8 is .02, so .79 matches and .7 does not
    assert " ".join(figure.get_suptitle().split()) == (
        "minilm on movie_reviews: the top 2 of each matrix's 16 directions reach 0.800, within one standard error of "
        "the whole update's 0.800; LoRA does from rank 2"
    )


def test_functional_rank_says_whose_update_has_another_rank_than_k(study: Store, store: Store) -> None:
    def legend(rows: pd.DataFrame) -> list[str]:
        return [text.get_text() for text in FIGURES["functional_rank"].draw(rows).legends[0].get_texts()]

    assert "update_rank" not in FIGURES["functional_rank"].table(group_of(study))
    store.run()
    for rank in (1, 2):
        store.run(rank=rank)
        store.run(rank=rank, method="peft/dora")
    rows = FIGURES["functional_rank"].table(group_of(store))
    assert rows[rows["method"] == "peft/dora"]["update_rank"].tolist() == [16, 16]
    assert {"LoRA, trained at rank k", "peft/dora, trained at rank k, ΔW has rank 16"} <= {*legend(rows)}
    assert "LoRA, trained at rank k" in legend(FIGURES["functional_rank"].table(group_of(study)))


@pytest.mark.parametrize(
    ("cuts", "trained", "expected"),
    [
        ({0: 0.5, 1: 0.785, 2: 0.7, 4: 0.79, 16: 0.8}, {}, "the top 4 of each matrix's 16 directions reach 0.790"),
        ({0: 0.79, 1: 0.79, 16: 0.8}, {}, "without any update it reaches 0.790, within one standard error of"),
        ({0: 0.5, 8: 0.775, 16: 0.8}, {}, "only the whole update reaches its 0.800; no cut of its 16 directions"),
        ({0: 0.5, 8: 0.8, 16: 0.8}, {4: 0.7, 8: 0.7}, "LoRA does not up to rank 8"),
        ({0: 0.5, 8: 0.8, 16: 0.8}, {4: 0.79, 8: 0.7, 16: 0.8}, "LoRA does from rank 16"),
        ({0: 0.5, 8: 0.8, 16: 0.8}, {4: 0.79, 8: 0.8}, "LoRA does from rank 4, the lowest trained"),
    ],
)
def test_the_finding_follows_the_numbers(
    store: Store, cuts: dict[int, float], trained: dict[int, float], expected: str
) -> None:
    store.run(cuts=cuts)
    for rank, score in trained.items():
        store.run(rank=rank, validation=score)
    said = finding(FIGURES["functional_rank"].table(group_of(store)))
    assert expected in said
    assert said.endswith(expected) or not trained


def test_a_metric_without_standard_error_matches_within_one_percent(store: Store) -> None:
    store.run(metric="f1", cuts={0: 0.1, 1: 0.791, 2: 0.793, 16: 0.8})
    store.run(rank=2, metric="f1")
    said = finding(FIGURES["functional_rank"].table(group_of(store)))
    assert said.startswith("the top 2 of each matrix's 16 directions reach 0.793, within 1% of")
    assert drawn(store, "accuracy_vs_parameters", "functional_rank") == 0


def test_the_spectra_are_those_that_were_saved(study: Store) -> None:
    rows = FIGURES["singular_values"].table(group_of(study))
    first = rows[rows["matrix"] == "bert.encoder.layer.0.intermediate.dense"]
    arms = {arm: part["sigma"].to_numpy() for arm, part in first.groupby("arm")}
    full = arms["full fine-tuning"]
    assert {arm: len(sigma) for arm, sigma in arms.items() if arm.startswith("LoRA")} == {
        "LoRA r = 1": 1,
        "LoRA r = 2": 2,
        "LoRA r = 4": 4,
    }
    saved = load_spectra(Path(group_of(study).full["folder"].iloc[0]))
    assert full.tolist() == saved["bert.encoder.layer.0.intermediate.dense"]["sigma"].tolist()
    figure = FIGURES["singular_values"].draw(rows)
    assert len(figure.axes) == 6


def test_singular_values_say_how_many_arms_are_left_out(study: Store, store: Store) -> None:
    whole = FIGURES["singular_values"].table(group_of(study))
    assert "not shown" not in FIGURES["singular_values"].draw(whole).get_suptitle()
    store.run()
    for rank in (1, 2, 4, 8, 16):
        store.run(rank=rank)
    rows = FIGURES["singular_values"].table(group_of(store))
    assert set(rows["left_out"]) == {2}
    assert "2 of the 5 other arms not shown" in FIGURES["singular_values"].draw(rows).get_suptitle()


def test_singular_values_choose_three_layers_of_three_module_types(store: Store) -> None:
    names = ("attn.k_proj", "attn.q_proj", "attn.v_proj", "attn.o_proj", "mlp.up_proj", "mlp.down_proj")
    deep = Store(store.folder, size=8, layers=7, modules=dict.fromkeys(names, 1.0))
    deep.run()
    rows = FIGURES["singular_values"].table(group_of(deep))
    assert list(dict.fromkeys(rows["module"])) == ["attn.q_proj", "attn.v_proj", "mlp.up_proj"]
    assert list(dict.fromkeys(rows["layer"])) == [0, 3, 6]


def test_cells_are_legible_on_their_colour_and_say_what_lacks_a_value(study: Store) -> None:
    rows = FIGURES["effective_rank"].table(group_of(study)).assign(best=True)
    arm = rows["arm"].iloc[0]
    rows = rows[(rows["arm"] == arm) & (rows["layer"] == 0)].head(len(MODULES))
    rows = pd.concat([rows.assign(layer=layer) for layer in range(2)])
    rows["effective_rank"] = [5.0, 150.0, float("nan"), 5.0, 5.0, 5.0]
    rows["share"] = [0.99, 0.1, float("nan"), float("nan"), 0.99, 0.1]
    axes = FIGURES["effective_rank"].draw(rows).axes[0]
    cells = {text.get_position(): text for text in axes.texts}
    said = {place: text.get_text().replace("\n", " ") for place, text in cells.items()}
    light, dark = "w", ".15"
    assert [said[column + 0.5, 0.5] for column in range(3)] == ["5.0 (.99)", "150 (.10)", "–"]
    assert [said[column + 0.5, 1.5] for column in range(3)] == ["5.0", "5.0 (.99)", "5.0 (.10)"]
    colours = [cells[column + 0.5, row + 0.5].get_color() for row, column in ((0, 0), (0, 1), (1, 1), (1, 2))]
    assert colours == [light, dark, light, dark]  # dark is much, as in every figure
    assert cells[2.5, 0.5].get_color() not in (light, "none")


def test_collapsed_runs_of_one_score_are_one_cross() -> None:
    rows = pd.DataFrame(
        {"rank": [4, 4, 4, 8, 8], "score": [0.5, 0.5, 0.6, 0.5, 0.7], "collapsed": [True] * 4 + [False]}
    )
    axes = style.canvas(3, 3).add_subplot()
    mark_collapsed(axes, rows, "rank")
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [[4.0, 0.5], [4.0, 0.6], [8.0, 0.5]]


def test_effective_rank_stands_beside_its_null(study: Store) -> None:
    rows = FIGURES["effective_rank"].table(group_of(study))
    assert len(rows) == 8 * 6
    above = rows[rows["rank"] != 1]
    assert (above["share"] == above["effective_rank"] / above["null"]).all()
    assert rows[rows["rank"] == 1]["share"].isna().all()  # it would be 1, as if it were noise
    full = rows[rows["method"] == "full"]
    square = full[full["module"] == "attention.self.query"]["null"]
    assert square.tolist() == pytest.approx([spectra.gaussian_null((16, 16))["effective_rank"]] * 4)
    figure = FIGURES["effective_rank"].draw(rows)
    assert [axes.get_title(loc="left") for axes in figure.axes[:4]] == [
        "LoRA r = 1",
        "LoRA r = 2",
        "LoRA r = 4",
        "full fine-tuning",
    ]
    assert figure.axes[0].texts[0].get_text() == "1.0"
    assert figure.axes[1].texts[0].get_text().startswith("1.")
    assert "(" in figure.axes[1].texts[0].get_text()


@pytest.mark.parametrize("ranks", [(), (2,), (1, 2), (1, 2, 3, 4, 5, 6)])
def test_the_heat_map_draws_any_number_of_ranks(store: Store, ranks: tuple[int, ...]) -> None:
    small = Store(store.folder, size=8, layers=1)
    small.run()
    for rank in ranks:
        small.run(rank=rank)
    figure = FIGURES["effective_rank"].draw(FIGURES["effective_rank"].table(group_of(small)))
    titles = [title for axes in figure.axes if (title := axes.get_title(loc="left"))]
    assert len(titles) == min(len(ranks), 3) + 1
    assert figure.axes[0].texts[0].get_text().count("(") == (1 not in ranks)
    assert ("4 of 7" in figure.get_suptitle()) == (len(ranks) == 6)


def test_an_update_of_zero_has_no_rank_and_no_line(store: Store) -> None:
    still = Store(store.folder, size=8, layers=1, modules={"attention.self.query": 0.0, "intermediate.dense": 1.0})
    still.run()
    assert FIGURES["effective_rank"].table(group_of(still))["effective_rank"].isna().tolist() == [True, False]
    assert drawn(still, "effective_rank", "singular_values") == 0
    nothing = Store(store.folder / "nothing", size=8, layers=1, modules={"attention.self.query": 0.0})
    nothing.run()
    with pytest.raises(CannotDraw, match="is zero"):
        FIGURES["singular_values"].table(group_of(nothing))


def test_only_runs_of_one_budget_share_a_figure(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for epochs in (1, 2):
        store.run(train={"epochs": epochs, "learning_rate": 5e-5})
        store.run(rank=2, test=0.6 + 0.1 * epochs, train={"epochs": epochs})
    store.run(rank=2, seed=1, test=0.7, train={"device": "cuda"})
    store.run(model="smollm2", rank=2)
    groups = load(store.folder).groups
    assert sorted(len(group.runs) for group in groups) == [1, 2, 3]
    budgets = {group.name: group.shared for group in groups}
    assert sorted(budgets.values()) == [
        ("model=minilm", "task=movie_reviews"),
        ("model=minilm", "task=movie_reviews", "train.epochs=2"),
        ("model=smollm2", "task=movie_reviews"),
    ]
    assert [group.name for group in groups] == sorted(budgets)
    for group in groups:
        if group.shared[0] == "model=minilm":
            rows = FIGURES["accuracy_vs_rank"].table(group)
            epochs = 2 if "train.epochs=2" in group.shared else 1
            assert rows[rows["rank"] == 2]["score"].tolist() == pytest.approx([0.6 + 0.1 * epochs] * (3 - epochs))
    drawn(store, "memory")
    names = {file.name for file in store.folder.joinpath("out").glob("*.csv")}
    assert names == {f"{group.name}-memory.csv" for group in groups}
    assert len({name[: len("minilm-movie_reviews-123456")] for name in names}) == 3
    assert "train.epochs=2" in capsys.readouterr().out


@pytest.mark.parametrize("name", FIGURES)
def test_title_and_table_say_what_a_group_shares_beside_the_defaults(store: Store, name: str) -> None:
    small = Store(store.folder, size=8, layers=1)
    for train, task in (({}, {}), ({"epochs": 2}, {}), ({"epochs": 2}, {"max_length": 32})):
        small.run(train=train, task=task)
        small.run(rank=2, train=train, task=task)
    tables = [FIGURES[name].table(group) for group in load(small.folder).groups]
    titles = {table["settings"].iloc[0]: FIGURES[name].draw(table).get_suptitle() for table in tables}
    assert titles.keys() == {"defaults", "train.epochs=2", "train.epochs=2 task.max_length=32"}
    for settings, title in titles.items():
        said = " ".join(title.split())
        assert said.endswith(f" all with {settings}") == (settings != "defaults")
        assert "defaults" not in said
    assert all(len(set(table["settings"])) == 1 for table in tables)


def test_names_of_arms_do_not_lie_over_each_other(store: Store) -> None:
    long = ("attention.self.query", "attention.self.value", "intermediate.dense", "attention.output.dense")
    for rank in (1, 2, 4):
        store.run(rank=rank)
        store.run(rank=rank, targets=long)
    figure = FIGURES["memory"].draw(FIGURES["memory"].table(group_of(store)))
    figure.canvas.draw()
    labels = figure.axes[0].get_yticklabels()
    assert max(label.get_text().count("\n") for label in labels) >= 2
    boxes = [label.get_window_extent() for label in labels]
    assert not any(upper.overlaps(lower) for upper, lower in pairwise(boxes))


def test_a_group_keeps_its_name_when_other_runs_join(store: Store) -> None:
    store.run(rank=2)
    name = group_of(store).name
    store.run(rank=2, alpha=8, train={"learning_rate": 0.1})
    store.run()
    store.run(rank=2, train={"epochs": 2})
    store.run(rank=2, task={"max_length": 32})
    store.run(rank=2, model="smollm2")
    names = [group.name for group in load(store.folder).groups]
    assert len(set(names)) == 4
    assert names.count(name) == 1


def test_one_model_under_two_names_is_one_group(store: Store) -> None:
    store.run()
    store.run(model="/models/minilm", rank=2)
    assert len(group_of(store).runs) == 2


def test_settings_of_a_method_part_variants_and_are_not_averaged(store: Store) -> None:
    store.run(validation=0.8, train={"learning_rate": 5e-5})
    store.run(validation=0.7, train={"learning_rate": 9e-5})
    for alpha, score in ((8, 0.6), (16, 0.7)):
        for seed in (0, 1):
            store.run(rank=2, alpha=alpha, seed=seed, validation=score, test=score)
    group = group_of(store)
    rows = FIGURES["accuracy_vs_rank"].table(group)
    means = rows.groupby("variant")["score"].mean().to_dict()
    assert means == pytest.approx(
        {"LoRA (alpha 8)": 0.6, "LoRA (alpha 16)": 0.7, "full fine-tuning (learning rate 5e-05)": 0.8}
    )
    assert set(group.best["variant"]) == {"LoRA (alpha 16)", "full fine-tuning (learning rate 5e-05)"}
    assert len(set(FIGURES["memory"].table(group)["arm"])) == 4


def test_what_is_measured_makes_no_variant(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for measure in ("standard", "controls"):
        store.run(rank=2, measure=measure)
        store.run(seed=0 if measure == "standard" else 1, measure=measure)
    store.run(rank=2, seed=1)
    group = group_of(store)
    assert list(group.runs["arm"]) == ["LoRA r = 2"] * 2 + ["full fine-tuning"] * 2
    assert set(group.runs["variants"]) == {1}
    assert list(group.runs["config.measure"]) == ["controls", "standard", "standard", "controls"]
    assert group.dials == ()
    assert gaps.missing(group) == []
    assert drawn(store, "memory") == 0
    assert "is the same training as minilm-movie_reviews-lora-r2-s0-" in capsys.readouterr().out


def test_what_goes_with_the_rank_is_one_line_that_says_so(store: Store) -> None:
    store.run(rank=2, alpha=4)
    store.run(rank=4, alpha=8)
    runs = group_of(store).runs
    assert set(runs["variant"]) == {"LoRA (alpha by rank)"}
    assert list(runs["arm"]) == ["LoRA r = 2 (alpha 4)", "LoRA r = 4 (alpha 8)"]


def test_other_targets_are_another_line_even_at_another_rank(store: Store) -> None:
    store.run(rank=1, targets=("query", "value"))
    store.run(rank=2)
    assert list(group_of(store).runs["variant"]) == [
        "LoRA (target modules [query,value])", "LoRA (target modules all-linear)",
    ]  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_no_figure_mixes_variants_unsaid(store: Store, name: str) -> None:
    """LoRA of rank 1 on query and value beside rank 2 on all, each with two alphas, and full with two rates."""
    small = Store(store.folder, size=8, layers=1)
    for alpha in (8, 16):
        small.run(train={"learning_rate": alpha * 1e-5}, test=0.6 + alpha / 100)
        for rank, targets in ((1, ("query", "value")), (2, ("all-linear",))):
            small.run(rank=rank, targets=targets, alpha=alpha, test=0.6 + alpha / 100)
    group = group_of(small)
    assert group.dials == ("method.alpha", "method.target_modules", "train.learning_rate")
    table = FIGURES[name].table(group)
    assert {"model", "task", "settings", "method", "variant", "arm", "variants", "rank", "seed", *group.dials} <= set(
        table
    )
    runs = table[table["method"].isin(("full", "lora"))]
    of_arm = runs.groupby("arm")[list(group.dials)].nunique(dropna=False)
    assert (of_arm == 1).all(axis=None)
    figure = FIGURES[name].draw(table)
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    labels = [text.get_text() for axes in figure.axes for text in axes.get_yticklabels()]
    said = " ".join(" ".join([*legends, *titles, *labels, figure.get_suptitle()]).split())
    assert "[query,value]" in said
    assert "all-linear" in said
    runs = group.shown if name.startswith("accuracy") else group.runs
    whole = any(all(label in said for label in runs[column]) for column in ("arm", "variant"))
    assert whole or "validat" in said


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_one_arm_does_not_speak_of_variants(study: Store, name: str) -> None:
    figure = FIGURES[name].draw(FIGURES[name].table(group_of(study)))
    assert "variant" not in figure.get_suptitle()


@pytest.mark.parametrize("score", [0.7 + 0.1, 1 / 3])
def test_seeds_that_score_alike_draw(store: Store, score: float) -> None:
    for seed in range(3):
        store.run(seed=seed, test=score)
        store.run(rank=2, seed=seed, test=score)
        store.run(rank=4, seed=seed, test=score)
    assert drawn(store, "accuracy_vs_rank", "functional_rank") == 0
    low, high = spread_of_seeds(pd.Series([score] * 3 + [0.1] * 6), pd.Series([1] * 3 + [2] * 6))
    assert min(low + high) >= 0


def test_a_failed_run_blocks_no_figure(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.run()
    store.run(rank=4)
    figures = ("accuracy_vs_rank", "memory", "functional_rank")
    assert drawn(store, *figures) == 0
    failed = store.run(rank=500, status="failed")
    elsewhere = store.run(rank=8, status="oom", train={"epochs": 5})
    capsys.readouterr()
    assert drawn(store, *figures) == 0
    printed = capsys.readouterr().out
    typed, place = "python -m lorax_lab.run model=minilm task=movie_reviews method=lora", f"runs_dir={store.folder}"
    assert f"{failed.name} is failed; to run it again, type {typed} rank=500 seed=0 {place}\n" in printed
    assert f"{elsewhere.name} is oom; to run it again, type {typed} rank=8 train.epochs=5 seed=0 {place}\n" in printed
    assert "missing" not in printed


def test_what_is_not_drawn_is_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.run()
    done = store.run(rank=4)
    others = {status: store.run(rank=8, seed=i, status=status) for i, status in enumerate(record.STATUSES[1:], 1)}
    damaged = store.run(rank=16)
    damaged.joinpath("record.json").write_text(damaged.joinpath("record.json").read_text()[:-40])
    aside = quarantine(store.run(rank=32))
    bare = store.folder / "minilm-without-record"
    bare.mkdir()
    bare.joinpath("metrics.jsonl").touch()
    (store.folder / "wandb").mkdir()
    assert drawn(store, "accuracy_vs_rank") == 0
    printed = capsys.readouterr().out
    for status, folder in others.items():
        assert f"{folder.name} is {status}; to run it again, type python -m lorax_lab.run" in printed
    assert f"{damaged.name} is damaged: " in printed
    assert f"{aside.name} is damaged, set aside in" in printed
    assert "minilm-without-record has no record.json" in printed
    assert "wandb" not in printed
    assert f"{done.name} is" not in printed
    assert "missing" not in printed
    rows = pd.read_csv(store.folder / "out" / f"{group_of(store).name}-accuracy_vs_rank.csv")
    assert rows["rank"].dropna().tolist() == [4]


def test_seeds_that_an_arm_lacks_are_named_with_what_to_type(store: Store) -> None:
    store.run(train={"epochs": 3})
    for seed in (0, 1, 2):
        store.run(rank=2, seed=seed, train={"epochs": 3})
    store.run(rank=4, train={"epochs": 3})
    store.run(rank=8, train={"epochs": 3})
    store.run(rank=8, train={"epochs": 3}, alpha=8)
    start, budget = "python -m lorax_lab.run model=minilm task=movie_reviews", "train.epochs=3"
    end = f"seed=1,2 runs_dir={store.folder} -m"
    assert gaps.missing(group_of(store)) == [
        f"full fine-tuning of seeds 1, 2; type {start} method=full {budget} {end}",
        f"LoRA (alpha 16) r = 4, 8 of seeds 1, 2; type {start} method=lora {budget} rank=4,8 {end}",
        f"LoRA (alpha 8) r = 8 of seeds 1, 2; type {start} method=lora method.alpha=8 {budget} rank=8 {end}",
    ]


@pytest.mark.parametrize("name", FIGURES)
def test_only_a_figure_that_lacks_a_run_is_stamped(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stamps: list[str] = []
    monkeypatch.setattr(style, "stamp", lambda figure, text: stamps.append(text))
    small = Store(store.folder, size=8, layers=1)
    for seed in (0, 1):
        small.run(rank=2, seed=seed)
        small.run(seed=seed)
    assert drawn(small, name) == 0
    small.run(rank=4)
    small.run(rank=4, seed=1, status="failed")
    one_seed = len(set(FIGURES[name].table(group_of(small))["seed"])) == 1
    assert drawn(small, name) == (0 if one_seed else 1)
    assert stamps == ([] if one_seed else ["5 of 6 runs"])
    assert "LoRA r = 4 of seed 1; type python -m lorax_lab.run" in capsys.readouterr().out


def test_a_seed_that_failed_is_missing_of_its_arm(store: Store) -> None:
    store.run()
    store.run(rank=2)
    store.run(rank=2, seed=1, status="failed")
    group = group_of(store)
    assert gaps.lacking(group, FIGURES["memory"].table(group)) == 1


def test_without_full_the_others_still_draw(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.run(rank=2)
    assert drawn(store, "functional_rank", "accuracy_vs_rank", "singular_values", "memory") == 1
    printed = capsys.readouterr().out
    prefix = group_of(store).name
    names = {file.stem for file in store.folder.joinpath("out").glob("*.png")}
    assert names == {f"{prefix}-accuracy_vs_rank", f"{prefix}-memory"}
    for name in ("functional_rank", "singular_values"):
        assert (
            f"{prefix}-{name}: there is no completed full fine-tune; type "
            f"python -m lorax_lab.run model=minilm task=movie_reviews method=full runs_dir={store.folder}\n" in printed
        )
    assert "full fine-tuning of seed 0; type" in printed


def test_the_edge_is_the_record_s_where_it_has_one(store: Store) -> None:
    small = Store(store.folder, size=32, layers=1)
    small.run(noise_fit=True)
    group = group_of(small)
    table = FIGURES["singular_values"].table(group)
    recorded = group.matrices.set_index("matrix")
    for name, rows in table.groupby("matrix"):
        assert set(rows["edge"]) == {recorded.loc[name, "noise_edge"]}
        full = rows[rows["method"] == "full"]["sigma"]
        assert (full > rows["edge"].iloc[0]).sum() == recorded.loc[name, "spikes"]
        null = rows[rows["method"] == "noise"]["sigma"].to_numpy()
        shape, std = recorded.loc[name, "shape"], recorded.loc[name, "noise_std"]
        assert null == pytest.approx(spectra.gaussian_singular_values(shape).numpy() * std)
    figure = FIGURES["singular_values"].draw(table)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "too high" not in " ".join(legend)
    assert table["told"].all()
    assert "full: 1 of 32 above the edge" in figure.axes[0].get_title(loc="left")
    heading = FIGURES["singular_values"].draw(table.assign(told=False, bulk_misfit=0.104)).axes[0].get_title(loc="left")
    assert heading.endswith("full's bulk is no iid noise (KS 0.10)")


@pytest.mark.parametrize("broken", [None, b"PK\x03\x04 cut short", b""])
def test_spectra_that_cannot_be_read_are_named(store: Store, broken: bytes | None) -> None:
    folder = store.run(with_spectra=False)
    if broken is not None:
        (folder / "spectra.npz").write_bytes(broken)
    with pytest.warns(UserWarning, match="its measures are left out"):
        group = group_of(store)
    with pytest.raises(CannotDraw, match=f"spectra.npz of {folder.name} cannot be read.*force=true"):
        FIGURES["singular_values"].table(group)


def test_bad_requests_say_what_to_type(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", str(store.folder / "nowhere")]) == 2
    assert f"python -m lorax_lab.run rank=4,8,16 runs_dir={store.folder}/nowhere -m\n" in capsys.readouterr().err
    failed = store.run(rank=2, status="failed")
    assert drawn(store) == 2
    both = capsys.readouterr()
    assert f"{failed.name} is failed" in both.out
    assert "there is no completed run" in both.err
    assert f"python -m lorax_lab.run rank=4,8,16 runs_dir={store.folder} -m" in both.err
    assert main(["efective_rank"]) == 2
    message = capsys.readouterr().err
    assert "there is no figure efective_rank; did you mean effective_rank?" in message
    assert all(name in message for name in FIGURES)
    assert not (store.folder / "out").exists()


def test_the_usual_folder_is_not_typed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.run(rank=2)
    monkeypatch.chdir(store.folder.parent)
    (group,) = load(Path("runs")).groups
    assert all("runs_dir" not in typed for typed in (group.command(), *gaps.missing(group)))


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_where_the_figures_go_is_named(store: Store, below: str, capsys: pytest.CaptureFixture[str]) -> None:
    store.run(rank=2)
    place = store.folder / "plain"
    place.touch()
    out = ["--out", str(place / below)]
    for typed in (["memory", "--runs", str(store.folder)], ["audit", str(store.folder)], ["study"]):
        assert main([*typed, *out]) == 2
        shown = "".join(capsys.readouterr()).replace("\n", "")
        assert f"{place} is a file; name a folder, --out FOLDER" in shown, typed


def test_help_lists_the_figures_and_loads_nothing_heavy() -> None:
    heavy = ("torch", "pandas", "numpy", "matplotlib", "seaborn")
    script = (
        "import sys\nfrom analysis.__main__ import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n"
        f"    print('loaded', [m for m in {heavy} if m in sys.modules])"
    )
    printed = run_python("-c", script).stdout
    assert printed.rstrip().endswith("loaded []")
    assert all(f"{name} " in printed and figure.TITLE in printed for name, figure in FIGURES.items())


@pytest.mark.slow
def test_the_command_needs_no_training_stack(study: Store, tmp_path: Path) -> None:
    foreign = ("transformers", "accelerate", "wandb", "hydra", "datasets", "peft")
    script = (
        "import sys\nfrom analysis.__main__ import main\n"
        f"code = main(['memory', 'singular_values', '--runs', {str(study.folder)!r}, '--out', {str(tmp_path)!r}])\n"
        f"print('loaded', code, [m for m in {foreign} if m in sys.modules])"
    )
    assert run_python("-W", "error", "-c", script).stdout.rstrip().endswith("loaded 0 []")
    assert run_python("-m", "analysis", "--runs", str(tmp_path / "none")).returncode == 2


def run_python(*words: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run([sys.executable, *words], cwd=root, capture_output=True, text=True, check=False)


def test_a_training_that_is_recorded_twice_counts_its_seed_once(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.run()
    first, second = (store.run(rank=4, model=f"/models/{name}/minilm", task={"path": name}) for name in ("one", "two"))
    assert first != second
    assert sorted(group_of(store).runs["method"]) == ["full", "lora"]
    main(["accuracy_vs_rank", "--runs", str(store.folder), "--out", str(store.folder / "out")])
    left = sorted([first.name, second.name])
    assert f"{left[1]} is the same training as {left[0]}, which is counted" in capsys.readouterr().out
