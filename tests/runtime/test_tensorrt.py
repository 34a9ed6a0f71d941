from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rwkv_edge.cli.engine import Request, make_engine
from rwkv_edge.data.synth import render_image
from rwkv_edge.errors import BackendError
from rwkv_edge.runtime.backend import (
    TENSORRT,
    TENSORRT_RTX,
    Backend,
    is_installed,
    load_backend,
)
from rwkv_edge.runtime.build import Batch, Target
from rwkv_edge.runtime.machine import find_gpu
from rwkv_edge.runtime.manifest import read_manifest, write_manifest
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner
from rwkv_edge.runtime.tensorrt import TensorRTRunner
from rwkv_edge.weights import shipped_onnx
from tests.conftest import has_cuda_gpu


def test_on_a_standin(on_a_standin: Callable[[str], None]) -> None:
    on_a_standin("cases_tensorrt.py")


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    return Request(
        source=shipped_onnx("tiny"),
        engine=tmp_path / "tiny.engine",
        precision="fp32",
        batch=Batch(),
        backend=Backend("none", pytest, "0"),
        gpu=find_gpu(),
        target=Target(),
        calib=None,
        max_dice_drop=0.005,
        command=("rwkv-edge", "build"),
        use_plugin=False,
    )


def test_a_real_engine_without_a_gpu(request_: Request, tensorrt_rtx: Backend) -> None:
    if has_cuda_gpu():
        pytest.skip("this machine has a GPU")
    ahead = Target(compute_capability="8.6")
    make_engine(replace(request_, backend=tensorrt_rtx, target=ahead))
    with pytest.raises(BackendError, match="needs a CUDA GPU, and there is none here"):
        TensorRTRunner(request_.engine)
    assert read_manifest(request_.engine).gate is None


def test_no_tensorrt(request_: Request, tensorrt_rtx: Backend) -> None:
    if is_installed(TENSORRT):
        pytest.skip("this machine has TensorRT")
    ahead = Target(compute_capability="8.6")
    make_engine(replace(request_, backend=tensorrt_rtx, target=ahead))
    manifest = replace(read_manifest(request_.engine), backend="tensorrt")
    write_manifest(request_.engine, manifest)
    with pytest.raises(BackendError, match=r"tensorrt cannot be used here .*JetPack") as caught:
        TensorRTRunner(request_.engine)
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.parametrize("name", [TENSORRT, TENSORRT_RTX])
def test_engines_on_the_gpu(
    name: str, request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two in one process, with the plugin and without, as ONNX Runtime computes."""
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")
    image = np.stack([render_image(seed, (256, 256)).image for seed in range(3)])
    expected = OnnxRuntimeRunner(shipped_onnx("tiny"))(image)
    wide = replace(request_, backend=load_backend(name))
    half = replace(
        wide,
        engine=tmp_path / "half.engine",
        precision="fp16",
        batch=Batch(1, 2, 4),
        use_plugin=True,
    )
    make_engine(wide)
    make_engine(half)  # compiles the plugin into the cache, where that was not done before
    from rwkv_edge.cli.engine_cache import open_engine

    with open_engine(wide.engine) as one, open_engine(half.engine) as other:
        assert one.backend.endswith(", CUDA graph)"), one.backend
        assert other.backend.endswith(", no CUDA graph: the batch may change)"), other.backend
        for _ in range(3):
            np.testing.assert_allclose(one(image), expected, atol=1e-2)
            np.testing.assert_allclose(other(image), expected, atol=0.1)
    gate = read_manifest(half.engine).gate
    assert gate is not None
    assert gate["ran"].startswith("the engine, ")
    assert gate["dice"] > 0.99
