"""An engine that runs, for the gate: through the driver's own memory, so that neither torch nor CUDA's Python packages are needed."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from world_model.tensorrt.gate import Arrays
from world_model.tensorrt.operator_list import TensorRtError

_DRIVER = "libcuda.so.1"


class Engine:
    """A serialised engine on the first device. Use as a context manager.

    Raises:
        TensorRtError: TensorRT does not take the engine, or the device fails.
    """

    def __init__(self, trt: Any, content: bytes) -> None:
        self._trt = trt
        self._logger = trt.Logger(trt.Logger.WARNING)
        self._runtime = trt.Runtime(self._logger)
        self._driver = ctypes.CDLL(_DRIVER)
        self._context_handle = ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context_handle), 0)  # the one that TensorRT itself works in
        self._call("cuCtxSetCurrent", self._context_handle)
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise TensorRtError("TensorRT does not take the engine that it built")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise TensorRtError("the device has no memory left to run the engine")
        self._stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(self._stream), 0)
        self._memory: list[ctypes.c_void_p] = []

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        for address in self._memory:
            self._call("cuMemFree_v2", address)
        self._call("cuStreamDestroy_v2", self._stream)
        self._memory.clear()

    def run(self, inputs: Arrays) -> Arrays:
        """Outputs by name for ``inputs`` by name."""
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        fed = [name for name in names if self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT]
        for name in fed:
            array = np.ascontiguousarray(inputs[name], self._trt.nptype(self._engine.get_tensor_dtype(name)))
            if not self._context.set_input_shape(name, array.shape):
                raise TensorRtError(f"the engine takes no '{name}' of shape {array.shape}")
            address = self._allocate(array.nbytes)
            self._call("cuMemcpyHtoD_v2", address, array.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(array.nbytes))
            self._context.set_tensor_address(name, address.value)
        results: dict[str, tuple[NDArray[Any], ctypes.c_void_p]] = {}
        for name in names:
            if name not in fed:
                array = np.empty(tuple(self._context.get_tensor_shape(name)), self._trt.nptype(self._engine.get_tensor_dtype(name)))
                results[name] = array, self._allocate(array.nbytes)
                self._context.set_tensor_address(name, results[name][1].value)
        if not self._context.execute_async_v3(self._stream.value):
            raise TensorRtError("the engine does not run")
        self._call("cuStreamSynchronize", self._stream)
        for array, address in results.values():
            self._call("cuMemcpyDtoH_v2", array.ctypes.data_as(ctypes.c_void_p), address, ctypes.c_size_t(array.nbytes))
        return {name: array for name, (array, _) in results.items()}

    def _allocate(self, count: int) -> ctypes.c_void_p:
        address = ctypes.c_void_p()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(1, count)))
        self._memory.append(address)
        return address

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._driver, name)(*arguments)
        if status:
            raise TensorRtError(f"{name} answers CUDA error {status}")
