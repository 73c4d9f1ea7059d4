"""Several processes that learn one space: started by PyTorch's own ``torchrun``, or just the one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed
from torch import nn

from ..descent import Budget
from ..errors import InputError


class Group:
    """The processes that share the work; by default this one alone.

    Every step is split by shapes: each process takes every ``world``-th of them, and the gradients' mean over the
    processes is that of the whole step. So any number of processes descends as one does, up to rounding.
    """

    def __init__(self, rank: int = 0, world: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.world, self.device = rank, world, device

    @classmethod
    def from_environment(cls) -> Group:
        """The group that ``torchrun`` started this process in: gloo on processors, nccl on CUDA.

        Raises:
            InputError: it was started in another way than torchrun's.
        """
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world < 2:
            return cls()
        if not torch.distributed.is_available():
            raise InputError("This build of torch cannot learn in several processes.", "Start a single one.")
        local = int(os.environ.get("LOCAL_RANK", "0"))
        cuda = torch.cuda.is_available() and torch.cuda.device_count() > local
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if cuda else "gloo")
        return cls(torch.distributed.get_rank(), world, torch.device("cuda", local) if cuda else torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def divisible(self, shapes: int) -> int:
        """The number of shapes a step takes: each process needs as many as the others."""
        return -(-shapes // self.world) * self.world

    def common(self, number: int) -> int:
        """What the first process has for ``number``; all must ask."""
        if self.world == 1:
            return number
        told = torch.tensor([number], dtype=torch.int64, device=self.device)
        torch.distributed.broadcast(told, 0)
        return int(told)

    def share(self, rows: Sequence[int]) -> list[int]:
        """Those of ``rows`` that this process takes; rows are repeated from the start if they do not divide evenly."""
        filled = [rows[number % len(rows)] for number in range(self.divisible(len(rows)))]
        return filled[self.rank :: self.world]

    def wrap(self, module: nn.Module) -> nn.Module:
        """``module`` with its gradients averaged over the group after every backward pass."""
        if self.world == 1:
            return module
        devices = None if self.device is None or self.device.type == "cpu" else [self.device]
        return nn.parallel.DistributedDataParallel(module, device_ids=devices)

    def budget(self, steps: int | None, seconds: float | None, started: float) -> Budget:
        """When all stop. Of seconds the first one's clock decides: rates and the end must be the same for all."""
        if self.world == 1 or seconds is None:
            return Budget(steps, seconds, started)
        return _Agreed(steps, seconds, started, self.device)

    def close(self) -> None:
        """Leave the group."""
        if self.world > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


@dataclass(frozen=True)
class _Agreed(Budget):
    """A budget of which the first process tells the others; all must ask equally often."""

    device: torch.device | None = None

    def progress(self, step: int) -> float:
        told = torch.tensor([super().progress(step)], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(told, 0)
        return float(told)
