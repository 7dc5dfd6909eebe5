"""A bad table of a grid is answered in one line that says what is wrong, and writes nothing."""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd
import pytest
from grids import published, rows_of, staged
from matplotlib.text import Text

from analysis.__main__ import main
from analysis.grid.figure import BEST, MOST_NAMED, draw
from analysis.grid.table import read

HEADER = "method,rank,learning_rate,seed,score\n"
FULL, LORA = "full,,0.001,0,0.9\n", "lora,4,0.001,0,0.9\n"


def one(row: str) -> str:
    return HEADER + FULL + row + "\n"


BAD: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty; a grid has a header with method, rank, learning_rate, score"),
    "blank lines": ("\n\n , \n", "is empty; a grid has a header"),
    "a header alone": (HEADER, "has a header and no rows"),
    "not text": (b"\x89PNG\r\n\x1a\n\xff\x00\x01", "is not a table: "),
    "a zero byte": (HEADER.encode() + b"full,,0.001,0,\x00\n", r"row 2: '\x00' has signs that do not print"),
    "an open quote": (HEADER + 'full,,0.001,0,"0.9\n', "is not a table: unexpected end of data"),
    "prose": ("Dear reader, this is\nno table at all\n", "is not a table: row 2 has 1 cells, the header 2"),
    "semicolons": (HEADER.replace(",", ";"), "has its columns apart by ';'"),
    "tabs": (HEADER.replace(",", "\t"), r"has its columns apart by '\t'"),
    "a short row": (one("lora,4,0.001,0"), "row 3 has 4 cells, the header 5"),
    "a long row": (one("lora,4,0.001,0,0.9,1"), "row 3 has 6 cells, the header 5"),
    "no method": ("rank,learning_rate,score\n4,0.1,1\n", "the table has no column method"),
    "no rank": ("method,learning_rate,score\nlora,0.1,1\n", "the table has no column rank"),
    "no rate": ("method,rank,score\nlora,4,1\n", "the table has no column learning_rate"),
    "no score": ("method,rank,learning_rate\nlora,4,.1\n", "the table has no column score"),
    "lr": ("method,rank,lr,score\nlora,4,0.1,1\n", "column lr: rename it, or type --column learning_rate=lr"),
    "r": ("method,r,learning_rate,score\nlora,4,0.1,1\n", "column r: rename it, or type --column rank=r"),
    "nearly right": (
        "method,rank,learning_rates,score\nlora,4,0.1,1\n",
        "column learning_rates: rename it, or type --column learning_rate=learning_rates",
    ),
    "in capitals": ("Method,rank,learning_rate,score\nlora,4,0.1,1\n", "type --column method=Method"),
    "an optional one nearly right": (
        "method,rank,learning_rate,score,seeds\nlora,4,0.1,1,0\n",
        "type --column seed=seeds",
    ),
    "a column twice": ("method,rank,rank,learning_rate,score\nlora,4,4,.1,1\n", "the column rank 2 times"),
    "a rank in words": (one("lora,four,0.001,0,0.9"), "row 3: rank is 'four'; allowed are whole numbers ≥ 1"),
    "rank 0": (one("lora,0,0.001,0,0.9"), "row 3: rank is '0'; allowed are whole numbers ≥ 1"),
    "a negative rank": (one("lora,-4,0.001,0,0.9"), "row 3: rank is '-4'"),
    "a rank beyond any matrix": (
        one("lora,99999999999999999999,0.001,0,0.9"),
        "row 3: rank is '99999999999999999999'; allowed are whole numbers ≥ 1 and at most 1000000",
    ),
    "a score whose square is no number": (one("lora,4,0.001,0,0.80e308"), "score is '0.80e308'; allowed are numbers"),
    "half a rank": (one("lora,4.5,0.001,0,0.9"), "row 3: rank is '4.5'"),
    "an infinite rank": (one("lora,inf,0.001,0,0.9"), "row 3: rank is 'inf'"),
    "full with a rank": (one("full,4,0.002,0,0.9"), "row 3: method is full and rank 4; full fine-tuning has no rank"),
    "LoRA without its rank": (HEADER + LORA + "lora,,0.002,0,0.9\n", "row 3: method lora has no rank here"),
    "other words for full": (one("Full FT,,0.002,0,0.9"), "row 3: method is 'Full FT'; full fine-tuning is full"),
    "one method in two cases": (
        HEADER + LORA + "LoRA,8,0.001,0,0.9\n",
        "methods 'lora' and 'LoRA' differ in case alone",
    ),
    "shares beside per cents": (one("lora,4,0.001,0,91.3"), "scores of full lie between 0 and 1, those of lora r=4"),
    "no name": (one(",4,0.001,0,0.9"), "row 3: method is empty"),
    "rate 0": (one("lora,4,0,0,0.9"), "row 3: learning_rate is '0'; allowed are numbers above 0"),
    "a negative rate": (one("lora,4,-0.001,0,0.9"), "row 3: learning_rate is '-0.001'"),
    "no rate in a row": (one("lora,4,,0,0.9"), "row 3: learning_rate is ''"),
    "a rate that is no number": (one("lora,4,nan,0,0.9"), "row 3: learning_rate is 'nan'"),
    "half a seed": (one("lora,4,0.001,0.5,0.9"), "row 3: seed is '0.5'; allowed are whole numbers ≥ 0"),
    "no seed in a row": (one("lora,4,0.001,,0.9"), "row 3: seed is ''"),
    "a score in words": (one("lora,4,0.001,0,good"), "row 3: score is 'good'; allowed are numbers, or nothing, nan"),
    "a score too large": (one("lora,4,0.001,0,1e999"), "row 3: score is '1e999'"),
    "one cell twice": (one("full,,1e-3,0,0.8"), "rows 2 and 3 are one cell: full at 0.001, seed 0; keep one of them"),
    "one cell twice without seeds": (
        "method,rank,learning_rate,score,alpha\nlora,4,.1,1,8\nlora,4,.1,2,16\n",
        "lora r=4 at 0.1; give each its seed (a column that is not read may tell them apart: alpha)",
    ),
    "another split": (
        "method,rank,learning_rate,score,split\nlora,4,.1,1,valid\n",
        "row 2: split is 'valid'; did you mean 'validation'? allowed: validation, test",
    ),
    "another stage": (
        "method,rank,learning_rate,score,stage\nlora,4,.1,1,finals\n",
        "row 2: stage is 'finals'; did you mean 'final' or 'trial'? allowed: trial, final",
    ),
    "two splits and no stage": (
        "method,rank,learning_rate,score,split\nlora,4,.1,1,test\nlora,4,.1,2,validation\n",
        "all rows: scores of test and validation, and no column stage; add one: trial for the rows that chose",
    ),
    "two splits in a stage": (
        "method,rank,learning_rate,score,split,stage\nlora,4,.1,1,test,final\nlora,4,.1,2,validation,final\n",
        "all rows: rows of stage final have scores of test and validation; keep one of them",
    ),
    "two groups of one name": (
        "method,rank,learning_rate,score,model,task\nlora,4,.1,1,a / b,c\nlora,4,.1,2,a,b / c\n",
        "model 'a' with task 'b / c' and model 'a / b' with task 'c' have one name, 'a / b / c'",
    ),
    "no task in a row": (
        "method,rank,learning_rate,score,task\nlora,4,.1,1,a\nlora,4,.2,1,\n",
        "row 3: task is empty; allowed is any name, in every row; or drop the column",
    ),
    "no model": ("method,rank,learning_rate,score,model\nlora,4,.1,1,\n", "row 2: model is empty; allowed is any name"),
    "two scores": (
        "method,rank,learning_rate,val_accuracy,test_accuracy\nlora,4,.1,1,1\n",
        "columns val_accuracy, test_accuracy could each be the score, and one is read: type --column "
        "score=test_accuracy --value split=test,",
    ),
    "two scores in short": (
        "method,rank,learning_rate,val_acc,Test-acc\nlora,4,.1,1,1\n",
        "type --column score=Test-acc",
    ),
    "the scores of two splits": (
        "method,rank,learning_rate,validation_score,test_score\nlora,4,.1,1,1\n",
        "columns validation_score, test_score could each be the score",
    ),
    "a score of a split": (
        "method,rank,learning_rate,test_f1\nlora,4,.1,1\n",
        "type --column score=test_f1 --value split=test",
    ),
    "steps of one run": (
        "method,rank,learning_rate,step,alpha,score\nlora,4,.1,0,8,1\nlora,4,.1,100,8,2\n",
        "rows 2 and 3 are one cell: lora r=4 at 0.1; they differ in step: steps of one run are no seeds, so keep the "
        "last row of each run",
    ),
    "epochs of one run": (
        "method,rank,learning_rate,epochs,seed,score\nlora,4,.1,1,0,1\nlora,4,.1,2,0,2\n",
        "they differ in epochs: steps of one run are no seeds",
    ),
    "a hidden sign": (HEADER + "lora\u200b,4,.1,0,1\n", r"row 2: 'lora\u200b' has signs that do not print"),
    "two metrics": (
        "method,rank,learning_rate,score,metric\nlora,4,.1,1,loss\nlora,4,.2,2,accuracy\n",
        "column metric: the scores are of 'accuracy', 'loss'; keep one metric a table",
    ),
}


