"""Data-parallel training under `torchrun`: the few collectives that both stages need. Without it, one process."""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hrpro_pipeline.base import launch
from hrpro_pipeline.errors import UsageError


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that `torchrun` started, if it did -> this process's device.

    Raises:
        UsageError: `cuda:N` for several processes, each of which takes the GPU of its own number.
    """
    if launch.num_processes() == 1:
        yield device
        return
    if device.type == "cuda":
        if device.index is not None:
            raise UsageError(f"device {device}: under torchrun each process has a GPU of its own; use `device=cuda`")
        local_rank, num_gpus = launch.local_rank(), torch.cuda.device_count()
        if local_rank >= num_gpus:
            raise UsageError(f"torchrun started more processes than the {num_gpus} GPUs here; lower --nproc-per-node")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    # The others wait while the first evaluates and writes, however long that takes.
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=datetime.timedelta(days=1))
    try:
        yield device
    except BaseException:
        # Under NCCL, to leave the group is to wait for the others, which wait for this process in the middle of a sum:
        # it has to end; then torchrun ends the others. Gloo leaves at once, and aborts a process that ends without.
        if dist.get_backend() != "nccl":
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def rank() -> int:
    """Number of this process; 0 writes the run."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_gradients(network: nn.Module) -> None:
    """Add up the gradients of all processes; one that has had no videos adds zeros."""
    if size() == 1:
        return
    for parameter in network.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def total(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    if size() > 1:
        dist.all_reduce(values)
    return values


def gather_videos(means: Tensor, present: Tensor, batch_size: int) -> tuple[Tensor, Tensor, Tensor | slice]:
    """Join the mean embeddings that the processes have computed, in the order of the batch.

    Process r has videos r, r + size, ... of the batch.

    Args:
        means: [b, C, D]; present: bool [b, C].
        batch_size: videos of all processes, at most.

    Returns:
        means and present of all videos, with rows of padding among them; and which rows are this process's.
    """
    if size() == 1:
        return means, present, slice(None)
    rows = -(-batch_size // size())
    # Pad to equal length: rows without classes do not move the memory.
    sent_means = torch.cat([means, means.new_zeros(rows - len(means), *means.shape[1:])])
    sent_present = torch.cat([present, present.new_zeros(rows - len(present), present.shape[1])])
    all_means = [torch.empty_like(sent_means) for _ in range(size())]
    all_present = [torch.empty_like(sent_present) for _ in range(size())]
    dist.all_gather(all_means, sent_means)
    dist.all_gather(all_present, sent_present)
    own_rows = torch.arange(len(means), device=means.device) * size() + rank()
    return torch.stack(all_means, dim=1).flatten(0, 1), torch.stack(all_present, dim=1).flatten(0, 1), own_rows


def gather_objects(items: list[Any]) -> list[Any]:
    """Lists of all processes dealt out in turn (process r made items r, r + size, ...) -> one list, the same on all."""
    if size() == 1:
        return items
    parts: list[list[Any]] = [[] for _ in range(size())]
    dist.all_gather_object(parts, items)
    return [parts[index % size()][index // size()] for index in range(sum(map(len, parts)))]


def same_everywhere(value: Any) -> Any:
    """The value of process 0, on all processes."""
    if size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]
