"""What stands between the tests and the kernels on a device, with a device of host memory."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugins import test_shift_mix_phases
from tests.plugins.conftest import HERE, SOURCES
from tests.plugins.test_shift_mix_phases import Call

ILLEGAL_ADDRESS = 700  # cudaErrorIllegalAddress


@pytest.fixture(scope="module")
def library(build_for_cpu: Callable[[str], Path]) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(build_for_cpu("device")))
    loaded.seen_address.restype = ctypes.c_size_t
    loaded.write_astray.argtypes = [ctypes.c_ssize_t]
    return loaded


@pytest.mark.parametrize("shift", [0, 1])
def test_a_device_buffer_is_aligned_as_the_host_has_it(library: ctypes.CDLL, shift: int) -> None:
    call = Call(library, (2, 36, 6, 10), 3, "float16", shift)
    assert call.run() == 0
    assert call.error() < 1e-6
    assert library.seen_address() % 16 == call.params.x % 16 == 2 * shift


def test_without_guards_for_the_sanitizer(
    library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIGHT_BUFFERS", "1")
    test_a_device_buffer_is_aligned_as_the_host_has_it(library, shift=1)


def test_what_is_written_outside_is_found(library: ctypes.CDLL) -> None:
    call = Call(library, (1, 8, 4, 4), 2, "float32")
    size = 8 * 4 * 4 * 4
    for byte in (0, size - 1):
        library.write_astray(byte)
        assert call.run() == 0
    for byte in (-256, -1, size, size + 255):
        library.write_astray(byte)
        assert call.run() == ILLEGAL_ADDRESS, byte


def test_bad_parameters_are_refused(library: ctypes.CDLL) -> None:
    """Before anything is copied: the buffers are those of the good ones."""
    test_shift_mix_phases.test_bad_parameters_are_refused(library)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bi_wkv", "shift_mix"])
def test_the_functions_for_a_device_compile(name: str, nvcc: str, tmp_path: Path) -> None:
    command = [nvcc, "-std=c++17", "-arch=sm_87", "-shared", "-Xcompiler", "-fPIC", "-o"]
    command += [str(tmp_path / "library.so"), str(SOURCES / name / f"{name}_kernel.cu")]
    subprocess.run([*command, str(HERE / f"{name}_gpu.cu")], check=True)
