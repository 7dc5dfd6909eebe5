"""A run that is trained again: the earlier one stays whole until the new one is, whatever ends the new one."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab
from recorded import run_record
from test_comparison import failing, of_method, quick, store_of

from lorax_lab.errors import Diverged
from lorax_lab.record import forced
from lorax_lab.record.record import read_record, scan, status_of, write_record

__all__ = ["quick"]


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def once(quick: list[str], lab_here: Lab) -> list[str]:
    """Words of a run that is recorded."""
    overrides = [*quick, "rank=2", "reference=false", "checkpoint_seconds=0"]
    assert lab_here(*overrides).returncode == 0
    return overrides


def test_a_forced_run_that_is_killed_leaves_the_old_one_whole(once: list[str], lab_here: Lab) -> None:
    """The kill comes when the new weights are written, and before the new record is."""
    folder, before = of_method(once, "lora")
    files = hashes(folder)
    with killed_before_the_record(), pytest.raises(ZeroDivisionError):
        lab_here(*once, "force=true")
    assert hashes(folder) == files
    assert scan(store_of(once))[0] == {folder: before}
    work = forced.workplace(folder)
    assert (work / "adapter_model.safetensors").exists()
    assert list(work.glob("checkpoints/step-*"))
    assert lab_here(*once).returncode == 0
    again = lab_here(*once, "force=true")
    assert again.returncode == 0, again.stdout
    assert hashes(folder)["record.json"] != files["record.json"]
    assert hashes(folder)["adapter_model.safetensors"] == files["adapter_model.safetensors"]
    assert not list(forced.workplace(folder).parent.iterdir())


@contextmanager
def killed_before_the_record() -> Iterator[None]:
    """A process that ends when a run's new files are there and its record is not: it records nothing any more."""
    from lorax_lab.launch import attempts

    record_status = attempts.record_status

    def only_that_it_began(run: Any, status: str, *args: Any, **kwargs: Any) -> None:
        if status != "running":
            raise ZeroDivisionError
        record_status(run, status, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempts, "record_status", only_that_it_began)
        patch.setattr("lorax_lab.record.folder.files_of", lambda folder: 1 / 0)
        yield


@pytest.mark.parametrize(("error", "status"), [(Diverged("training loss nan"), "diverged"), (RuntimeError(), "failed")])
def test_a_forced_run_that_ends_badly_is_told_and_the_old_one_stays(
    once: list[str], error: BaseException, status: str, lab_here: Lab
) -> None:
    folder, _ = of_method(once, "lora")
    files = hashes(folder)
    with failing(lambda model: True, error):
        done = lab_here(*once, "force=true")
    assert done.returncode == 1
    shown = " ".join(done.stdout.split())
    assert f"seed=0 {status}" in shown
    assert f"the earlier run stays as it was in {folder}" in shown
    assert status in done.stdout.splitlines()[-3] + done.stdout.splitlines()[-2] + done.stdout.splitlines()[-1]
    assert hashes(folder) == files
    assert lab_here(*once).returncode == 0


def test_checkpoints_of_a_forced_run_are_its_own(once: list[str], lab_here: Lab) -> None:
    """A checkpoint that an unforced run had left in the run's folder is not used."""
    folder, _ = of_method(once, "lora")
    (folder / "checkpoints" / "step-000001").mkdir(parents=True)
    done = lab_here(*once, "force=true")
    assert done.returncode == 0
    assert "damaged" not in done.stdout
    assert not (folder / "checkpoints").exists()


def test_two_jobs_that_share_a_forced_reference_train_it_once(quick: list[str], lab_here: Lab) -> None:
    from lorax_lab.launch.files import overrides_of
    from lorax_lab.launch.plan import grid
    from lorax_lab.launch.sweep import Sweep

    assert lab_here(*quick, "rank=2,3", "-m").returncode == 0
    from lorax_lab.launch.arguments import read

    arguments = read([*quick, "rank=2,3", "force=true", "-m"])
    first, second = (Sweep(grid(overrides_of(arguments), True)) for _ in range(2))
    second.repeats = first.repeats  # as when a launcher carries the sweep into two processes
    first.job(0)
    _, trained = of_method(quick, "full")
    second.job(1)
    assert of_method(quick, "full")[1] == trained


def runs(tmp_path: Path) -> tuple[Path, Path]:
    """A completed run, and the one that is to replace it, each with a file that tells them apart."""
    folder = tmp_path / "tiny"
    new = forced.workplace(folder)
    for place, text in ((folder, "old"), (new, "new")):
        write_record(place, run_record("tiny"))
        (place / "weights").write_text(text)
    return folder, new


@pytest.mark.parametrize("in_one_step", [True, False])
def test_the_new_run_takes_the_place_of_the_old(
    tmp_path: Path, in_one_step: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, new = runs(tmp_path)
    if not in_one_step:
        monkeypatch.setattr(forced, "_exchanged", lambda *_: False)
    forced.put_in_place(folder)
    assert (folder / "weights").read_text() == "new"
    assert not list(new.parent.iterdir())


@pytest.mark.parametrize("in_one_step", [True, False])
@pytest.mark.parametrize("number", range(1, 8))
def test_a_kill_at_any_step_of_it_leaves_a_whole_run(
    tmp_path: Path, in_one_step: bool, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = runs(tmp_path)
    seen = 0

    class Killed(BaseException):
        pass

    def counted(inner: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == number:
                raise Killed
            return inner(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        exchange = forced._exchanged if in_one_step else lambda *_: False
        patch.setattr(forced, "_exchanged", counted(exchange))
        for place, name in ((os, "replace"), (os, "fsync"), (shutil, "rmtree")):
            patch.setattr(place, name, counted(getattr(place, name)))
        with suppress(Killed):
            forced.put_in_place(folder)
        if in_one_step:
            assert status_of(folder) == "completed"
    forced.mend(folder)
    assert read_record(folder).status == "completed"
    assert (folder / "weights").read_text() in ("old", "new")
    assert not forced.workplace(folder).exists() or (forced.workplace(folder) / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == [".forced", "tiny"] or folder.exists()
    assert list(scan(tmp_path)[0]) == [folder]


def test_a_disk_that_is_full_between_the_two_steps_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, new = runs(tmp_path)
    replace = os.replace
    monkeypatch.setattr(forced, "_exchanged", lambda *_: False)

    def full(source: Path, target: Path) -> None:
        if source == new:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        forced.put_in_place(folder)
    assert (folder / "weights").read_text() == "old"
