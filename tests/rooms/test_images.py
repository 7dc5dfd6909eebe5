"""Images: what of a file the model sees, digits and folders as tasks, and one clear message for each fault."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import Lab, published, tiny_model
from PIL import Image
from published import ALL, everything, settings
from test_tasks_laws import save_base

from lorax_lab.data import data_sha256
from lorax_lab.data import digits as digits_source
from lorax_lab.data.media import read_image
from lorax_lab.errors import ConfigError
from lorax_lab.models import load_base
from lorax_lab.tasks import load_task
from lorax_lab.tasks.split import Split

GREY = [[0, 60], [120, 255]]
Folder = Callable[..., Path]


@pytest.fixture(scope="module")
def vit(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT with random weights and its image processor."""
    return save_base("image_classification", model_folder, tmp_path_factory.mktemp("base") / "tiny-vit")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder of images, no two alike: `folder("cat", "dog")`, each class with so many."""

    def make(*classes: str, count: int = 15, under: str = "photos") -> Path:
        for c, name in enumerate(classes):
            place = tmp_path / under / name
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                Image.new("RGB", (8, 8), (16 * i, 80 * c, len(under))).save(place / f"{i}.png")
        return tmp_path / under

    return make


# ---- what of a file the model sees


def written(image: Image.Image, tmp_path: Path, ending: str = "png") -> np.ndarray:
    image.save(tmp_path / f"image.{ending}")
    return read_image(tmp_path / f"image.{ending}")


def test_grey_becomes_three_equal_colours(tmp_path: Path) -> None:
    array = written(Image.fromarray(np.array(GREY, np.uint8)), tmp_path)
    assert array.dtype == np.uint8
    assert array.shape == (2, 2, 3)
    assert all(array[..., colour].tolist() == GREY for colour in range(3))


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    array = written(Image.fromarray(pixels, "RGBA"), tmp_path)
    assert array.tolist() == [[[200, 0, 0], [255, 255, 255], [204, 204, 204]]]


def test_a_palette_with_a_transparent_colour_lies_on_white_too(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.info["transparency"] = 1
    assert written(image, tmp_path, "gif").tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    array = written(Image.fromarray(np.array([[0, 257 * 60 + 100], [257 * 120 + 255, 65535]], np.uint16)), tmp_path)
    assert array[..., 0].tolist() == GREY


def test_a_photo_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 3))
    exif = image.getexif()
    exif[0x0112] = 6  # turned a quarter
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (2, 3, 3)
    assert read_image((tmp_path / "turned.jpg").read_bytes()).shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "no image"), (b"GIF89a", "damaged|truncated"), (None, "there is no such file")]
)
def test_what_is_no_image(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "image.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_image(path)


def test_pixels_that_have_no_colour_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "depth.tiff")
    with pytest.raises(ValueError, match="numbers of 32 bits"):
        read_image(tmp_path / "depth.tiff")


def test_the_model_sees_the_pixels_that_the_processor_makes_of_a_batch(vit: Path, folder: Folder) -> None:
    task = load_task(settings("image_folder", f"task.path={folder('cat', 'dog')}"))
    base = load_base(str(vit), task.head, 0, task.kind.model_class, task.kind.processor_class)
    split = Split.of(task, task.train, base.processor)
    inputs = split.batch([0, 1]).inputs
    assert inputs["pixel_values"].shape == (2, 3, 8, 8)
    colours = np.array([task.train[i].inputs["image"][0, 0] for i in (0, 1)])
    expected = torch.tensor(colours / 255 * 2 - 1, dtype=torch.float32)
    torch.testing.assert_close(inputs["pixel_values"][:, :, 3, 5], expected)
    assert inputs["labels"].tolist() == [task.train[i].label for i in (0, 1)]


# ---- digits


def test_digits_are_those_of_scikit_learn() -> None:
    task = load_task(settings("digits", **ALL))
    examples = everything(task)
    assert len(examples) == 1797
    assert task.classes == tuple("0123456789")
    counts = np.bincount([int(e.label) for e in examples])
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert max(counts) / 1797 == pytest.approx(0.102, abs=6e-4)
    assert all(e.inputs["image"].shape == (8, 8, 3) for e in examples)
    assert {int(e.inputs["image"].max()) for e in examples} <= set(range(0, 256))
    assert max(int(e.inputs["image"].max()) for e in examples) == 255


def test_two_halves_of_the_digits_share_no_image_and_no_class() -> None:
    low, high = (load_task(settings(f"digits_{half}", **ALL)) for half in ("low", "high"))
    assert (low.classes, high.classes) == (tuple("01234"), tuple("56789"))
    assert len(everything(low)) + len(everything(high)) == 1797
    seen = {e.inputs["image"].tobytes() for e in everything(low)}
    assert not seen & {e.inputs["image"].tobytes() for e in everything(high)}
    assert {e.label for e in everything(high)} == set(range(5))


@pytest.mark.parametrize("subset", ["5", "9-5", "a-b", "0-10", "3-3"])
def test_a_subset_that_is_none(subset: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"task\.subset={subset} is not possible.* type task=digits task\.subset=5-9"
    ):
        load_task(settings("digits", f"task.subset='{subset}'"))


def test_other_digits_than_the_pinned_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = digits_source._content()
    images = images.copy()
    images[7, 3, 3] ^= 1
    monkeypatch.setattr(digits_source, "_content", lambda: (images, labels))
    with pytest.raises(ConfigError, match="other digits"):
        load_task(settings("digits"))


# ---- folders and tables


def test_sub_folders_are_the_classes(folder: Folder) -> None:
    task = load_task(settings("image_folder", f"task.path={folder('10', '9')}"))
    assert task.classes == ("9", "10")
    assert [len(rows) for rows in task.splits.values()] == [24, 3, 3]
    assert all(task.classes[int(e.label)] == ("10", "9")[e.inputs["image"][0, 0, 1] // 80] for e in everything(task))


def test_a_folder_with_splits_of_its_own_keeps_them(folder: Folder, tmp_path: Path) -> None:
    for role in ("train", "val", "test"):
        folder("cat", "dog", under=f"set/{role}", count=12 if role == "train" else 5)
    task = load_task(settings("image_folder", f"task.path={tmp_path / 'set'}"))
    assert [len(rows) for rows in task.splits.values()] == [24, 10, 10]
    assert task.classes == ("cat", "dog")


def test_a_class_may_have_the_name_of_a_split(folder: Folder) -> None:
    task = load_task(settings("image_folder", f"task.path={folder('bus', 'test', 'train')}"))
    assert task.classes == ("bus", "test", "train")


def test_splits_without_one_for_training_are_no_classes(folder: Folder, tmp_path: Path) -> None:
    for role in ("training", "test"):
        folder("cat", "dog", under=f"set/{role}")
    with pytest.raises(ConfigError, match=r"set has classes inside test, and no folder train.*call that"):
        load_task(settings("image_folder", f"task.path={tmp_path / 'set'}"))


def test_another_content_is_another_task_and_another_name_is_not(folder: Folder) -> None:
    place = folder("cat", "dog")
    config = settings("image_folder", f"task.path={place}")
    before = data_sha256(config)
    (place / "cat" / "0.png").rename(place / "cat" / "00.png")
    assert data_sha256(config) == before
    Image.new("RGB", (8, 8), (1, 2, 3)).save(place / "cat" / "00.png")
    assert data_sha256(config) != before


def table_of(place: Path) -> Path:
    files = sorted(place.rglob("*.png"))
    with (place / "labels.csv").open("w", newline="") as file:
        names = [(path.relative_to(place), path.parent.name) for path in files]
        csv.writer(file).writerows([("file", "animal"), *names])
    return place / "labels.csv"


def table_words(path: Path) -> list[str]:
    return [f"task.path={path}", "task.kind=image_classification", "task.image=file", "task.label=animal"]


def test_a_table_of_paths_is_the_same_task(folder: Folder) -> None:
    place = folder("cat", "dog")
    config = settings("local", *table_words(table_of(place)))
    task, other = load_task(config), load_task(settings("image_folder", f"task.path={place}"))
    of = lambda t: {(e.inputs["image"].tobytes(), t.classes[int(e.label)]) for e in everything(t)}  # noqa: E731
    assert of(task) == of(other)
    before = data_sha256(config)
    Image.new("RGB", (8, 8), (1, 2, 3)).save(place / "dog" / "0.png")
    assert data_sha256(config) != before


def test_a_data_set_with_images_is_the_same_task(folder: Folder, tmp_path: Path) -> None:
    import datasets

    place = folder("cat", "dog")
    paths = [str(path) for path in sorted(place.rglob("*.png"))]
    rows = {"picture": paths, "animal": [int("dog" in Path(path).parts[-2]) for path in paths]}
    features = datasets.Features(picture=datasets.Image(), animal=datasets.ClassLabel(names=["cat", "dog"]))
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "set"))
    words = [f"task.path={tmp_path / 'set'}", "task.kind=image_classification", "task.image=picture"]
    config = settings("hub", *words, "task.label=animal")
    task, other = load_task(config), load_task(settings("image_folder", f"task.path={place}"))
    of = lambda t: {(e.inputs["image"].tobytes(), t.classes[int(e.label)]) for e in everything(t)}  # noqa: E731
    assert of(task) == of(other)
    assert data_sha256(config) == data_sha256(config)


def test_paths_in_a_folder_of_tables_start_there_and_their_files_count(folder: Folder) -> None:
    place = folder("cat", "dog")
    table_of(place).rename(place / "train.csv")
    config = settings("hub", *table_words(place), "task.split_seed=0")
    assert len(everything(load_task(config))) == 30
    before = data_sha256(config)
    Image.new("RGB", (8, 8), (1, 2, 3)).save(place / "dog" / "0.png")
    assert data_sha256(config) != before


# ---- faults, before anything trains


def broken(place: Path) -> Path:
    (place / "dog" / "3.png").write_bytes(b"not an image")
    return place


def without_pixels(place: Path) -> Path:
    (place / "dog" / "3.png").write_bytes(b"GIF89a" + bytes(7) + b",\0\0\0\0\0\0\0\0\0\2\2L\1\0;")
    return place


def cut_short(place: Path) -> Path:
    content = (place / "dog" / "3.png").read_bytes()
    (place / "dog" / "3.png").write_bytes(content[:50])
    return place


def with_splits(folder: Folder, *others: str) -> Path:
    """A folder with `train` and classes inside it, and others beside it."""
    for name in ("train", *others):
        folder("cat", "dog", under=f"set/{name}")
    return folder("cat", "dog", under="set/train").parent


def flat_test(folder: Folder) -> Path:
    place = with_splits(folder)
    (place / "test").mkdir()
    Image.new("RGB", (8, 8)).save(place / "test" / "a.png")
    return place


def loose(place: Path) -> Path:
    Image.new("RGB", (8, 8)).save(place / "a.png")
    return place


FAULTS: dict[str, tuple[Callable[[Folder], list[str]], str]] = {
    "an image that cannot be read": (
        lambda folder: ["task=image_folder", f"task.path={broken(folder('cat', 'dog'))}"],
        "dog/3.png cannot be read: it is no image",
    ),
    "one in a table": (
        lambda folder: ["task=local", *table_words(table_of(broken(folder("cat", "dog"))))],
        "labels.csv, row 24: ",
    ),
    "an image without pixels": (
        lambda folder: ["task=image_folder", f"task.path={without_pixels(folder('cat', 'dog'))}"],
        "dog/3.png cannot be read: ",
    ),
    "an image cut short": (
        lambda folder: ["task=image_folder", f"task.path={cut_short(folder('cat', 'dog'))}"],
        "dog/3.png cannot be read: ",
    ),
    "a folder beside the splits": (
        lambda folder: ["task=image_folder", f"task.path={with_splits(folder, 'test', 'extra')}"],
        "has classes inside test and train, and extra beside, which would not be read",
    ),
    "two folders for validation": (
        lambda folder: ["task=image_folder", f"task.path={with_splits(folder, 'val', 'valid')}"],
        "has classes inside train and val, and valid beside",
    ),
    "a split without classes": (
        lambda folder: ["task=image_folder", f"task.path={flat_test(folder)}"],
        "has classes inside train, and test beside",
    ),
    "images outside the classes": (
        lambda folder: ["task=image_folder", f"task.path={loose(folder('cat', 'dog'))}"],
        "has 1 images outside its classes, such as a.png",
    ),
    "a folder with a name too long": (
        lambda _: ["task=image_folder", f"task.path={'p' * 300}"],
        "names of 1 to 255 bytes",
    ),
    "one class": (lambda f: ["task=image_folder", f"task.path={f('cat')}"], "has one class only (cat)"),
    "a name of hidden signs": (
        lambda f: ["task=image_folder", f"task.path={f('a', chr(0x200B))}"],
        r"the name of the sub-folder '\u200b' has no sign that is seen",
    ),
    "no images": (lambda f: ["task=image_folder", f"task.path={f('a', 'b', count=0)}"], "a has no images"),
    "no classes": (lambda f: ["task=image_folder", f"task.path={f('cat') / 'cat'}"], "has no sub-folders with images"),
    "no folder": (lambda f: ["task=image_folder", f"task.path={f('cat') / 'nowhere'}"], "nowhere is not there"),
    "no path": (lambda _: ["task=image_folder"], "task=image_folder needs task.path=…"),
    "another kind": (
        lambda _: ["task=digits", "task.kind=regression"],
        "task.kind=regression is not possible with task=digits, whose examples have image",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_task_of_images_that_cannot_be(fault: str, folder: Folder, vit: Path, tmp_path: Path, lab_here: Lab) -> None:
    words, message = FAULTS[fault]
    runs = tmp_path / "runs"
    done = lab_here(f"model={vit}", *words(folder), f"runs_dir={runs}", "tracking=disabled")
    assert done.returncode == 2
    assert message in " ".join(done.stdout.split())
    assert not list(runs.glob("*"))


def no_processor(vit: Path, tmp_path: Path) -> str:
    tiny_vit = transformers.AutoModel.from_pretrained(vit)
    tiny_vit.save_pretrained(tmp_path / "bare")
    return str(tmp_path / "bare")


def a_bert(vit: Path, tmp_path: Path) -> str:
    tiny_model("bert").base_model.save_pretrained(tmp_path / "bert")
    return str(tmp_path / "bert")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (no_processor, "bare has no image processor that can be read"),
        (a_bert, "bert is no model that transformers can read"),
    ],
)
def test_a_model_that_reads_no_images(
    model: Callable[[Path, Path], str], message: str, vit: Path, tmp_path: Path, lab_here: Lab
) -> None:
    runs = tmp_path / "runs"
    done = lab_here(f"model={model(vit, tmp_path)}", "task=digits", f"runs_dir={runs}", "tracking=disabled")
    assert done.returncode == 2
    assert message in " ".join(done.stdout.split())
    assert not list(runs.glob("*"))


def test_images_that_the_processor_leaves_at_two_sizes_are_refused(folder: Folder, vit: Path, tmp_path: Path) -> None:
    place = folder("cat", "dog")
    Image.new("RGB", (8, 16), (1, 2, 3)).save(place / "cat" / "tall.png")
    task = load_task(settings("image_folder", f"task.path={place}"))
    processor = transformers.ViTImageProcessorPil(do_resize=False)
    with pytest.raises(ConfigError, match=r"leaves images of task=image_folder at 8×8 and 16×8 pixels.*do_resize"):
        Split.of(task, everything(task), processor)


@pytest.mark.parametrize(("side", "code"), [(8, 0), (16, 2)])
def test_images_of_a_size_that_the_model_does_not_read_are_refused_before_the_run(
    side: int, code: int, vit: Path, tmp_path: Path, lab_here: Lab
) -> None:
    import shutil

    base, place = tmp_path / "base", tmp_path / "photos"
    shutil.copytree(vit, base)
    transformers.ViTImageProcessorPil(do_resize=False).save_pretrained(base)
    for c, name in enumerate(("cat", "dog")):
        (place / name).mkdir(parents=True)
        for i in range(9):
            Image.new("RGB", (side, side), (16 * i, 80 * c, 0)).save(place / name / f"{i}.png")
    words = ["task=image_folder", f"task.path={place}", f"runs_dir={tmp_path / 'runs'}", "--dry-run"]
    done = lab_here(f"model={base}", *words)
    assert done.returncode == code, done.stdout
    said = "leaves an image at 16×16 pixels, and the model does not read that"
    assert (said in " ".join(done.stdout.split())) == (code == 2)


# ---- from the command line


def test_a_vit_is_trained_measured_cut_and_scored(vit: Path, tmp_path: Path, lab_here: Lab) -> None:
    from lorax_lab.record.record import read_record

    runs = tmp_path / "runs"
    sizes = ["task.train_examples=96", "task.validation_examples=40", "task.test_examples=40"]
    words = [f"model={vit}", "task=digits", *sizes, "train.device=cpu", "tracking=disabled", f"runs_dir={runs}"]
    done = lab_here(*words, "rank=2")
    assert done.returncode == 0, done.stdout + done.stderr
    full, lora = (read_record(next(runs.glob(f"*{name}*"))).completed for name in ("full", "lora"))
    assert all(published(folder)["matrices"] for folder in runs.glob("*-s*"))
    assert full.truncation
    assert len(full.matrices) == len(lora.matrices) == 12
    assert all("vit.layers" in name for name in full.matrices)
    assert 0 <= lora.metrics["test/accuracy"] <= 1
    assert full.time.tokens == 96 * 64