def answered(path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that refuses a table; nothing is written."""
    out = path.parent / "out"
    assert main(["grid", str(path), "--lower", "--out", str(out), *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert not out.exists()
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_refused_in_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, fault = BAD[name]
    path = tmp_path / "grid.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert fault in answered(path, [], capsys)


OPTIONS = {
    "--margin 0": "--margin 0: allowed are numbers above 0",
    "--margin -1": "--margin -1: allowed are numbers above 0",
    "--margin nan": "--margin nan: allowed are numbers above 0",
    "--margin some": "--margin some: allowed are numbers above 0",
    "--group midsize": "--group midsize: the table has no such group; allowed: large, small",
    "--group smal": "did you mean 'small'?",
    "--column learning_rate": "--column learning_rate: allowed is NAME=VALUE",
    "--column lr=learning_rate": "--column lr=learning_rate: there is no column lr in a grid",
    "--column seed=sead": "--column seed=sead: the table has no column sead",
    "--value method=dora": "--value method=dora: the table has a column method; leave the option out",
    "--value nothing=1": "--value nothing: there is no column nothing in a grid",
    "--value seed=a": "row 2: seed is 'a'",
    "--column seed=global_step": "--column seed=global_step: steps of one run are no seeds; keep the last row",
    "--out ''": "--out '': allowed is the name of a folder; type --out figures",
    "--out ' '": "--out ' ': allowed is the name of a folder",
}


@pytest.mark.parametrize("words", OPTIONS)
def test_a_bad_option_is_refused_in_one_line(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "grid.csv"
    published().to_csv(path, index=False)
    assert OPTIONS[words] in answered(path, shlex.split(words), capsys)


SHARES = {"full": 0.9, "lora 4": 0.85}
PER_CENTS = {arm: 100 * level for arm, level in SHARES.items()}


def refused(rows: pd.DataFrame, words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a table is refused for; nothing where it is read."""
    path, out = folder / "grid.csv", folder / "out"
    rows.to_csv(path, index=False)
    code = main(["grid", str(path), *words.split(), "--out", str(out)])
    assert out.exists() == (code == 0)
    return capsys.readouterr().err if code else ""


def test_a_row_in_per_cents_beside_shares_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row, or one seed of every arm; named is the one of which there are fewer. Where lower scores are better, a
    loss may be as large."""
    rows = rows_of(SHARES)
    one, seed = rows.index == 7, rows["seed"] == 12
    for hit, row, beside in ((one, 9, 2), (seed, 4, 2), (~one, 9, 2)):
        mixed = rows.assign(score=(rows["score"] * (1 + 99 * hit)).round(4))
        kinds = ("a share", "in per cents") if hit.sum() > len(rows) / 2 else ("in per cents", "a share")
        first, second = (f"{mixed['score'][line - 2]:g}" for line in (row, beside))
        error = refused(mixed, "--higher", tmp_path, capsys)
        assert f"row {row}: score is {first} and seems to be {kinds[0]}, row {beside} has {second}" in error
        assert f"which seems to be {kinds[1]}; give all as shares or all as per cents" in error
        assert "write diverged for a run that failed" in error
    mixed = rows.assign(score=rows["score"] * (1 + 99 * one))
    assert refused(mixed, "--lower", tmp_path, capsys) == ""


def test_one_margin_is_not_meant_for_shares_and_per_cents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.concat([rows_of(SHARES).assign(task="a"), rows_of(PER_CENTS).assign(task="b")])
    error = refused(rows, "--higher --margin 0.02", tmp_path, capsys)
    assert "--margin 0.02: scores of a lie between 0 and 1, those of b are more than 20 times as large" in error
    assert "type --group 'b'" in error
    assert refused(rows, "--higher --margin 0.02 --group b", tmp_path, capsys) == ""
    assert refused(rows, "--higher", tmp_path, capsys) == ""


@pytest.mark.parametrize("name", ["log_loss", "Loss", "perplexity", "error rate", "eval/WER", "crossEntropy"])
def test_higher_is_refused_of_a_loss(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(SHARES)
    why = f"--higher: the scores are of {name!r}, of which lower ones are better; type --lower in its place"
    assert why in refused(rows.assign(metric=name), "--higher", tmp_path, capsys)
    path = tmp_path / "grid.csv"
    rows.rename(columns={"score": name}).to_csv(path, index=False)
    assert main(["grid", str(path), "--higher", "--column", f"score={name}", "--out", str(tmp_path / "out")]) == 2
    assert why in capsys.readouterr().err
    assert refused(rows.assign(metric=f"neg_{name}"), "--higher", tmp_path, capsys) == ""


@pytest.mark.parametrize(("scale", "margin", "code"), [(1, "2", 2), (1, "1", 2), (1, "0.9", 0), (100, "2", 0)])
def test_a_margin_as_wide_as_the_scale_of_shares_is_refused(
    scale: float, margin: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "grid.csv"
    staged({"full": 0.9 * scale, "lora 4": 0.6 * scale}).to_csv(path, index=False)
    assert main(["grid", str(path), "--higher", "--margin", margin, "--out", str(tmp_path / "out")]) == code
    said = capsys.readouterr().err
    assert (f"--margin {margin}: all scores of all rows lie between 0 and 1" in said) == (code == 2)
    assert ("type --margin 0.02" in said) == (code == 2)
    assert (tmp_path / "out").exists() == (code == 0)


def test_there_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no file" in answered(tmp_path / "nothing.csv", [], capsys)
    assert main(["grid-of-study", "rank_sweep_2", "sarcasms", str(tmp_path / "x.csv")]) == 2
    assert "did you mean 'sarcasm' or 'sarcasm (sample 2)'?" in capsys.readouterr().err


def test_there_is_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `python -m analysis study` answers; also of one whose declaration cannot be read, or of an empty folder."""
    words = ["sarcasm", str(tmp_path / "x.csv")]
    assert main(["grid-of-study", "rank_swep_2", *words]) == 2
    assert "rank_swep_2.json beside it); did you mean 'rank_sweep_2'" in capsys.readouterr().err
    assert main(["grid-of-study", "one", *words, "--records", str(tmp_path)]) == 2
    assert "type: python -m experiments.one" in capsys.readouterr().err
    (tmp_path / "one.jsonl").touch()
    assert main(["grid-of-study", "one", *words, "--records", str(tmp_path)]) == 2
    assert "one.json" in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()


def test_the_direction_is_never_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["grid", str(tmp_path / "grid.csv")])
    assert "one of the arguments --higher --lower is required" in capsys.readouterr().err


