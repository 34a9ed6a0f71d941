"""Fixtures that several rooms share: golden cases, tiny data sets, a small trained-like model."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from rwkv_edge.compiler import find_tool
from rwkv_edge.errors import BackendError
from rwkv_edge.runtime import plugin as plugins
from rwkv_edge.runtime.backend import TENSORRT_RTX, Backend, is_installed, load_backend
from rwkv_edge.runtime.plugin import Plugin
from tests.loopback import Loopback, serve

GOLDEN = Path(__file__).parent / "golden"


def has_cuda_gpu() -> bool:
    """Ask the driver itself: a Jetson may have a GPU, but a Torch that knows none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 < count.value


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` loudly where there is no CUDA GPU."""
    marked = [item for item in items if item.get_closest_marker("gpu")]  # not a folder's name
    if marked and not has_cuda_gpu():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU, and there is none here"))


@pytest.fixture
def torch_gpu() -> None:
    """Skip where there is a CUDA GPU, but not for this Torch: one for the CPU, on a Jetson."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip(f"needs a Torch that sees the CUDA GPU, and {torch.__version__} sees none")


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """An HTTP server on this machine, which no proxy of the environment is asked for."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as served:
        yield served


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def fill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fill", GOLDEN / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_pairs(folder: Path, count: int, size: tuple[int, int] = (48, 48), seed: int = 0) -> Path:
    """Write pictures with one bright disc each, and its mask: learnable in a few steps."""
    rng = np.random.default_rng(seed)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image = rng.normal(70, 12, (*size, 3)).clip(0, 255).astype(np.uint8)
        mask = np.zeros(size, np.uint8)
        radius = int(rng.integers(6, 12))
        centre = tuple(int(rng.integers(radius, side - radius)) for side in size[::-1])
        cv2.circle(mask, centre, radius, 255, -1)
        image[mask > 0] = image[mask > 0] // 2 + 110
        cv2.imwrite(str(folder / "images" / f"{index}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"{index}.png"), mask)
    return folder


@pytest.fixture(scope="session")
def disc_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of discs: 12 for training, 4 for validation."""
    folder = tmp_path_factory.mktemp("discs")
    write_pairs(folder / "train", 12, seed=0)
    write_pairs(folder / "validation", 4, seed=1)
    return folder


@pytest.fixture(scope="session")
def compiled_plugin(tmp_path_factory: pytest.TempPathFactory) -> Plugin:
    """The TensorRT plugin, compiled for compute capability 8.6."""
    for tool in ("nvcc", "cmake", "c++"):
        if find_tool(tool) is None:
            pytest.skip(f"no {tool} on this machine: the TensorRT plugin is not compiled")
    folder = tmp_path_factory.mktemp("plugin")
    try:
        return plugins.build_plugin(folder, ["86"])
    except BackendError as error:
        if "headers were not found" not in str(error):
            raise
    try:
        headers = plugins.fetch_headers(tmp_path_factory.mktemp("tensorrt-headers"))
    except BackendError as error:
        pytest.skip(f"no TensorRT headers, and none to be had: {error}")
    return plugins.build_plugin(folder, ["86"], headers)


@pytest.fixture(scope="session")
def tensorrt_rtx() -> Backend:
    if not is_installed(TENSORRT_RTX):
        pytest.skip("tensorrt-rtx is not installed: no engine is built (pip install tensorrt-rtx)")
    return load_backend(TENSORRT_RTX)


@pytest.fixture(scope="session")
def on_a_standin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Run a file of tests in a process whose CUDA driver and TensorRT are those of tests/standin.

    A process of its own, because a driver that was loaded once stays.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: the stand-in CUDA driver is not built, no engine is run")
    if not importlib.util.find_spec("cuda") or not importlib.util.find_spec("cuda.bindings"):
        pytest.skip("no cuda-python: no engine is run on the stand-in (pip install cuda-python)")
    here = Path(__file__).parent
    folder = tmp_path_factory.mktemp("driver")
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    library = ["-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1")]
    subprocess.run([compiler, *flags, *library, str(here / "standin" / "libcuda.c")], check=True)
    paths = [str(here.parent), str(here / "standin" / "modules"), os.environ.get("PYTHONPATH", "")]

    def run(name: str) -> None:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(folder),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        done = subprocess.run(
            [*command, str(here / "standin" / name)],
            env=environment,
            cwd=here.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        print(done.stdout, done.stderr)
        assert done.returncode == 0, f"tests/standin/{name} failed, see above"
        assert "skipped" not in done.stdout.splitlines()[-1]

    return run
