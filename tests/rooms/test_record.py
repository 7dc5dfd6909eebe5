"""Records: written whole, typed when read, damaged ones named and set aside; the files of a run; reading as tables."""

import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matrices import structured_nulls
from recorded import matrix, run_record

from lorax_lab.config.defaults import flat
from lorax_lab.record import load_matrices, load_runs, load_spectra, measures, provenance, record
from lorax_lab.record.files import save_tensors, sha256_of, write_text
from lorax_lab.record.folder import SPECTRA, check_file, files_of, save_arrays, save_config, save_history
from lorax_lab.record.provenance import FILES, HOME, ROOMS, code_sha256
from lorax_lab.record.result import Captured, Git, Rounding
from lorax_lab.spectra import MEASURES, NULLS, structured_spectra

SIGMA = {"m": {"sigma": np.array([2.0, 1.0])}}
TRUNCATION = [{"part": "cut", "k": 0, "module": None, "accuracy": 0.5}]


def content(run_id: str = "run", **changes: Any) -> record.Record:
    return run_record(run_id, **{"matrices": {"m": matrix(rank=2)}, "truncation": TRUNCATION} | changes)


def written(folder: Path, **changes: Any) -> record.Record:
    """A completed run with its spectra, as `execute` leaves it."""
    save_arrays(folder / SPECTRA, SIGMA)
    made = content(folder.name, **{"files": files_of(folder)} | changes)
    record.write_record(folder, made)
    return made


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-40], lambda _: b"[]", lambda _: b"", lambda _: bytes(range(256))]
)
def test_damage_is_named_left_out_and_warned_about(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    for name in ("good", "bad"):
        written(tmp_path / name)
    path = tmp_path / "bad" / "record.json"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(record.DamagedRecord, match=r"record\.json"):
        record.read_record(path.parent)
    assert record.status_of(path.parent) == "damaged"
    with pytest.warns(UserWarning, match="bad") as warned:
        frame = load_runs(tmp_path)
    assert list(frame["run_id"]) == ["good"]
    assert warned[0].filename == __file__  # it points at who reads


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda r: r.update(schema=99), "schema"), (lambda r: r["result"].pop("metrics"), "metrics"),
        (lambda r: r.update(status="done"), "status"), (lambda r: r.update(status="failed"), "failed"),
        (lambda r: r.update(result=None), "completed"), (lambda r: r.update(colour="red"), "colour"),
        (lambda r: r["result"]["parameters"].update(head="2"), "parameters.head"),
        (lambda r: r["result"]["matrices"]["m"].update(rank=2.5), "rank"),
        (lambda r: r.update(rank=10**30), "rank"), (lambda r: r.update(seed=-1), "seed"),
        (lambda r: r["result"]["time"].update(train_seconds=-1.0), "train_seconds"),
        (lambda r: r["result"]["metrics"].update({"test/accuracy": 7.0}), "test/accuracy is 7"),
        (lambda r: r["result"].update(baselines={"head/log_loss": -0.1}), "head/log_loss is -0.1"),
        (lambda r: r["result"]["truncation"][0].update(accuracy=1.1), "accuracy is 1.1"),
        (lambda r: r["result"]["memory"].update(peak_bytes=0), "peak_bytes"),
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused_with_its_place(change: Callable[[Any], Any], key: str, tmp_path: Path) -> None:
    record.write_record(tmp_path, content())
    read = json.loads((tmp_path / "record.json").read_text())
    change(read)
    (tmp_path / "record.json").write_text(json.dumps(read))
    with pytest.raises(record.DamagedRecord, match=key):
        record.read_record(tmp_path)


