"""Sums over all processes of a training, differentiable. With one process they are the identity."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Sum(torch.autograd.Function):
    """Every rank computes the same loss from the sum, so the gradients of all of them meet in every term: their sum is W times that of one process.

    Data-parallel training averages gradients over the W ranks, which undoes exactly that.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def summed(value: Tensor) -> Tensor:
    """The sum of ``value`` over all ranks; its shape must be the same on each."""
    if world_size() == 1:
        return value
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total


def mean_over_rows(values: Tensor) -> Tensor:
    """The mean ``(...)`` over the rows of ``values (N, ...)`` of all ranks, with N the same on each."""
    return summed(values.mean(0)) / world_size()


def rows_of_all(values: Tensor) -> Tensor:
    """The rows ``(W * N, ...)`` of all ranks in their order, from ``values (N, ...)`` with N the same on each."""
    ranks = world_size()
    if ranks == 1:
        return values
    places = values.new_zeros(ranks, *values.shape)
    places = places.index_copy(0, torch.tensor([dist.get_rank()], device=values.device), values[None])
    return summed(places).flatten(0, 1)


def from_first(value: Tensor) -> Tensor:
    """``value`` as rank 0 has it: what was drawn at random is the same everywhere, however the ranks seed their generators."""
    if world_size() > 1:
        dist.broadcast(value, 0)
    return value
