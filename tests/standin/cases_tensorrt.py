"""`TensorRTRunner` on the stand-in TensorRT; run by tests/runtime/test_tensorrt.py."""

from __future__ import annotations

import gc
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import tensorrt

from rwkv_edge.cli import main
from rwkv_edge.errors import BackendError
from rwkv_edge.runtime import backend as backends
from rwkv_edge.runtime.manifest import manifest_path, read_manifest, write_manifest
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner
from rwkv_edge.runtime.plugin import LIBRARY
from rwkv_edge.runtime.tensorrt import TensorRTRunner
from tests.cli.test_run import SIDE, save_model, square
from tests.standin.conftest import Standin

LAUNCH_FAILED = 719


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(backends, "_loaded", {})
    tensorrt.get_plugin_registry().loaded.clear()
    tensorrt.released.clear()


def build(folder: Path, batch: str = "1") -> Path:
    """Build by the command itself, whose gate runs the engine, too."""
    model, engine = save_model(folder / "brightness.onnx"), folder / "brightness.engine"
    calib = folder / "calib"
    calib.mkdir()
    cv2.imwrite(str(calib / "0.png"), square(0))
    words = ["--onnx", str(model), "--output", str(engine), "--backend", "tensorrt"]
    words += ["--calib", str(calib)]
    with pytest.raises(SystemExit) as caught:
        main(["build", *words, "--batch", batch])
    assert caught.value.code == 0
    return engine


@pytest.fixture
def engine(tmp_path: Path, driver: Standin) -> Path:
    path = build(tmp_path)
    tensorrt.released.clear()
    return path


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def expected(engine: Path, image: np.ndarray) -> np.ndarray:
    return OnnxRuntimeRunner(engine.with_suffix(".onnx"))(image)


def change(engine: Path, **values: Any) -> None:
    """Change the manifest as a build would have written it."""
    write_manifest(engine, replace(read_manifest(engine), **values))


@pytest.mark.parametrize("count", [1, 3])
def test_it_runs_the_model(count: int, engine: Path) -> None:
    image = pictures(count)
    with TensorRTRunner(engine) as runner:
        assert runner.backend == "tensorrt 10.3.0 on Stand-in 0 (fp32, CUDA graph)"
        assert runner.info.input_size == (SIDE, SIDE)
        assert runner.info.source == str(engine)
        first = runner(image)
        kept = first.copy()
        runner(pictures(count, seed=1))
        np.testing.assert_array_equal(first, kept)  # not a view of what the next call overwrites
        np.testing.assert_allclose(first, expected(engine, image), atol=1e-6)
        assert runner(image[:0]).shape == (0, 1, SIDE, SIDE)


