"""One step shared by several processes: each takes part of the batch, gradients are averaged.

torchrun starts them and sets their number in the environment; one process alone trains as usual.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def join() -> None:
    """Join the processes that torchrun started; without torchrun, run alone."""
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def leave() -> None:
    """Leave the processes that torchrun started."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wait_for_all() -> None:
    """Wait until every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def average_gradients(parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
    """Replace all gradients by their mean over the processes; return that of the loss, a scalar."""
    loss = loss.detach()
    if count() == 1:
        return loss
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([loss.view(1), *(gradient.flatten() for gradient in gradients)])
    dist.all_reduce(flat)
    flat /= count()
    parts = flat[1:].split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
    return flat[0]


def any_wants(wish: bool, device: torch.device) -> bool:
    """Return True in all processes as soon as one has a wish."""
    if count() == 1:
        return wish
    vote = torch.tensor(float(wish), device=device)
    dist.all_reduce(vote)
    return bool(vote > 0)
