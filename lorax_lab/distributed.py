"""One run in several processes, which `torchrun` starts: each computes its part of every batch.

Order, batches and the weights of losses are those of one process. Losses and gradients are sums over the processes, so
the run ends in the weights of one process but for rounding. It ends in others where a model drops values at random, by
a stream of each process's own, or normalises over a batch, of which each process has a part.

The first process plans, scores, measures, writes and prints. The others follow it, and wait as long as it takes. With
`train.parallel=shard` each has its share of every parameter, gradient and optimizer state (FSDP2, Zhao et al. 2023,
https://arxiv.org/abs/2304.11277). Files of several processes need a folder that all of them see.
"""

import atexit
import copy
import gc
import os
import pickle
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from lorax_lab.errors import ConfigError, Diverged

COUNTS = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""Environment variables by which torchrun and the launchers of MPI tell a process how many belong to it."""
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Those by which the processes find each other."""
JOINING = timedelta(minutes=2)
"""How long the processes wait for each other at the start."""
WORDS = 3.0
"""Seconds in which processes that end say why."""
SILENT = "it ended without a word, as by SIGKILL or where memory ran out"
TWIN = "empty_twin"
"""The attribute of a model in shares with a copy of it that has no weights."""


@dataclass
class _Launch:
    """What joins the processes: a store of words, how many the first has sent, and whether these are where
    the first expects them."""

    store: Any
    messages: int = 0
    follow: bool = True


_joined: list[_Launch] = []


def launched() -> int:
    """How many processes a launcher started, this one among them; 1 without a launcher.

    Raises:
        ConfigError: the variables of MPI, or those that a launcher left in a shell. It names the variable, its value,
            and what to type instead.
    """
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        raise ConfigError("ACCELERATE_USE_FSDP=true is set; leave it out, and type train.parallel=shard")
    if all(os.environ.get(name, "").strip() for name in NEEDED):
        return int(os.environ["WORLD_SIZE"])
    for name in COUNTS:
        if (count := os.environ.get(name, "1").strip()) not in ("", "1"):
            instead = f"type torchrun --nproc_per_node {count} -m lorax_lab.run …, or unset {name}"
            raise ConfigError(f"{name}={count} is set, and no torchrun has started this process; {instead}")
    return 1


def check_joined() -> None:
    """Refuse to train as one of several processes that have not joined, with a ConfigError that says what to type:
    they would write the same files."""
    if (count := launched()) > 1 and not _joined:
        only = "only lorax_lab.run, without a sweeper or launcher of Hydra's, trains in several processes"
        raise ConfigError(f"WORLD_SIZE={count} is set, and {only}; start this command without torchrun")


def join(device: str) -> None:
    """Meet the other processes, if a launcher started several.

    Args:
        device: `train.device`.

    Raises:
        ConfigError: they do not all come, or cannot talk about what is on that device.
    """
    if (count := launched()) == 1 or _joined:
        return
    cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    if device != "cpu" and not cuda and torch.backends.mps.is_available():
        raise ConfigError(f"train.device={device} is for one process here; type train.device=cpu")
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        store, rank, _ = next(dist.rendezvous("env://", timeout=JOINING))
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=count)
    except (RuntimeError, ValueError) as error:
        instead = "start them all, or unset WORLD_SIZE where no launcher started this process"
        raise ConfigError(f"WORLD_SIZE={count} is set, and the others do not come ({error}); {instead}") from None
    _joined.append(_Launch(dist.PrefixStore("lorax_lab", store)))
    atexit.register(_leave)


def _leave() -> None:
    """End the group's threads, which would abort a process that ends before them; models in cycles hold the group."""
    gc.collect()
    dist.destroy_process_group()


def processes() -> int:
    """How many processes train the run."""
    return dist.get_world_size() if _joined else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return dist.get_rank() if _joined else 0


def is_first() -> bool:
    """Whether this process writes and prints."""
    return rank() == 0


# ---- the first process and the others


def from_first(value: Any = None) -> Any:
    """The first process's `value`, in every process; the others wait for it as long as it takes."""
    if processes() == 1:
        return value
    launch, pause = _joined[0], 0.001
    launch.messages += 1
    key = f"message/{launch.messages}"
    if is_first():
        launch.store.set(key, pickle.dumps(value))
        return value
    while not launch.store.check([key]):  # a broadcast would time out, and no signal would interrupt it
        time.sleep(pause)
        pause = min(2 * pause, 0.2)
    return pickle.loads(launch.store.get(key))


def by_first(act: Callable[[], Any]) -> Any:
    """What the first process alone computes, in every process; so is a `Diverged` that it raises."""
    outcome = None
    if is_first():
        try:
            outcome = act()
        except Diverged as error:
            outcome = error
    outcome = from_first(outcome)
    if isinstance(outcome, Diverged):
        raise outcome
    return outcome


def agreed(flag: bool) -> bool:
    """The first process's answer, in all of them; they are at one place of the training."""
    return bool(total(float(flag and is_first())))


@contextmanager
def leading() -> Iterator[None]:
    """The block of the first process. When it is over the others may end, unless they are lost."""
    try:
        yield
    finally:
        if processes() > 1 and _joined[0].follow:
            from_first(None)
            agreed(True)  # the store is gone with the first process: the others read it before


def lose() -> None:
    """Note that the others may be elsewhere: the first process ends without them."""
    for launch in _joined:
        launch.follow = False


def blame(reason: str) -> None:
    """Leave word why this process ends; empty where the end of another, or a signal, is the cause."""
    _joined[0].store.set(f"end/{rank()}", reason)


