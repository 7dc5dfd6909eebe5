"""One bad file never takes the rest down: it is named and left out, and no number changes."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic import publish, shared, study
from test_analysis import Store

from analysis.__main__ import main as analyse
from analysis.study.command import main as analyse_study
from analysis.study.records import RECORDS, names_in
from lorax_lab.record import load_matrices, load_runs, load_truncation, record
from lorax_lab.study.rows import SHARED
from lorax_lab.study.tables import SUMS, altered, write_sums, write_table

MUTATIONS = 500
FLIPS = 50
HOSTILE = ("1e999", "NaN", "-Infinity", "9" * 5000, "1" + "0" * 400, "[" * 3000, '"\\ud800"', "true", "null", "{}", "")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A full fine-tune and two seeds of LoRA."""
    made = Store(tmp_path / "runs", size=8, layers=1)
    made.run(test=0.9)
    for seed in (0, 1):
        made.run(rank=4, seed=seed, test=0.8 + seed / 100)
    return made


def changed(data: bytes, draw: random.Random) -> bytes:
    """A record's bytes with one thing changed."""
    place = draw.randrange(len(data))
    kind = draw.randrange(6)
    if kind == 0:
        return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]
    if kind == 1:
        return data[:place]
    if kind == 2:
        return data[:place] + draw.randbytes(draw.randint(1, 9)) + data[place:]
    if kind == 3:
        return data[:place] + data[place + draw.randint(1, 40) :]
    numbers = [i for i, byte in enumerate(data) if data[i - 1 : i] == b" " and chr(byte).isdigit()]
    start = draw.choice(numbers)
    end = next(i for i in range(start, len(data)) if chr(data[i]) not in "0123456789.e-+")
    return data[:start] + draw.choice(HOSTILE).encode() + data[end:]


PLACED: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a link to nothing": lambda path: path.symlink_to(path.with_name("nothing")),
    "a link to itself": lambda path: path.symlink_to(path),
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a list": lambda path: path.write_text("[]\n"),
    "nothing": Path.touch,
}


def test_records_of_every_damage_are_named_and_no_number_changes(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw, whole = random.Random(15), sorted(store.folder.glob("*/record.json"))
    before = load_runs(store.folder)
    assert analyse(["effective_rank", "--runs", str(store.folder), "--out", str(tmp_path / "before")]) in (0, 1)
    spoilt = []
    for number in range(MUTATIONS):
        source = draw.choice(whole)
        folder = store.folder / f"{source.parent.name}-{number}"
        folder.mkdir()
        data = source.read_bytes()
        while (mutant := changed(data, draw)) == data:
            pass
        (folder / "record.json").write_bytes(mutant)
        spoilt.append(folder)
    for name, put in PLACED.items():
        folder = store.folder / name.replace(" ", "-")
        folder.mkdir()
        put(folder / "record.json")
        spoilt.append(folder)
    with pytest.warns(UserWarning, match="left out"):
        frame = load_runs(store.folder)
    assert {folder for folder, _ in frame.attrs["damaged"]} == {str(folder) for folder in spoilt}
    assert frame.to_csv() == before.to_csv()
    capsys.readouterr()
    assert analyse(["effective_rank", "--runs", str(store.folder), "--out", str(tmp_path / "after")]) in (0, 1)
    out = capsys.readouterr().out
    assert all(f"{folder.name} is damaged" in out for folder in spoilt)
    drawn = sorted((tmp_path / "before").glob("*.csv"))
    assert drawn
    assert all(path.read_bytes() == (tmp_path / "after" / path.name).read_bytes() for path in drawn)


def test_every_table_names_what_it_leaves_out(store: Store) -> None:
    whole = load_matrices(store.folder).to_csv(), load_truncation(store.folder).to_csv()
    (store.folder / "bad").mkdir()
    (store.folder / "bad" / "record.json").write_text("{")
    with pytest.warns(UserWarning, match="left out: .*bad"):
        matrices = load_matrices(store.folder)
    with pytest.warns(UserWarning, match="left out: .*bad"):
        assert (matrices.to_csv(), load_truncation(store.folder).to_csv()) == whole


@pytest.mark.parametrize("name", PLACED)
def test_what_stands_in_a_records_place_is_damaged(name: str, tmp_path: Path) -> None:
    PLACED[name](tmp_path / "record.json")
    with pytest.raises(record.DamagedRecord, match=r"record\.json"):
        record.read_record(tmp_path)
    assert record.status_of(tmp_path) == "damaged"


def test_a_record_that_may_not_be_read_is_damaged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for any user but root after `chmod 000`."""
    folder = min(store.folder.iterdir())
    real = os.open

    def refuse(path: Any, *rest: Any, **more: Any) -> int:
        if Path(path) == folder / "record.json":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    records, damages = record.scan(store.folder)
    assert len(records) == 2
    assert [(damage.folder, "Permission denied" in damage.reason) for damage in damages] == [(folder, True)]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Two small studies."""
    made, folder = study(), tmp_path / "records"
    for name in ("rank_sweep", "other"):
        publish(folder / name, made.lines, made.declared)
        write_table(folder / name / SHARED, shared(("reviews",)).to_dict("records"))
    write_sums(folder)
    return folder


def judged(folder: Path, *words: str) -> int:
    where = ["--records", str(folder), "--out", str(folder / "out"), "--verdict", str(folder / "V.md")]
    return analyse_study(["verdict", *where, *words])


@pytest.mark.parametrize("name", ["declaration.json", "runs.parquet", SHARED])
def test_a_damaged_study_gets_no_verdict_and_the_others_keep_theirs(
    name: str, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(published) == 0
    whole = (published / "out" / "other" / "VERDICT.md").read_bytes()
    path = published / "rank_sweep" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x80
    path.write_bytes(data)
    assert judged(published) == 1
    assert (published / "out" / "other" / "VERDICT.md").read_bytes() == whole
    assert name in (published / "out" / "rank_sweep" / "VERDICT.md").read_text() + capsys.readouterr().out


def test_any_flip_in_a_published_file_is_named(published: Path) -> None:
    draw = random.Random(15)
    files = sorted((published / "rank_sweep").iterdir())
    for _ in range(FLIPS):
        path = draw.choice(files)
        data = path.read_bytes()
        place = draw.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :])
        assert altered(published, "rank_sweep")[0].startswith(f"rank_sweep/{path.name}"), (path, place)
        path.write_bytes(data)


def test_every_published_file_is_sealed() -> None:
    written = (RECORDS / SUMS).read_text(encoding="utf-8")
    for name in names_in(RECORDS):
        assert altered(RECORDS, name) == []
        assert all(f"  {name}/{path.name}\n" in written for path in (RECORDS / name).iterdir())
