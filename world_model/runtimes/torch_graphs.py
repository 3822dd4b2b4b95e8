"""A torch function of arrays: as it is on the CPU, as one CUDA graph for each shape on a GPU (pytorch.org/docs: CUDA semantics, CUDA Graphs)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]
_MOST_SHAPES = 8
_WARM_UPS = 3


class TorchGraph:
    """``function`` takes and gives tensors on ``device``; a call takes and gives arrays."""

    def __init__(self, function: Function, device: torch.device) -> None:
        self._function, self._device = function, device
        self._captured: dict[tuple[tuple[int, ...], ...], _Capture] = {}

    @torch.inference_mode()
    def __call__(self, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """All outputs. They are the caller's own."""
        if self._device.type == "cuda":
            shapes = tuple(array.shape for array in arrays)
            if shapes not in self._captured and len(self._captured) < _MOST_SHAPES:
                self._captured[shapes] = _Capture(self._function, arrays, self._device)
            if shapes in self._captured:
                return self._captured[shapes].replay(arrays)
        given = (torch.from_numpy(np.array(array)).to(self._device) for array in arrays)
        return tuple(value.cpu().numpy() for value in self._function(*given))


class _Capture:
    """One CUDA graph with its static inputs and outputs, and page-locked memory on the host's side of each."""

    def __init__(self, function: Function, arrays: tuple[NDArray[Any], ...], device: torch.device) -> None:
        self._hosts = [torch.from_numpy(np.array(array)).pin_memory() for array in arrays]
        self._inputs = [host.to(device) for host in self._hosts]
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = function(*self._inputs)
        self._answers = [torch.empty(value.shape, dtype=value.dtype, pin_memory=True) for value in self._outputs]

    def replay(self, arrays: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
        for host, given, array in zip(self._hosts, self._inputs, arrays, strict=True):
            np.copyto(host.numpy(), array)
            given.copy_(host, non_blocking=True)
        self._graph.replay()
        for answer, value in zip(self._answers, self._outputs, strict=True):
            answer.copy_(value, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return tuple(np.array(answer.numpy()) for answer in self._answers)