def test_help_names_every_column_and_the_format(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["grid", "--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0
    for word in ("method", "rank", "learning_rate", "score", "seed", "split", "stage", "metric", "docs/grids.md"):
        assert word in said


def test_other_names_and_columns_that_lack_can_be_typed(tmp_path: Path) -> None:
    """A published file as it is, without a column of methods, gives the same runs."""
    plain, own = tmp_path / "plain.csv", tmp_path / "own.csv"
    rows = published()
    rows.to_csv(plain, index=False)
    rows.drop(columns=["method", "split"]).rename(columns={"learning_rate": "LR", "score": "nats"}).to_csv(own)
    named = read(own, {"learning_rate": "LR", "score": "nats"}, {"method": "lora", "split": "test"})
    assert named.groups == read(plain).groups
    assert named.unread == ("",)  # the index that pandas wrote


def test_what_a_spreadsheet_writes_is_read(tmp_path: Path) -> None:
    """A byte order mark, whole numbers with a point, capitals, spaces, and a blank line at the end."""
    path = tmp_path / "grid.csv"
    text = HEADER + "Full,,1E-3,0.0,0.9\n lora , 4.0 ,0.001,0,.9\n\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    (runs,) = read(path).groups.values()
    assert [(str(run.arm), run.rate, run.seed, run.score) for run in runs] == [
        ("full", 0.001, 0, 0.9),
        ("lora r=4", 0.001, 0, 0.9),
    ]


@pytest.mark.parametrize("what", ["one arm", "every run failed", "one row", "many groups"])
def test_a_strange_table_is_read_and_drawn(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {
        "one arm": staged({"full": 0.9}),
        "every run failed": rows_of({"full": 0.9, "lora 4": 0.9}).assign(score="nan"),
        "one row": rows_of({"lora 4": 0.9})[:1],
        "many groups": published(),
    }[what]
    path = tmp_path / "grid.csv"
    rows.to_csv(path, index=False)
    words = ["--group", "small"] if what == "many groups" else []
    assert main(["grid", str(path), "--higher", "--out", str(tmp_path / "out"), *words]) == 0
    said = capsys.readouterr().out
    assert "nan" not in said
    assert ("## large" in said) is False


def test_a_hash_is_a_seed_of_which_each_digit_counts(tmp_path: Path) -> None:
    path, hashed = tmp_path / "grid.csv", (2**64 + 1, 2**64 + 2, 10**30)
    rows_of({"full": 0.9, "lora 4": 0.9}, seeds=hashed).to_csv(path, index=False)
    assert main(["grid", str(path), "--higher", "--out", str(tmp_path / "out")]) == 0
    assert {run.seed for runs in read(path).groups.values() for run in runs} == set(hashed)
    assert str(2**64 + 1) in (tmp_path / "out" / "grid_rates.csv").read_text()


@pytest.mark.parametrize("column", ["method", "task", "metric"])
@pytest.mark.parametrize("name", ["US$", "lora $x_{$", "cost $a_$"])
def test_a_dollar_in_a_name_is_shown_as_it_is(
    column: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = staged({"full": 0.9, "lora 4": 0.9})
    if column == "method":
        rows = rows.replace({"method": {"lora": name}})
    elif column == "task":
        rows = pd.concat([rows.assign(task=name), rows.assign(task="other")])
    else:
        rows = rows.assign(metric=name)
    path = tmp_path / "grid.csv"
    rows.to_csv(path, index=False)
    assert main(["grid", str(path), "--higher", "--out", str(tmp_path / "out")]) == 0
    assert name in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out" / "grid_rates.csv")
    figure = draw(table)
    texts = [text for text in figure.findobj(Text) if name in " ".join(text.get_text().split())]
    assert texts
    assert not any(text.get_parse_math() for text in texts)


def test_every_arm_has_its_name_in_the_legend_or_none_has(tmp_path: Path) -> None:
    """Also one that begins with `_`, which Matplotlib leaves out. The legend lies beside the panel."""
    names = ["full", "_lora 4", *(f"lora {rank}" for rank in range(1, MOST_NAMED - 1))]
    for arms in (names, [*names, "dora 4"]):
        path = tmp_path / "grid.csv"
        rows_of(dict.fromkeys(arms, 0.9), seeds=[0, 1]).to_csv(path, index=False)
        assert main(["grid", str(path), "--higher", "--group", "all rows", "--out", str(tmp_path / "out")]) == 0
        figure = draw(pd.read_csv(tmp_path / "out" / "grid_rates.csv"))
        figure.draw_without_rendering()
        shown = [text.get_text().strip() for text in figure.legends[0].get_texts()]
        said = f"{len(arms)} arms are too many for a legend" in " ".join(figure.get_suptitle().split())
        assert said == (len(arms) > MOST_NAMED)
        assert shown == ([] if said else [name.replace(" ", " r=") for name in sorted(names, key=place)]) + [BEST]
        assert figure.legends[0].get_window_extent().y1 < figure.axes[0].get_window_extent().y0
        assert figure.axes[0].get_window_extent().height > figure.dpi


def place(arm: str) -> tuple[bool, str, int]:
    """Where an arm stands in a list, as `Arm.place`."""
    method, _, rank = arm.partition(" ")
    return method != "full", method, int(rank or 0)


def test_a_name_with_a_bar_breaks_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "grid.csv"
    staged({"full": 0.9, "a|b 4": 0.9}).to_csv(path, index=False)
    assert main(["grid", str(path), "--higher", "--out", str(tmp_path / "out")]) == 0
    rows = [line.replace(r"\|", "") for line in capsys.readouterr().out.splitlines() if line.startswith("| a")]
    assert [line.count("|") for line in rows] == [10, 10, 4]