def test_what_cannot_be_decoded_is_written_so_that_it_is_read(tmp_path: Path) -> None:
    name = os.fsdecode(b"a\xff.csv")
    config = {"task": {"name": "local", "path": name}}
    record.write_record(tmp_path, content(status="failed", reason=name, error=name, config=config))
    read = record.read_record(tmp_path)
    assert read.reason == read.error == read.config["task"]["path"] == r"a\udcff.csv"
    save_config(tmp_path, config)


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record.write_record(tmp_path, content(seed=1))
    with pytest.raises(ValueError, match="base_norm"):  # it would be refused where it is read
        record.write_record(tmp_path, content(matrices={"m": matrix(base_norm=float("inf"))}))

    def broken(*_: object) -> None:
        raise OSError("disk full")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, broken)
            with pytest.raises(OSError, match="disk full"):
                record.write_record(tmp_path, content(seed=2))
    assert record.read_record(tmp_path).seed == 1
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replace"), replace(*paths)))
    write_text(tmp_path / "folder" / "file", "text")
    assert done == ["file", "replace", "folder"]


def test_a_file_that_is_not_what_the_record_says_is_named(tmp_path: Path) -> None:
    save_history(tmp_path / "run", [{"step": 1, "train/loss": float("inf")}])
    written(tmp_path / "run")
    folder = tmp_path / "run"
    assert set(record.read_record(folder).completed.files) == {"spectra.npz", "metrics.jsonl"}
    check_file(folder, "metrics.jsonl")
    write_text(folder / "metrics.jsonl", '{"step": 2}\n')
    with pytest.raises(record.DamagedRecord, match=r"metrics\.jsonl"):
        check_file(folder, "metrics.jsonl")
    save_arrays(folder / SPECTRA, {"m": {"sigma": np.zeros(2)}})
    with pytest.raises(record.DamagedRecord, match=r"spectra\.npz"):
        load_spectra(folder)
    with pytest.warns(UserWarning, match=r"spectra\.npz"):
        assert load_matrices(tmp_path).empty  # never averaged
    (folder / SPECTRA).unlink()
    with pytest.raises(FileNotFoundError):
        check_file(folder, SPECTRA)


def test_the_same_tensors_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    header = {"lineage": '{"base": "ü\\u001b\\n"}', "note": "\x7f\b/", "one more": "x"}
    paths = [tmp_path / f"{n}.safetensors" for n in range(8)]
    for path in paths:
        save_tensors(path, {"b": torch.ones(3), "a": torch.zeros(2, 2)}, header)
    assert len(set(map(sha256_of, paths))) == 1
    assert torch.equal(load_file(paths[0])["b"], torch.ones(3))


def test_a_measure_that_is_added_has_a_column_for_every_run_of_yesterday(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "run", matrices={"m": matrix(rank=2, shape=(7, 5))})  # a shape whose null nobody asked for yet
    monkeypatch.setitem(MEASURES, "largest", lambda sigma: float(sigma.max()))
    assert load_matrices(tmp_path)["largest"].tolist() == [2.0]
    assert load_runs(tmp_path)["summary.largest"].tolist() == [2.0]
    assert "null.largest" in load_matrices(tmp_path)


def test_measures_are_derived_from_what_is_recorded(tmp_path: Path) -> None:
    update = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma, noise = torch.linalg.svdvals(update).numpy(), torch.linalg.svdvals(torch.rand(6, 4).double()).numpy()
    drawn = structured_spectra(update, torch.Generator().manual_seed(1))
    arrays = {"sigma": sigma, measures.STAND_IN: noise, **{name: draws[0].numpy() for name, draws in drawn.items()}}
    floor = Rounding(eps=2.0**-23, edge=0.5 * float(sigma[1] + sigma[2]), energy=1e-9)
    shares = Captured(column_share=None, row_share=0.5, best=None)
    matrices = {"dense": matrix(rounding=floor, stand_in=floor), "low": matrix("value", rank=2, captured=shares)}
    save_arrays(tmp_path / SPECTRA, {"dense": arrays, "low": {"sigma": sigma[:2]}})
    record.write_record(tmp_path, content(matrices=matrices))
    rows, stand_ins = measures.rows(tmp_path), measures.stand_in_rows(tmp_path)
    dense, low = flat(rows["dense"]), flat(rows["low"])
    assert dense["above_rounding"] == 2
    assert rows["dense"]["nulls"] == structured_nulls(update, torch.Generator().manual_seed(1))
    assert {f"nulls.{name}.above" for name in NULLS} <= set(dense)
    assert stand_ins["dense"]["frobenius_norm"] == pytest.approx(np.linalg.norm(noise))
    assert "low" not in stand_ins
    assert "spikes" not in low
    assert (low["captured.column_share"], low["captured.random_column_share"]) == (None, 2 / 6)
    assert low["undefined"] == measures.NO_REFERENCE
    means = measures.means(tmp_path)
    assert (means["effective_rank"], means["null.effective_rank"]) == measures.effective_ranks(tmp_path)
    assert means["stable_rank"] == pytest.approx((dense["stable_rank"] + low["stable_rank"]) / 2)
    assert means["by_module"]["value"]["captured.row_share"] == 0.5
    assert means["by_module"]["value"]["captured.best"] is None
    assert "layer" not in means
    assert "spikes" not in means  # only one of the two has them
    record.write_record(tmp_path, content(matrices=matrices, method="peft/loha"))
    assert measures.effective_ranks(tmp_path) == (means["effective_rank"], None)


