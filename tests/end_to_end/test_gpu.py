"""Runs on a GPU: the numbers of a processor, in fp32 and bf16, and those of one card on two (`make test-gpu`)."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from conftest import ran
from together import assert_same_run, run_in, together

from lorax_lab.record.folder import read_history

pytestmark = pytest.mark.gpu
METHODS = {"full": ["method=full"], "lora": ["method=lora", "rank=2", "reference=false"]}
if find_spec("bitsandbytes"):
    METHODS |= {f"lora, {bits} bits": [*METHODS["lora"], f"method.bits={bits}"] for bits in (4, 8)}
STEPS = ["train.max_steps=6", "train.learning_rate=1e-3"]


def losses(store: Path) -> list[float]:
    return [row["train/loss"] for row in read_history(run_in(store))]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 5e-3)])
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_trains_the_run_of_a_processor(
    method: str, precision: str, tolerance: float, steady_run: list[str], tmp_path: Path
) -> None:
    words = [*steady_run, *METHODS[method], *STEPS, "train.learning_rate=1e-2"]
    ran(*words, f"runs_dir={tmp_path / 'cpu'}")
    on_gpu = ["train.device=cuda", f"train.precision={precision}", f"runs_dir={tmp_path / 'cuda'}"]
    ran(*words, *on_gpu)
    start, *_, end = expected = losses(tmp_path / "cpu")
    assert start - end > tolerance, "weights that stay as they were would pass"
    assert losses(tmp_path / "cuda") == pytest.approx(expected, abs=tolerance)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one card: nccl wants one for each process")
@pytest.mark.parametrize("parallel", ["data", "shard"])
@pytest.mark.parametrize("method", METHODS)
def test_two_gpus_train_the_run_of_one(method: str, parallel: str, steady_run: list[str], tmp_path: Path) -> None:
    words = [*steady_run, *METHODS[method], *STEPS, "train.device=cuda", f"train.parallel={parallel}"]
    ran(*words, f"runs_dir={tmp_path / 'one'}")
    done = together(2, [[*words, f"runs_dir={tmp_path / 'two'}"]])
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same_run(run_in(tmp_path / "one"), run_in(tmp_path / "two"), 2, tolerance=1e-4)