def is_of_others(error: BaseException) -> bool:
    """Whether an error says that another process is gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def cause() -> str:
    """What ended other processes, in words; empty where none ended by itself. The first process asks."""
    until, words = time.monotonic() + WORDS, []
    for launch, number in product(_joined, range(1, processes())):
        while not (ended := launch.store.check([f"end/{number}"])) and time.monotonic() < until:
            time.sleep(0.1)
        word = launch.store.get(f"end/{number}").decode() if ended else SILENT
        words += [f"process {number} of {processes()}: {word}"] if word else []
    return "; ".join(words)


# ---- the model and its gradients


def part(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This process's rows, which may be none, of a batch's tensors (n, …); each row is of one process."""
    n = len(next(iter(inputs.values())))
    rows = slice(n * rank() // processes(), n * (rank() + 1) // processes())
    return {name: tensor[rows] for name, tensor in inputs.items()}


def spread(model: nn.Module, device: torch.device, parallel: str) -> None:
    """Bring a model to the device, in place: all of it, or with `parallel` = `shard` this process's share."""
    if processes() > 1 and parallel == "shard":
        _shard(model, device)
        return
    model.to(device)
    for parameter in model.parameters():
        if processes() > 1 and parameter.requires_grad:  # processors may differ in what they draw
            dist.broadcast(parameter.detach(), 0)


def _shard(model: nn.Module, device: torch.device) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()}
    twin, mesh = copy.deepcopy(model, empty), init_device_mesh(device.type, (processes(),))
    for module in (*_layers(model), model):
        sharded: Any = fully_shard(module, mesh=mesh)
        sharded.set_gradient_divide_factor(1.0)  # a sum, not a mean
        sharded.set_force_sum_reduction_for_comms(True)  # gloo has no product before its sum
    vars(model)[TWIN] = twin  # past nn.Module, which would take it for a part of the model


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The model's layers, each of which is gathered while it computes."""
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else _layers(child)


def is_spread(model: nn.Module) -> bool:
    """Whether this process has its share of the model alone."""
    return TWIN in vars(model)


@torch.no_grad()
def gathered(model: nn.Module) -> nn.Module:
    """The model as one process has it, in the first process; the others help, and keep theirs. Shares are gathered
    matrix by matrix."""
    if not is_spread(model):
        return model
    twin, parameters = copy.deepcopy(vars(model)[TWIN]), dict[int, nn.Parameter]()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) not in parameters:  # an output layer may have the embedding's
            tensor = full(parameter.detach())
            tensor = tensor if is_first() else tensor.new_empty(0)
            parameters[id(parameter)] = nn.Parameter(tensor, parameter.requires_grad)
        _put(twin, name, parameters[id(parameter)])
    for name, buffer in model.named_buffers(remove_duplicate=False):
        _put(twin, name, buffer)
    return twin if is_first() else model


def _put(model: nn.Module, name: str, tensor: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, tensor)


def seen(model: nn.Module, see: Callable[[nn.Module], Any]) -> Any:
    """What the first process sees of the whole model, in every process, as of `by_first`."""
    whole_model = gathered(model)
    return by_first(lambda: see(whole_model))


def sum_gradients(parameters: list[nn.Parameter]) -> None:
    """Sum the gradients over the processes, in place; those of shares were summed as they were made."""
    if processes() > 1:
        gradients = [p.grad for p in parameters if p.grad is not None and not isinstance(p.grad, DTensor)]
        for work in [dist.all_reduce(gradient, async_op=True) for gradient in gradients]:
            work.wait()


def total(value: float) -> float:
    """The sum of a number over the processes."""
    if processes() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(tensor)
    return float(tensor)


def full(tensor: Tensor) -> Tensor:
    """The tensor, or that of which this is a share."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """What this process has of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


# ---- checkpoints of several processes, by torch.distributed.checkpoint

METADATA = ".metadata"
"""The file by which a folder of several processes is known."""


def placed(tensor: Tensor, like: Tensor | None) -> Tensor:
    """A tensor, or this process's share of it, if it has the shape of a tensor of which there are shares."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None).clone()


def of_all(value: Any) -> list[Any]:
    """Every process's `value`, in their order."""
    values = [value] * processes()
    if processes() > 1:
        dist.all_gather_object(values, value)
    return values


def save(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors, whole ones and shares, by all processes at once.

    Raises:
        OSError: one of them could not.
    """
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        checkpoint.save(tensors, storage_writer=checkpoint.FileSystemWriter(folder))
    except CheckpointException as error:
        raise OSError(f"{folder} could not be written: {error}") from error


def load(folder: Path, like: Callable[[str], Tensor | None]) -> dict[str, Tensor]:
    """What `save` wrote, on any number of processes.

    Args:
        like: from a tensor's name to one by which it is placed.

    Raises:
        ValueError: it is damaged.
    """
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.api import CheckpointException

    reader, tensors = checkpoint.FileSystemReader(folder), dict[str, Any]()
    try:
        for name, stored in reader.read_metadata().state_dict_metadata.items():
            shape, dtype, model = stored.size, stored.properties.dtype, like(name)  # type: ignore[union-attr]
            if isinstance(model, DTensor) and model.shape == shape:
                tensors[name] = torch.empty_like(model, dtype=dtype)
            else:
                tensors[name] = torch.empty(shape, dtype=dtype)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # that one process reads it
            checkpoint.load(tensors, storage_reader=reader, no_dist=not _joined)
    except (CheckpointException, pickle.UnpicklingError, EOFError, AttributeError) as error:
        raise ValueError(f"{folder} is not whole: {error}") from error
    return tensors
