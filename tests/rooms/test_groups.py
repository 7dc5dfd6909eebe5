"""Runs sorted into figures: what shares one, what is named apart, what is missing, and the command line."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from stores import Store, drawn, group_of

from analysis import gaps
from analysis.__main__ import main
from analysis.figures import FIGURES
from analysis.groups import load
from lorax_lab.record import record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs", size=8, layers=1)


def test_only_runs_of_one_budget_share_a_figure(store: Store) -> None:
    for epochs in (1, 2):
        store.run(train={"epochs": epochs, "learning_rate": 5e-5})
        store.run(rank=2, test=0.6 + 0.1 * epochs, train={"epochs": epochs})
    store.run(rank=2, seed=1, test=0.7, train={"device": "cuda"})
    store.run(model="smollm2", rank=2)
    groups = load(store.folder).groups
    assert {(group.shared, len(group.runs)) for group in groups} == {
        (("model=minilm", "task=movie_reviews"), 3),
        (("model=minilm", "task=movie_reviews", "train.epochs=2"), 2),
        (("model=smollm2", "task=movie_reviews"), 1),
    }
    assert len({group.name for group in groups}) == 3
    drawn(store, "memory")
    assert {file.name for file in store.folder.joinpath("out").glob("*.csv")} == {
        f"{group.name}-memory.csv" for group in groups
    }


def test_settings_of_a_method_part_variants_and_are_not_averaged(store: Store) -> None:
    store.run(validation=0.8, train={"learning_rate": 5e-5})
    store.run(validation=0.7, train={"learning_rate": 9e-5})
    for alpha, score in ((8, 0.6), (16, 0.7)):
        for seed in (0, 1):
            store.run(rank=2, alpha=alpha, seed=seed, validation=score, test=score)
    group = group_of(store)
    rows = FIGURES["accuracy_vs_rank"].table(group)
    assert rows.groupby("variant")["score"].mean().to_dict() == pytest.approx(
        {"LoRA (alpha 8)": 0.6, "LoRA (alpha 16)": 0.7, "full fine-tuning (learning rate 5e-05)": 0.8}
    )
    assert set(group.best["variant"]) == {"LoRA (alpha 16)", "full fine-tuning (learning rate 5e-05)"}
    assert len(set(FIGURES["memory"].table(group)["arm"])) == 4


def test_what_goes_with_the_rank_is_one_line_and_other_targets_are_another(store: Store) -> None:
    store.run(rank=2, alpha=4)
    store.run(rank=4, alpha=8)
    runs = group_of(store).runs
    assert set(runs["variant"]) == {"LoRA (alpha by rank)"}
    assert list(runs["arm"]) == ["LoRA r = 2 (alpha 4)", "LoRA r = 4 (alpha 8)"]
    others = Store(store.folder / "others")
    others.run(rank=1, targets=("query", "value"))
    others.run(rank=2)
    assert set(group_of(others).runs["variant"]) == {
        "LoRA (target modules [query,value])", "LoRA (target modules all-linear)",
    }  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_no_figure_mixes_variants_unsaid(store: Store, name: str) -> None:
    """LoRA of rank 1 on query and value beside rank 2 on all, each with two alphas, and full with two rates. A figure
    names all that it may show, or says that the best in validation are shown."""
    for alpha in (8, 16):
        store.run(train={"learning_rate": alpha * 1e-5}, test=0.6 + alpha / 100)
        for rank, targets in ((1, ("query", "value")), (2, ("all-linear",))):
            store.run(rank=rank, targets=targets, alpha=alpha, test=0.6 + alpha / 100)
    group = group_of(store)
    assert group.dials == ("method.alpha", "method.target_modules", "train.learning_rate")
    table = FIGURES[name].table(group)
    assert {"model", "task", "settings", *group.columns} <= set(table)
    runs = table[table["method"].isin(("full", "lora"))]
    assert len(runs[["arm", *group.dials]].drop_duplicates()) == len(set(runs["arm"]))
    figure = FIGURES[name].draw(table)
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    labels = [text.get_text() for axes in figure.axes for text in axes.get_yticklabels()]
    shown = " ".join(" ".join([*legends, *titles, *labels, figure.get_suptitle()]).split())
    assert "[query,value]" in shown
    assert "all-linear" in shown
    named = [set(runs[column]) for runs in (group.runs, group.shown) for column in ("arm", "variant")]
    assert "validat" in shown or any(all(label in shown for label in labels) for labels in named)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_counts_its_collapsed_runs_and_leaves_none_out(name: str, tmp_path: Path) -> None:
    plain, flagged = (Store(tmp_path / which, size=8, layers=1) for which in ("plain", "flagged"))
    for store in (plain, flagged):
        for rank in (None, 2, 4):
            store.run(rank=rank, collapsed=["why"] if store is flagged and rank == 4 else [])
    before, after = (FIGURES[name].table(group_of(store)) for store in (plain, flagged))
    pd.testing.assert_frame_equal(before, after.drop(columns="collapsed"))
    assert "collapsed" not in FIGURES[name].draw(before).get_suptitle()
    assert "1 of 3 runs collapsed" in FIGURES[name].draw(after).get_suptitle()


@pytest.mark.parametrize("name", FIGURES)
def test_only_a_figure_that_lacks_a_run_is_stamped(store: Store, name: str) -> None:
    for seed in (0, 1):
        store.run(rank=2, seed=seed)
        store.run(seed=seed)
    assert gaps.stamp(group_of(store), FIGURES[name].table(group_of(store))) == ""
    store.run(rank=4)
    store.run(rank=4, seed=1, status="failed")
    table = FIGURES[name].table(group_of(store))
    one_seed = len(set(table["seed"])) == 1
    assert gaps.stamp(group_of(store), table) == ("" if one_seed else "5 of 6 runs")


def test_runs_that_unlike_versions_made_are_named(store: Store) -> None:
    for torch in ("2", "3"):
        folder = store.run(rank=int(torch))
        made = {"code": "a" * 64, "versions": {"torch": torch, "lorax_lab": torch}}
        record.write_record(folder, replace(record.read_record(folder), **made))
    group = group_of(store)
    assert gaps.versions(group) == ["torch: 2 in 1 of 2 runs, 3 in 1 of 2 runs"]
    assert gaps.stamp(group, FIGURES["memory"].table(group)) == "2 versions of torch"


def test_what_is_not_drawn_is_named_and_blocks_no_figure(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.run()
    done = store.run(rank=4)
    others = {status: store.run(rank=8, seed=i, status=status) for i, status in enumerate(record.STATUSES[1:], 1)}
    elsewhere = store.run(rank=8, status="oom", train={"epochs": 5})
    damaged = store.run(rank=16)
    damaged.joinpath("record.json").write_text(damaged.joinpath("record.json").read_text()[:-40])
    bare = store.folder / "minilm-without-record"
    bare.mkdir()
    bare.joinpath("metrics.jsonl").touch()
    (store.folder / "wandb").mkdir()
    assert drawn(store, "accuracy_vs_rank") == 0
    printed = capsys.readouterr().out
    for status, folder in others.items():
        assert f"{folder.name} is {status}; to run it again, type python -m lorax_lab.run" in printed
    typed = "python -m lorax_lab.run model=minilm task=movie_reviews method=lora rank=8 train.epochs=5 seed=0"
    assert f"{elsewhere.name} is oom; to run it again, type {typed} runs_dir={store.folder}" in printed
    assert f"left out: {damaged}" in printed
    assert "minilm-without-record has no record.json" in printed
    assert not any(words in printed for words in ("wandb", f"{done.name} is", "missing"))
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


def test_a_comparison_that_is_missing_is_named(store: Store) -> None:
    store.run()
    folder = store.run(rank=2)
    made = record.read_record(folder)
    record.write_record(folder, replace(made, config=made.config | {"reference": True}))
    assert [line.partition(";")[0] for line in gaps.missing(group_of(store))] == [
        "the comparison with the reference: LoRA r = 2 of seed 0"
    ]


def test_bad_requests_say_what_to_type(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", str(store.folder / "nowhere")]) == 2
    assert f"python -m lorax_lab.run rank=4,8,16 runs_dir={store.folder}/nowhere -m" in capsys.readouterr().err
    failed = store.run(rank=2, status="failed")
    assert drawn(store) == 2
    both = capsys.readouterr()
    assert failed.name in both.out
    assert f"python -m lorax_lab.run rank=4,8,16 runs_dir={store.folder} -m" in both.err
    assert main(["efective_rank"]) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in ("efective_rank", *FIGURES))
    assert not (store.folder / "out").exists()
