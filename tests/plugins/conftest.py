"""What the plugin's tests need of the machine: compilers, headers, a GPU."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "plugins"
HERE = Path(__file__).parent


def _tool(name: str, purpose: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} on this machine: {purpose}")
    return path


@pytest.fixture(scope="session")
def nvcc() -> str:
    return _tool("nvcc", "the CUDA kernels are not compiled")


@pytest.fixture(scope="session")
def gxx() -> str:
    return _tool("g++", "the kernels' phases are not run on the CPU, the plugin is not compiled")


@pytest.fixture(scope="session")
def cuda_headers() -> Path:
    roots = [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    compiler = shutil.which("nvcc")
    if compiler:
        roots.append(str(Path(compiler).resolve().parents[1]))
    for root in filter(None, roots):
        if (Path(root) / "include" / "cuda_fp16.h").exists():
            return Path(root) / "include"
    pytest.skip("no CUDA headers (cuda_fp16.h): neither phases nor plugin are compiled")


@pytest.fixture(scope="session")
def tensorrt_headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = Path(os.environ.get("TENSORRT_ROOT", "/usr"))
    places = [root, root / "include", ROOT / "build" / "tensorrt-headers"]
    places += [root / "include" / f"{machine}-linux-gnu" for machine in ("aarch64", "x86_64")]
    for place in places:
        if (place / "NvInferRuntime.h").exists():
            return place
    folder = tmp_path_factory.mktemp("tensorrt-headers")
    fetch = [sys.executable, str(ROOT / "tools" / "fetch_tensorrt_headers.py"), str(folder)]
    done = subprocess.run(fetch, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no TensorRT headers and none to be had: {done.stderr.strip()[-200:]}")
    return folder


def _declare(path: Path) -> ctypes.CDLL:
    """Load a library of bi_wkv_cpu.cpp or bi_wkv_gpu.cu and say what its functions take."""
    library = ctypes.CDLL(str(path))
    for function in (library.wkv_forward_workspace, library.wkv_backward_workspace):
        function.restype = ctypes.c_size_t
        function.argtypes = [ctypes.c_int64] * 3
    library.wkv_params_bytes.restype = ctypes.c_size_t
    return library


def _declare_shift_mix(path: Path) -> ctypes.CDLL:
    """The same for shift_mix_cpu.cpp and shift_mix_gpu.cu."""
    library = ctypes.CDLL(str(path))
    library.shift_mix_params_bytes.restype = ctypes.c_size_t
    return library


@pytest.fixture(scope="session")
def build_for_cpu(
    gxx: str, cuda_headers: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Compile the phases of a kernel with g++."""

    def build(name: str) -> Path:
        path = tmp_path_factory.mktemp(name) / f"lib{name}_cpu.so"
        command = [gxx, "-std=c++17", "-O2", "-march=native", "-Wall", "-Wextra", "-Werror"]
        command += ["-shared", "-fPIC", "-isystem", str(cuda_headers)]
        command += ["-Wl,-Bsymbolic"]  # its own functions, whatever Torch may have loaded
        subprocess.run([*command, "-o", str(path), str(HERE / f"{name}_cpu.cpp")], check=True)
        return path

    return build


@pytest.fixture(scope="session")
def build_for_gpu(nvcc: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Compile a kernel for the GPU here, with functions that run it plainly and as a graph."""
    smi = shutil.which("nvidia-smi")
    found = smi and subprocess.run([smi, "-L"], capture_output=True, check=False).returncode == 0
    if not found and not Path("/dev/nvhost-gpu").exists():  # a Jetson's older drivers have no -L
        pytest.skip("no CUDA GPU: the kernels are not run on a device")

    def build(name: str) -> Path:
        path = tmp_path_factory.mktemp(name) / f"lib{name}_gpu.so"
        command = [nvcc, "-std=c++17", "-O3", "-arch=native", "-lineinfo", "-shared"]
        command += ["-Xcompiler", "-fPIC", "-o", str(path)]
        command += [str(SOURCES / name / f"{name}_kernel.cu"), str(HERE / f"{name}_gpu.cu")]
        subprocess.run(command, check=True)
        return path

    return build


@pytest.fixture(scope="session")
def cpu_library(build_for_cpu: Callable[[str], Path]) -> ctypes.CDLL:
    return _declare(build_for_cpu("bi_wkv"))


@pytest.fixture(scope="session")
def gpu_library(build_for_gpu: Callable[[str], Path]) -> ctypes.CDLL:
    return _declare(build_for_gpu("bi_wkv"))


@pytest.fixture(scope="session")
def shift_mix_cpu_library(build_for_cpu: Callable[[str], Path]) -> ctypes.CDLL:
    return _declare_shift_mix(build_for_cpu("shift_mix"))


@pytest.fixture(scope="session")
def shift_mix_gpu_library(build_for_gpu: Callable[[str], Path]) -> ctypes.CDLL:
    return _declare_shift_mix(build_for_gpu("shift_mix"))
