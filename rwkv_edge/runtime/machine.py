"""The GPU of this machine, asked through the CUDA driver itself: no package is needed for that."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


@dataclass(frozen=True)
class Gpu:
    """A CUDA GPU, and the driver below it."""

    name: str
    compute_capability: str
    """'8.7' on Orin."""
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
    capability = []
    for attribute in (_MAJOR, _MINOR):
        cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        capability.append(str(number.value))
    cuda.cuDriverGetVersion(ctypes.byref(number))
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    return Gpu(name.value.decode(), ".".join(capability), version, _driver_version())


def _driver_version() -> str:
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:
        return ""
