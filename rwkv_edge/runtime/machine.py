"""The GPU of this machine, asked through the CUDA driver itself: no package is needed for that."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_MULTIPROCESSORS = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT


@dataclass(frozen=True)
class Gpu:
    """A CUDA GPU, and the driver below it."""

    name: str
    compute_capability: str
    """'8.7' on Orin."""
    multiprocessors: int
    """All that tells an AGX Orin, 16, from a Nano, 8: the name of either is 'Orin'."""
    cuda: str
    """Newest CUDA version that the driver supports."""
    driver: str
    """Version of the kernel driver; empty where it does not say."""

    @property
    def architecture(self) -> str:
        """As compilers write it: '87'."""
        return self.compute_capability.replace(".", "")


def find_gpu(index: int = 0) -> Gpu | None:
    """Return a CUDA GPU, the first by default; None without it, or without a working driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, number = ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), index):
        return None
    name = ctypes.create_string_buffer(128)
    cuda.cuDeviceGetName(name, len(name), device)
    attributes = []
    for attribute in (_MAJOR, _MINOR, _MULTIPROCESSORS):
        cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        attributes.append(number.value)
    major, minor, multiprocessors = attributes
    cuda.cuDriverGetVersion(ctypes.byref(number))
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    capability = f"{major}.{minor}"
    return Gpu(name.value.decode(), capability, multiprocessors, version, _driver_version())


def _driver_version() -> str:
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:
        return ""