def run_git(home: Path, *words: str) -> str:
    named = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(home), *named, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_marks_of_windows_are_no_results(tmp_path: Path) -> None:
    for name in ("wandb.json", "trackio.json", "adapter.json"):
        (tmp_path / name).write_text("{}")
    assert list(files_of(tmp_path)) == ["adapter.json"]


def test_the_commit_and_whether_tracked_files_of_the_package_differ_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "lorax_lab"
    checkout.mkdir()
    (checkout / "__init__.py").write_text("")
    monkeypatch.setattr(provenance, "HOME", checkout)
    assert provenance.git() == Git(None, None)  # in no checkout
    run_git(checkout, "init", "-q")
    assert provenance.git() == Git(None, None)  # the package is not in it
    run_git(checkout, "add", ".")
    run_git(checkout, "commit", "-q", "-m", "one")
    commit = run_git(checkout, "rev-parse", "HEAD")
    assert provenance.git() == Git(commit, False)
    (checkout / "notes.txt").write_text("not tracked")
    (checkout.parent / "beside.txt").write_text("")
    assert provenance.git() == Git(commit, False)
    (checkout / "__init__.py").write_text("changed = 1")
    assert provenance.git() == Git(commit, True)


def test_the_code_is_one_hash_of_the_rooms_that_decide_numbers(tmp_path: Path) -> None:
    assert all((HOME / name).exists() for name in (*ROOMS, *FILES))
    installed = provenance.versions(())["torch"]  # without "+cu130" in the wheel for CUDA
    assert torch.__version__.startswith(installed)

    def version(name: str, *texts: str) -> str:
        for number, text in enumerate(texts):
            for place in (f"spectra/file{number}.py", "train.py", "record/record.py"):
                path = tmp_path / name / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text if place.startswith("spectra") else "")
        return code_sha256(tmp_path / name)

    first = version("a", "x = 1\n", "y = 2\n")
    assert version("b", "x = 1\n", "y = 2\n") == first
    (tmp_path / "b" / "record" / "record.py").write_text("z = 1\n")  # it decides no number
    code_sha256.cache_clear()
    assert code_sha256(tmp_path / "b") == first
    others = [version("c", "x = 1\n", "y = 3\n"), version("d", "x = 1\ny = 2\n"), version("e", "y = 2\n", "x = 1\n")]
    assert len({first, *others}) == 4


def test_machines_are_compared_by_what_all_of_them_state() -> None:
    old, new = {"threads": 1, "device": "cpu"}, {"threads": 1, "device": "cpu", "blas": "mkl"}
    assert provenance.same_hardware([old, new, new]) == [["cpu", "torch", 1, 1]] * 3
    assert provenance.same_hardware([new, new | {"blas": "openblas"}]) == [
        ["mkl", "cpu", "torch", 1, 1], ["openblas", "cpu", "torch", 1, 1],
    ]  # fmt: skip
    assert provenance.same_hardware([]) == []
    machines = provenance.same_hardware([old, old | {"kernel": "torch"}, old | {"kernel": "onednn"}])
    assert machines[0] == machines[1] != machines[2]  # torch's kernel was once the only one
    alone, several = provenance.same_hardware([old, old | {"processes": 2}])
    assert alone != several
