"""The kernels compile without spills; the TensorRT plugins compile, export, behave, build."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KERNELS = {"bi_wkv": (20, 80), "shift_mix": (11, 48)}
"""The least number of kernels in each, and the most registers: more, and fewer blocks fit an SM."""


@pytest.mark.parametrize("architecture", ["sm_87", "sm_110"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_no_spills(nvcc: str, tmp_path: Path, kernel: str, architecture: str) -> None:
    supported = subprocess.run(
        [nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True
    )
    if architecture not in supported.stdout.split():
        pytest.skip(f"this nvcc does not know {architecture}")
    source = ROOT / "plugins" / kernel / f"{kernel}_kernel.cu"
    command = [nvcc, "-std=c++17", "-O3", f"-arch={architecture}", "-cubin", "-Xptxas=-v"]
    command += ["-o", str(tmp_path / "out.cubin"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill", done.stderr)
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", done.stderr)]
    count, most = KERNELS[kernel]
    assert len(registers) > count, "not all kernels were compiled"
    assert set(spills) == {("0", "0")}
    assert max(registers) <= most


@pytest.fixture(scope="module")
def plugin(
    nvcc: str, gxx: str, tensorrt_headers: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The library as CMake builds it, warnings being errors."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("no cmake on this machine: the plugin is not compiled")
    build = tmp_path_factory.mktemp("plugin-build")
    options = [f"-DTENSORRT_ROOT={tensorrt_headers}", "-DCMAKE_CUDA_ARCHITECTURES=86"]
    for step in (
        [cmake, "-S", str(ROOT / "plugins"), "-B", str(build), *options],
        [cmake, "--build", str(build)],
    ):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "librwkv_edge_plugin.so"


def test_exports_what_tensorrt_looks_for(plugin: Path) -> None:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm on this machine")
    command = [nm, "-D", "--defined-only", str(plugin)]
    symbols = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert {line.split()[-1] for line in symbols.splitlines()} == {"getCreators", "setLoggerFinder"}


def test_needs_no_tensorrt_library(plugin: Path) -> None:
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("no readelf on this machine")
    command = [readelf, "-d", str(plugin)]
    needed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "nvinfer" not in needed
    assert "cuda" not in needed


def test_contract(
    plugin: Path, gxx: str, tensorrt_headers: Path, cuda_headers: Path, tmp_path: Path
) -> None:
    program = tmp_path / "plugin_contract"
    command = [gxx, "-std=c++17", "-isystem", str(tensorrt_headers), "-isystem", str(cuda_headers)]
    command += ["-o", str(program), str(HERE / "plugin_contract.cpp"), "-ldl"]
    subprocess.run(command, check=True)
    done = subprocess.run([program, plugin], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("dtype", "name"), [("float32", "FLOAT"), ("float16", "HALF"), ("bfloat16", "BF16")]
)
@pytest.mark.parametrize(
    ("operator", "shapes"),
    [
        ("BiWKV", [[-1, -1, 288]]),
        ("ShiftMix2", [[-1, -1, -1, 288]] * 2),
        ("ShiftMix3", [[-1, -1, -1, 288]] * 3),
    ],
)
def test_tensorrt_rtx_builds_with_the_plugin(
    plugin: Path, tmp_path: Path, operator: str, shapes: list[list[int]], dtype: str, name: str
) -> None:
    for package in ("tensorrt_rtx", "tensorrt_rtx_libs", "onnx"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(
                f"no {package} here: pip install tensorrt-rtx onnx, then the plugin is built"
            )
    libraries = importlib.util.find_spec("tensorrt_rtx_libs")
    assert libraries is not None
    assert libraries.origin is not None
    # The parser opens libtensorrt_rtx.so, but the wheel has only libtensorrt_rtx.so.1.
    target = Path(libraries.origin).with_name("libtensorrt_rtx.so.1")
    (tmp_path / "libtensorrt_rtx.so").symlink_to(target)
    done = subprocess.run(
        [sys.executable, str(HERE / "tensorrt_rtx_build.py"), str(plugin), operator, dtype],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["plugins"] == 1
    assert report["outputs"] == [[name, shape] for shape in shapes]
    assert report["bytes"] > 0
