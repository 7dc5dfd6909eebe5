"""One bad file never takes the rest down: it is named and left out, and no number changes."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lorax_lab.study.equivalence import checked_proofs, equivalence_path, write_proofs
from synthetic import shared, study
from test_analysis import Store

from analysis.__main__ import main as analyse
from analysis.study.command import main as analyse_study
from analysis.study.records import RECORDS, load
from lorax_lab.record import load_matrices, load_runs, load_truncation, record
from lorax_lab.record.sums import ENDING, read_checked, seal, sums_path, write_summed
from lorax_lab.study.declaration import read_declaration, write_declaration
from lorax_lab.study.published import read_lines, shared_table, write_lines, write_shared

MUTATIONS = 500
FLIPS = 200
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
    """A small study with all its files, and a second one."""
    made, folder = study(), tmp_path / "records"
    for name in ("rank_sweep", "other"):
        write_lines(folder / f"{name}.jsonl", made.lines)
        write_declaration(folder / f"{name}.json", made.declared)
        write_shared(folder / f"{name}_shared.csv", shared(("reviews",)).to_dict("records"))
        proof = {"recorded_code": "a", "present_code": "b", "run_id": "r", "numbers": 9, "present_dirty": False}
        write_proofs(folder / f"{name}.jsonl", [proof | {"moved": []}])
    return folder


def outcome(folder: Path) -> dict[str, Any]:
    """What is read of the study `rank_sweep`, and every damage that is named."""
    lines = folder / "rank_sweep.jsonl"
    read, damages = read_lines(lines)
    table, of_table = shared_table(lines.with_name("rank_sweep_shared.csv"))
    proofs, of_proofs = checked_proofs(lines)
    found: dict[str, Any] = {"rank_sweep.jsonl": read, "rank_sweep_equivalence.json": proofs}
    found["rank_sweep_shared.csv"] = [] if table is None else table.to_dict("records")
    found["damages"] = damages + of_table + of_proofs
    try:
        found["rank_sweep.json"] = [read_declaration(lines.with_suffix(".json"))]
    except ValueError as error:
        found["rank_sweep.json"] = []
        found["damages"] += [str(error)]
    return found


def test_any_flip_in_a_published_file_is_named_and_the_rest_is_read(published: Path) -> None:
    draw, intact = random.Random(15), outcome(published)
    files = sorted(path for path in published.iterdir() if path.name.startswith("rank_sweep"))
    assert len(files) == 8
    assert intact["damages"] == []
    for _ in range(FLIPS):
        path = draw.choice(files)
        data = path.read_bytes()
        place = draw.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :])
        after = outcome(published)
        path.write_bytes(data)
        assert len(after["damages"]) in (1, 2), (path, place)
        assert all(damage.startswith(path.name) for damage in after["damages"]), (path, place)
        for name in intact.keys() - {"damages"}:
            lost = [row for row in intact[name] if row not in after[name]]
            assert all(row in intact[name] for row in after[name]), (path, place)
            mine = name == path.name.removesuffix(ENDING)
            at_most = 0 if not mine else len(intact[name]) if name.endswith(("json", "csv")) and place < 200 else 2
            assert len(lost) <= (at_most or mine * 2), (path, place)


@pytest.mark.parametrize("harm", ["a line less", "two swapped", "twice", "no end", "the last gone", "gone", "a pipe"])
def test_a_file_whose_every_line_is_intact_is_still_checked(published: Path, harm: str) -> None:
    path = published / "rank_sweep.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    content = {
        "a line less": lines[1:], "two swapped": [lines[1], lines[0], *lines[2:]], "twice": [lines[0], *lines],
        "no end": [*lines[:-1], lines[-1][:-1]], "the last gone": lines[:-1],
    }.get(harm)  # fmt: skip
    path.unlink()
    if content is not None:
        path.write_bytes(b"".join(content))
    elif harm == "a pipe":
        os.mkfifo(path)
    _, damages = read_lines(path)
    assert len(damages) == 1
    assert damages[0].startswith(path.name)
    if harm == "a line less":
        assert damages[0].endswith(": 1 of its lines is missing")


def judged(folder: Path, *words: str) -> int:
    where = ["--records", str(folder), "--out", str(folder / "out"), "--verdict", str(folder / "V.md")]
    return analyse_study(["verdict", *where, *words])


@pytest.mark.parametrize(
    "name",
    ["rank_sweep.json", *(pytest.param(f"rank_sweep{x}", marks=pytest.mark.slow) for x in (".jsonl", "_shared.csv"))],
)
def test_a_damaged_study_gets_no_verdict_and_the_others_keep_theirs(
    name: str, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(published) == 0
    whole = (published / "out" / "other" / "VERDICT.md").read_bytes()
    path = published / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x80
    path.write_bytes(data)
    assert judged(published) == 1
    assert (published / "out" / "other" / "VERDICT.md").read_bytes() == whole
    for page in (published / "V.md", published / "out" / "rank_sweep" / "VERDICT.md"):
        assert "**None: " in page.read_text()
        assert name in page.read_text() + capsys.readouterr().out
    assert name in (published / "out" / "rank_sweep" / "VERDICT.md").read_text()


def test_a_study_without_checksums_is_read_and_that_is_said(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sums_path(published / "rank_sweep.json").unlink()
    assert judged(published) == 0
    assert "not checked for damage: rank_sweep.json;" in capsys.readouterr().out
    seal(published / "rank_sweep.json")
    assert load(published / "rank_sweep.jsonl").unchecked == ()


def test_a_crash_between_a_file_and_its_sums_leaves_both_readable(tmp_path: Path) -> None:
    """The process ends before any one of the three files of a write is renamed."""
    path = tmp_path / "made.csv"
    for last in range(4):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        write_summed(path, "a\nb\n")
        with pytest.MonkeyPatch.context() as patch:
            written: list[Path] = []

            def stop(source: Path, text: str, last: int = last, written: list[Path] = written) -> None:
                if len(written) == last:
                    raise KeyboardInterrupt
                written.append(source)
                source.write_text(text)

            patch.setattr("lorax_lab.record.sums.write_redacted", stop)
            if last < 3:
                with pytest.raises(KeyboardInterrupt):
                    write_summed(path, "a\nc\n")
            else:
                write_summed(path, "a\nc\n")
        checked = read_checked(path)
        assert (checked.text, checked.damages) == ("a\nb\n" if last < 2 else "a\nc\n", [])


def test_every_published_file_is_sealed() -> None:
    files = [path for path in sorted(RECORDS.iterdir()) if not path.name.endswith(ENDING)]
    assert {path.with_suffix(".json") for path in RECORDS.glob("*.jsonl")} <= set(files)
    assert RECORDS / "rank_sweep_2.jsonl" in files
    for path in files:
        checked = read_checked(path)
        assert (checked.is_sealed, checked.damages) == (True, [])
        assert checked.text == path.read_text(encoding="utf-8")


def test_sums_that_were_made_up_are_damaged(published: Path) -> None:
    path = published / "rank_sweep.json"
    for content in ("", "[]\n", "{}\n", json.dumps({"whole": 1, "lines": 2, "sha256": 3}) + "\n", "[" * 9000):
        sums_path(path).write_text(content)
        assert read_checked(path).damages[0].startswith("rank_sweep.json.sums")
    assert equivalence_path(published / "rank_sweep.jsonl").is_file()
