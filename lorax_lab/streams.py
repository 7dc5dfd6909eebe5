"""Named random streams: each use of chance in a run has its own seed, derived from the run's."""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


def stream_seed(seed: int, name: str) -> int:
    """A 63-bit seed for the stream `name` (`init`, `adapter`, `data`, `dropout`, …) of the run `seed`."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8]) >> 1


def generator(seed: int, name: str) -> torch.Generator:
    """A CPU generator of its own for the stream `name`."""
    return torch.Generator().manual_seed(stream_seed(seed, name))


def global_stream(seed: int, name: str) -> AbstractContextManager[None]:
    """Torch's global generators (which layers' initialisers and dropout draw from) follow the stream `name`
    inside the block and are put back after it."""
    return globally_seeded(stream_seed(seed, name))


@contextmanager
def globally_seeded(seed: int) -> Iterator[None]:
    """Torch's global generators begin with this seed inside the block and are put back after it."""
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(seed)
        yield
