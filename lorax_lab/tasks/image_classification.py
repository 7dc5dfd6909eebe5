"""Image classification: one class for each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lorax_lab.config import TaskConfig
from lorax_lab.data import Example
from lorax_lab.errors import ConfigError, in_short
from lorax_lab.tasks.classification import OfClasses
from lorax_lab.tasks.kind import Inputs, Row

INSTEAD = "set do_resize and size in its preprocessor_config.json, or scale the images yourself"


@dataclass
class ImageConfig(TaskConfig):
    """Settings of a kind that reads an image. `image` names a column of paths, or of images in a data set."""

    inputs: ClassVar[Mapping[str, str]] = {"image": "image"}

    image: str | None = None


def pixels(processor: Any, images: Sequence[Any]) -> Tensor:
    """What the model sees of the images, (n, 3, height, width), fp32."""
    return processor(images=list(images), input_data_format="channels_last", return_tensors="pt").pixel_values


class ImageClassification(OfClasses):
    """One class for each image. A row is the image as it was read, (height, width, 3), uint8; the processor makes it
    ready batch by batch. All images are of one size when the model reads them."""

    config = ImageConfig
    model_class = "AutoModelForImageClassification"
    processor_class = "AutoImageProcessor"

    def encode(self, processor: Any, examples: Sequence[Example], config: TaskConfig) -> list[Row]:
        """Raises ConfigError for images of which the processor makes tensors of more than one size."""
        images = [example.inputs["image"] for example in examples]
        shapes = sorted({image.shape for image in images})
        sizes = {tuple(pixels(processor, [np.zeros(shape, np.uint8)]).shape[1:]) for shape in shapes}
        if len(sizes) > 1:
            listed = " and ".join("×".join(map(str, size[1:])) for size in sorted(sizes)[:2])
            uneven = f"the image processor of the model leaves images of task={config.name} at {listed} pixels"
            raise ConfigError(f"{uneven}; {INSTEAD}")
        return [{"image": image} for image in images]

    def require_readable(self, folder: Path, processor: Any, rows: Sequence[Row], config: TaskConfig) -> None:
        """Refuse images of a size that the model does not take. No weight is read: a model without values is tried
        first, and one with random weights where that fails."""
        import transformers

        values = pixels(processor, [rows[0]["image"]])
        settings = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        for device in ("meta", "cpu"):
            try:
                with torch.random.fork_rng(), torch.device(device), torch.inference_mode():
                    model = transformers.AutoModelForImageClassification.from_config(settings)
                    model.eval()(values.to(device))
                return
            except (ValueError, RuntimeError, IndexError, TypeError) as error:
                problem = in_short(error, 120)
        size = "×".join(map(str, values.shape[2:]))
        unread = f"the image processor leaves an image at {size} pixels, and the model does not read that ({problem})"
        raise ConfigError(f"task={config.name}: {unread}; {INSTEAD}")

    def collate(self, processor: Any, rows: Sequence[Row], labels: Any) -> Inputs:
        """`pixel_values` (n, 3, height, width), fp32, and `labels` (n,), long."""
        return {"pixel_values": pixels(processor, [row["image"] for row in rows]), "labels": torch.as_tensor(labels)}

    def size(self, row: Row) -> int:
        return 1

    def tokens(self, inputs: Inputs) -> int:
        """Pixels."""
        images, _, height, width = inputs["pixel_values"].shape
        return images * height * width
