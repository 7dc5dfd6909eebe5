"""A small base of the lab's own training: a ViT of random weights, trained fully by an ordinary run, kept as a model's
folder.

    python -m experiments.bases bases/vit
    python -m lorax_lab.run model=bases/vit task=digits_high train.epochs=30 rank=1,2,4,8 -m

No pretrained vision model can be had without a model hub. What a fine-tune of such a base shows is how the lab treats
images; its weights are nobody's published ones. It knows the digits 0 to 4, real images that come with scikit-learn;
the task is the digits 5 to 9.
"""

import argparse
from pathlib import Path
from typing import Any

from experiments.study import trained_by
from lorax_lab.errors import answer
from lorax_lab.record.redact import guard
from lorax_lab.tasks import KINDS

SEED = 0
TRAINED = "model.safetensors"
PIXELS, PATCH = 8, 2
SIZES: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128}
BUDGET = ["task=digits_low", "train.epochs=20", "train.learning_rate=1e-3"]


def main(arguments: list[str] | None = None) -> int:
    """Make the base, unless the folder has it already. Returns the exit code: 0, 2 for a wrong input, 130 stopped."""
    guard()
    parser = argparse.ArgumentParser(
        prog="python -m experiments.bases", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where it goes; then type model=FOLDER")
    folder = parser.parse_args(arguments).folder

    def work() -> int:
        if not (folder / "config.json").is_file():
            make(folder)
        print(f"the base: model={folder}")
        return 0

    return answer(work, "; the same command begins anew")


def make(folder: Path) -> None:
    """Write `folder/training/random` (the model with random weights), train all of it by one run in
    `folder/training/runs`, and write the trained body into `folder`; in about half a minute on one core."""
    import torch
    import transformers
    from safetensors.torch import load_file

    config = transformers.ViTConfig(image_size=PIXELS, patch_size=PATCH, **SIZES)
    processor = transformers.ViTImageProcessorPil(size={"height": PIXELS, "width": PIXELS})
    random, runs = folder / "training" / "random", folder / "training" / "runs"
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model: Any = getattr(transformers, KINDS["image_classification"].model_class).from_config(config)
    processor.save_pretrained(random)
    model.base_model.save_pretrained(random)
    tensors = load_file(trained_by((f"model={random}", "method=full", f"seed={SEED}", *BUDGET), runs, TRAINED))
    fitting = {key: tensors[key] for key, weight in model.state_dict().items() if tensors[key].shape == weight.shape}
    model.load_state_dict(fitting, strict=False)
    processor.save_pretrained(folder)
    model.base_model.save_pretrained(folder)


if __name__ == "__main__":
    raise SystemExit(main())