def test_a_frame_takes_no_memory_and_waits_once(engine: Path, driver: Standin) -> None:
    with TensorRTRunner(engine) as runner:
        memory = ("cuMemAlloc", "cuMemHostAlloc", "cuStreamCreate", "cuGraphInstantiate")
        before = driver.calls(*memory)
        waits, launches = driver.calls("cuStreamSynchronize"), driver.calls("cuGraphLaunch")
        runner(pictures(5))
        assert driver.calls(*memory) == before
        assert driver.calls("cuStreamSynchronize") == waits + 5
        assert driver.calls("cuGraphLaunch") == launches + 5


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_a_range_of_batches(count: int, tmp_path: Path, driver: Standin) -> None:
    engine = build(tmp_path, batch="2,3,4")
    image = pictures(count)
    with TensorRTRunner(engine) as runner:
        assert "no CUDA graph: the batch may change" in runner.backend
        waits = driver.calls("cuStreamSynchronize")
        np.testing.assert_allclose(runner(image), expected(engine, image), atol=1e-6)
        assert driver.calls("cuStreamSynchronize") == waits + -(-count // 4)


def test_a_fixed_batch(tmp_path: Path, driver: Standin) -> None:
    engine = build(tmp_path, batch="4")
    with TensorRTRunner(engine) as runner:
        for count in (6, 1):  # what is left of an earlier call is not seen
            image = pictures(count, seed=count)
            np.testing.assert_allclose(runner(image), expected(engine, image), atol=1e-6)


@pytest.mark.parametrize("at", ["TensorRT", "cuStreamEndCapture"])
def test_what_cannot_be_captured_runs_without(
    at: str, engine: Path, driver: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    if at == "TensorRT":
        monkeypatch.setenv("STANDIN_REFUSES", "capture")
    else:
        driver.fail(at, 900)
    with TensorRTRunner(engine) as runner:
        assert "(fp32, no CUDA graph: " in runner.backend
        image = pictures(2)
        np.testing.assert_allclose(runner(image), expected(engine, image), atol=1e-6)


def test_the_order_of_release(engine: Path) -> None:
    runner = TensorRTRunner(engine)
    runner.close()
    runner.close()
    assert tensorrt.released == ["context", "engine", "runtime"]
    with pytest.raises(BackendError, match="closed before"):
        runner(pictures(1))


def test_two_engines_in_one_process(tmp_path: Path, driver: Standin) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    engines = [build(folders[0]), build(folders[1], batch="1,2,2")]
    image = pictures(3)
    with TensorRTRunner(engines[1]) as other:
        with TensorRTRunner(engines[0]) as one:
            for _ in range(2):
                np.testing.assert_array_equal(one(image), other(image))
        np.testing.assert_allclose(other(image), expected(engines[1], image), atol=1e-6)


@pytest.mark.parametrize(
    ("what", "message", "released"),
    [
        ("runtime", "tensorrt 10.3.0 does not start", []),
        (
            "deserialize",
            "cannot load it .*magicTag.*build it again: rwkv-edge build --onnx",
            ["runtime"],
        ),
        (
            "context",
            "the engine needs 64 MiB, .* MiB are free; .* lower --imgsz or --batch",
            ["engine", "runtime"],
        ),
        (
            "execute",
            "inference: tensorrt 10.3.0 failed: .*stand-in refuses",
            ["context", "engine", "runtime"],
        ),
    ],
)
def test_what_tensorrt_refuses(
    what: str,
    message: str,
    released: list[str],
    engine: Path,
    driver: Standin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STANDIN_REFUSES", what)
    refused(engine, message)
    assert driver.alive == 0
    gc.collect()  # what the traceback kept would be released here, without a GPU
    assert tensorrt.released == released


def test_an_error_that_is_kept_keeps_nothing_of_tensorrt(
    tmp_path: Path, driver: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = TensorRTRunner(build(tmp_path, batch="1,2,2"))
    tensorrt.released.clear()
    monkeypatch.setenv("STANDIN_REFUSES", "execute")
    with pytest.raises(BackendError, match="stand-in refuses") as caught:
        runner(pictures(1))
    runner.close()
    assert caught.tb is not None
    assert tensorrt.released == ["context", "engine", "runtime"]


def refused(engine: Path, message: str, *plugins: Path) -> None:
    with pytest.raises(BackendError, match=message) as caught:
        TensorRTRunner(engine, plugins)
    assert "\n" not in str(caught.value)


def not_loaded(engine: Path, message: str, *plugins: Path) -> None:
    """Refused before a byte of it came near TensorRT."""
    refused(engine, message, *plugins)
    assert tensorrt.released == []


def test_changed_files(engine: Path) -> None:
    whole = engine.read_bytes()
    engine.write_bytes(whole[: len(whole) // 2])
    not_loaded(engine, "damaged or not the one that was built; build it again: rwkv-edge build")
    engine.write_bytes(b"")
    not_loaded(engine, "damaged")
    engine.write_bytes(whole)
    path = manifest_path(engine)
    text = path.read_text()
    path.write_text(json.dumps({**json.loads(text), "precision": "fp16"}))
    not_loaded(engine, "was changed after the engine was built")
    path.unlink()
    not_loaded(engine, "no readable manifest beside it")
    engine.unlink()
    not_loaded(engine, "no such file; rwkv-edge build makes engines")


def test_engines_of_elsewhere(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(engine)
    change(engine, gpu="Orin")
    not_loaded(engine, "built on Orin, here is Stand-in 0")
    change(engine, gpu=manifest.gpu, compute_capability="8.7")
    not_loaded(engine, "built for compute capability 8.7, Stand-in 0 has 8.6")
    write_manifest(engine, manifest)
    monkeypatch.setenv("STANDIN_MULTIPROCESSORS", "8")
    not_loaded(engine, "on Stand-in 0 with 16 multiprocessors, here it has 8: another module, or")
    monkeypatch.delenv("STANDIN_MULTIPROCESSORS")
    monkeypatch.setattr(tensorrt, "__version__", "10.16.1")
    not_loaded(engine, "built by tensorrt 10.3.0, here is tensorrt 10.16.1")
    monkeypatch.undo()
    monkeypatch.setenv("STANDIN_DEVICES", "0")
    not_loaded(engine, "needs a CUDA GPU, and there is none here")


def compiled(folder: Path, content: bytes) -> str:
    """Lay a library where a compiled plugin would be; return its hash."""
    folder.mkdir()
    (folder / LIBRARY).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    values = {"architectures": ["86"], "cuda": "", "headers": "", "sources": "", "sha256": sha256}
    (folder / LIBRARY).with_suffix(".json").write_text(json.dumps(values))
    return sha256


def test_the_plugin_that_the_manifest_names(engine: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    compiled(one, b"one")
    change(engine, plugin_sha256=compiled(two, b"two"), plugin_version="1")
    not_loaded(engine, "needs our plugin, which is not built here", tmp_path / "none")
    not_loaded(engine, "another build of our plugin", one)
    with TensorRTRunner(engine, [one, two]) as runner:
        assert "our plugin" in runner.backend
    assert tensorrt.get_plugin_registry().loaded == [str(two / LIBRARY)]
    change(engine, plugin_sha256=hashlib.sha256(b"one").hexdigest())
    refused(engine, "loaded another build of the plugin, .* start the program again", one)


def test_an_engine_that_is_not_ours(engine: Path, tmp_path: Path) -> None:
    head, _, _ = engine.read_bytes().partition(b"\x08")
    model = onnx.load(engine.with_suffix(".onnx"))
    for name in ("image", "probability"):
        other = onnx.ModelProto()
        other.CopyFrom(model)
        values = [v for v in (*other.graph.input, *other.graph.output) if v.name == name]
        values[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
        rewrite(engine, head, other)
    other.CopyFrom(model)
    other.graph.output[0].name = "logits"
    rewrite(engine, head, other)
    other.CopyFrom(model)
    other.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2  # the manifest names one
    rewrite(engine, head, other)


def rewrite(engine: Path, head: bytes, model: onnx.ModelProto) -> None:
    engine.write_bytes(head + model.SerializeToString())
    change(engine, engine_sha256=hashlib.sha256(engine.read_bytes()).hexdigest())
    refused(engine, "not an engine of rwkv-edge build")


def test_too_little_memory(engine: Path, driver: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_MEMORY", "1000")
    refused(engine, "a buffer needs 1 MiB, 0 MiB of 0 MiB are free; close other programs")


def test_a_lost_gpu(engine: Path, driver: Standin) -> None:
    """The last: what a lost GPU held is not to be had back in this process."""
    runner = TensorRTRunner(engine)
    driver.fail("cuGraphLaunch", LAUNCH_FAILED)
    for _ in range(2):
        with pytest.raises(BackendError, match="the GPU stopped answering"):
            runner(pictures(1))
    runner.close()
    assert [name.split()[0] for name in tensorrt.released] == ["context", "engine", "runtime"]
    driver.forget()
