"""A small ViT that knows the digits 0 to 4: the base of image classification on the digits 5 to 9.

python -m experiments.vit_base bases/vit
python -m lorax_lab.run model=bases/vit task=digits_high train.epochs=30 rank=1,2,4,8 -m
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from experiments.base import main, train

WHAT = "Train a small ViT on real images, the digits 0 to 4 that come with scikit-learn, from random weights."
PIXELS, PATCH = 8, 2
SIZES: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128}
BUDGET = ["task=digits_low", "train.epochs=20", "train.learning_rate=1e-3"]


def make(folder: Path) -> None:
    """Write the model into `folder`, in about half a minute on one core."""
    from transformers import ViTConfig, ViTImageProcessorPil

    config = ViTConfig(image_size=PIXELS, patch_size=PATCH, **SIZES)
    processor = ViTImageProcessorPil(size={"height": PIXELS, "width": PIXELS})
    train(folder, "image_classification", config, processor, BUDGET)


if __name__ == "__main__":
    sys.exit(main(WHAT, "experiments.vit_base", make))
