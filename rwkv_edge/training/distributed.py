"""The processes that train one network together, as torchrun started them; usually there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from rwkv_edge.errors import RwkvEdgeError, UsageError
from rwkv_edge.training.batch_norm import share_batch_norms
from rwkv_edge.training.settings import TrainSettings

PATIENCE = timedelta(days=1)
"""How long one waits for the others: the first may decode a large set alone, and when one fails
torchrun ends the rest at once."""


@dataclass(frozen=True)
class Processes:
    """This process among those of the run: each trains on its share of every batch.

    What is random is the same in all of them but augmentation and stochastic depth; what is reduced
    is reduced in all, so that weights, average and statistics stay equal to the bit and the first
    process alone can save them. With one process everything here does nothing.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    """Among those of this machine."""
    local_count: int = 1

    @classmethod
    def of_environment(cls) -> Processes:
        """Return what torchrun says; a single process where it says nothing."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if not all(name in os.environ for name in names):
            return cls()
        return cls(*(int(os.environ[name]) for name in names))

    @property
    def leads(self) -> bool:
        """Whether this one prints and writes."""
        return self.rank == 0

    def check(self, settings: TrainSettings) -> None:
        """Check that every process and every accumulated part gets as many images as the others.

        Raises:
            UsageError: it does not, or the settings are for one process alone.
        """
        parts = self.count * settings.accumulate
        if settings.batch % parts:
            raise UsageError(
                f"--batch {settings.batch} cannot be shared evenly by {self.count} "
                f"process{'es' if self.count > 1 else ''} with --accumulate "
                f"{settings.accumulate}; give a multiple of {parts}"
            )
        if settings.cuda_graph and self.count > 1:
            raise UsageError("--cuda-graph captures the step of one process; leave it out")

    def pick_device(self, name: str) -> torch.device:
        """Return the device that a `--device` names; 'auto' prefers CUDA, one GPU a process.

        Raises:
            UsageError: no such device here, or fewer GPUs than processes.
        """
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if self.count > 1 and name == "cuda":
            have = torch.cuda.device_count()
            if have < self.local_count:
                raise UsageError(f"{self.local_count} processes want a GPU each; there are {have}")
            name = f"cuda:{self.local_rank}"
        elif self.count > 1 and name != "cpu":
            raise UsageError(f"--device {name}: several processes take cpu or cuda, a GPU each")
        try:
            device = torch.device(name)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"device '{name}' is not available here; try --device cpu") from error
        return device

    @contextmanager
    def together(self, device: torch.device) -> Iterator[None]:
        """Meet the others: through gloo, and on GPUs through NCCL for what lies there.

        The process group is left as it is: see `leave` in rwkv_edge/cli/processes.py.

        Raises:
            RwkvEdgeError: another process ended.
        """
        if self.count == 1:
            yield
            return
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)
        try:
            backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
            distributed.init_process_group(backend, timeout=PATIENCE)
            yield
        except RuntimeError as error:
            if isinstance(error, distributed.DistError) or "gloo" in str(error):
                raise RwkvEdgeError(
                    "another process of the run ended; start them again with --resume"
                ) from error
            raise

    def share(self, batch: Tensor) -> Tensor:
        """Return this process's part of a batch, which is a multiple of `count`."""
        return batch.chunk(self.count)[self.rank]

    def diverge(self) -> None:
        """Draw random numbers of one's own from here on, which follow from the common seed."""
        if self.rank:
            torch.manual_seed(int(torch.randint(2**31, (self.count,))[self.rank]))

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return the model whose backward pass averages gradients over all processes.

        Normalisation uses the whole batch. `model` remains what is averaged, optimised and saved.
        """
        if self.count == 1:
            return model
        share_batch_norms(model, device)
        devices = [device] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)

    def accumulating(self, model: nn.Module) -> AbstractContextManager[object]:
        """Keep a backward pass of a wrapped model to this process."""
        return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, in place."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def largest(self, value: float) -> float:
        """Return the largest of all processes."""
        values = torch.zeros(self.count, dtype=torch.float64)
        values[self.rank] = value
        return float(self.sum(values).max())

    def agree(self, value: float) -> float:
        """Return the first process's value: clocks and free memory differ, decisions must not."""
        return float(self.sum(torch.tensor(value if self.leads else 0.0, dtype=torch.float64)))

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the others into the block once the first is through."""
        if not self.leads:
            self.agree(0)
        yield
        if self.leads:
            self.agree(0)
