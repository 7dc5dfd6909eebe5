"""Images: what of a file the model sees, digits and folders as tasks, and one clear message for each fault."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from bases import save_base
from conftest import write_csv
from PIL import Image
from published import everything, settings

from lorax_lab.data import data_sha256
from lorax_lab.data.media import read_image
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose
from lorax_lab.launch.plan import check, run_of
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


def turned() -> Image.Image:
    image = Image.new("RGB", (2, 3))
    image.getexif()[0x0112] = 6  # a quarter
    return image


SEEN: dict[str, tuple[Image.Image, list[list[list[int]]]]] = {
    "grey": (Image.fromarray(np.array(GREY, np.uint8)), [[[v] * 3 for v in row] for row in GREY]),
    "transparent": (
        Image.fromarray(np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 51]]], np.uint8), "RGBA"),
        [[[200, 0, 0], [255, 255, 255], [204, 204, 204]]],
    ),
    "turned": (turned(), [[[0, 0, 0]] * 3] * 2),
}


@pytest.mark.parametrize("case", SEEN)
def test_an_image_becomes_eight_bits_of_three_colours(case: str, tmp_path: Path) -> None:
    image, expected = SEEN[case]
    image.save(tmp_path / "image.png", exif=image.getexif())
    assert read_image(tmp_path / "image.png").tolist() == expected
    assert read_image((tmp_path / "image.png").read_bytes()).dtype == np.uint8


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"GIF89a" + bytes(7) + b",\0\0\0\0\0\0\0\0\0\2\2L\1\0;", None, "numbers of 32 bits"]
)
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "image.tiff"
    if isinstance(content, str):
        Image.fromarray(np.ones((2, 2), np.float32)).save(path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"\w"):
        read_image(path)


def test_the_model_sees_the_pixels_that_the_processor_makes_of_a_batch(vit: Path, folder: Folder) -> None:
    task = load_task(settings("image_folder", f"task.path={folder('cat', 'dog')}"))
    base = load_base(str(vit), task.head, 0, task.kind.model_class, task.kind.processor_class)
    split = Split.encoded(task, task.train, base.processor)
    inputs, tokens = split.batch([0, 1]).inputs, split.batch([0, 1]).tokens
    assert (inputs["pixel_values"].shape, tokens) == ((2, 3, 8, 8), 2 * 8 * 8)
    colours = np.array([task.train[i].inputs["image"][0, 0] for i in (0, 1)])
    expected = torch.tensor(colours / 255 * 2 - 1, dtype=torch.float32)
    torch.testing.assert_close(inputs["pixel_values"][:, :, 3, 5], expected)
    assert inputs["labels"].tolist() == [task.train[i].label for i in (0, 1)]


def test_sub_folders_are_the_classes_inside_the_folders_own_splits_where_it_has_them(
    folder: Folder, tmp_path: Path
) -> None:
    task = load_task(settings("image_folder", f"task.path={folder('10', '9')}"))
    assert task.classes == ("10", "9")
    assert list(task.sizes.values()) == [24, 3, 3]
    assert all(e.label == e.inputs["image"][0, 0, 1] // 80 for e in everything(task))
    for role in ("train", "val", "test"):
        folder("cat", "dog", under=f"set/{role}", count=12 if role == "train" else 5)
    task = load_task(settings("image_folder", f"task.path={tmp_path / 'set'}"))
    assert list(task.sizes.values()) == [24, 10, 10]
    assert task.classes == ("cat", "dog")


def test_a_table_of_paths_is_the_same_task(folder: Folder) -> None:
    place = folder("cat", "dog")
    names = [(str(path.relative_to(place)), path.parent.name) for path in sorted(place.rglob("*.png"))]
    path = write_csv(place / "labels.csv", ("file", "animal"), *names)
    words = [f"task.path={path}", "task.kind=image_classification", "task.image=file", "task.label=animal"]
    config = settings("local", *words)
    seen = [
        {(e.inputs["image"].tobytes(), task.classes[int(e.label)]) for e in everything(task)}
        for task in (load_task(config), load_task(settings("image_folder", f"task.path={place}")))
    ]
    assert seen[0] == seen[1]
    before = data_sha256(config)
    (place / "dog" / "3.png").write_bytes(b"no image")
    assert data_sha256(config) != before
    with pytest.raises(ConfigError, match=r"row 24: .*3\.png"):
        load_task(config)


def test_a_folder_that_is_no_task_of_images_is_named(folder: Folder) -> None:
    place = folder("cat", "dog")
    (place / "dog" / "3.png").write_bytes(b"no image")
    for path, named in ((place, "dog/3.png"), (folder("cat", under="one"), "label"), (place / "nowhere", "nowhere")):
        with pytest.raises(ConfigError, match=named):
            load_task(settings("image_folder", f"task.path={path}"))


def test_images_that_the_processor_leaves_at_two_sizes_are_refused(folder: Folder, vit: Path, tmp_path: Path) -> None:
    place = folder("cat", "dog")
    Image.new("RGB", (8, 16), (1, 2, 3)).save(place / "cat" / "tall.png")
    task = load_task(settings("image_folder", f"task.path={place}"))
    processor = transformers.ViTImageProcessorPil(do_resize=False)
    with pytest.raises(ConfigError, match="task=image_folder at 8×8 and 16×8"):
        Split.encoded(task, everything(task), processor)


def test_images_of_a_size_that_the_model_does_not_read_are_refused_before_it_trains(vit: Path, tmp_path: Path) -> None:
    larger = shutil.copytree(vit, tmp_path / "larger")
    transformers.ViTImageProcessorPil(size={"height": 12, "width": 12}).save_pretrained(larger)
    fits, does_not = (run_of(compose([f"model={model}", "task=digits", "rank=2"])) for model in (vit, larger))
    check([fits])
    with pytest.raises(ConfigError, match=r"task=digits: .* 12×12 pixels"):
        check([does_not])
