"""The NVIDIA device of this machine, asked through its driver alone: neither CUDA's toolkit nor torch is needed to know that there is none."""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_NODES = ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu/igpu0/ctrl", "/dev/dxg")  # desktop and Thor, Orin, Orin since JetPack 5, WSL
_DRIVER = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_PORTABLE = 1  # CU_MEMHOSTALLOC_PORTABLE


@dataclass(frozen=True)
class Device:
    """``name`` as the driver has it, ``capability`` such as 8.7, ``driver`` the newest CUDA that it serves, such as 12.6."""

    name: str
    capability: str
    driver: str

    @property
    def label(self) -> str:
        """The device in one word that a folder may be called by, such as ``orin-sm87``."""
        return f"{re.sub(r'[^a-z0-9]+', '-', self.name.lower()).strip('-')}-sm{self.capability.replace('.', '')}"


def find_device() -> tuple[Device | None, str]:
    """The first NVIDIA device; or None, and why there is none, in one line."""
    if not any(Path(node).exists() for node in _NODES):
        return None, "this machine has no NVIDIA device"
    try:
        driver = _driver()
        version, handle = ctypes.c_int(), ctypes.c_int()
        _call(driver.cuInit, 0)
        _call(driver.cuDriverGetVersion, ctypes.byref(version))
        _call(driver.cuDeviceGet, ctypes.byref(handle), 0)
        name = ctypes.create_string_buffer(128)
        _call(driver.cuDeviceGetName, name, len(name), handle)
        numbers = []
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int()
            _call(driver.cuDeviceGetAttribute, ctypes.byref(value), attribute, handle)
            numbers.append(value.value)
    except OSError as error:
        return None, f"the NVIDIA driver cannot be used: {error}"
    return Device(name.value.decode(errors="replace"), f"{numbers[0]}.{numbers[1]}", f"{version.value // 1000}.{version.value % 1000 // 10}"), ""


def pinned(shape: tuple[int, ...], kind: DTypeLike) -> NDArray[Any]:
    """An array in memory that the device reads without a copy by the driver; ordinary memory where it cannot be had. It is never given back."""
    count = max(1, int(np.prod(shape))) * np.dtype(kind).itemsize
    try:
        address = ctypes.c_void_p()
        _call(_driver().cuMemHostAlloc, ctypes.byref(address), ctypes.c_size_t(count), _PORTABLE)
    except OSError:
        return np.empty(shape, kind)
    assert address.value is not None
    memory = memoryview((ctypes.c_byte * count).from_address(address.value)).cast("B")
    array: NDArray[Any] = np.ndarray(shape, kind, memory)
    return array


def tensorrt_version() -> str:
    """The version of the TensorRT library that the loader finds, such as 10.3.0; '' where it finds none."""
    for name in ("libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so"):
        try:
            number = int(ctypes.CDLL(name).getInferLibVersion())
        except (OSError, AttributeError):
            continue
        thousand = 10_000 if number >= 100_000 else 1000  # from 10.0 on a version is 10000 major + 100 minor + patch
        return f"{number // thousand}.{number % thousand // 100}.{number % 100}"
    return ""


def _driver() -> Any:
    return ctypes.CDLL(_DRIVER)


def _call(function: Any, *arguments: Any) -> None:
    status = function(*arguments)
    if status:
        raise OSError(f"{function.__name__} answers CUDA error {status}{' (no device)' if status == 100 else ''}")


def cache_home() -> Path:
    """Where engines are kept that nobody named a folder for."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latent-mpc" / "engines"
